"""Priorities of messages and of consumers."""

import pytest


def test_strict(c):
    c.create()
    c.pub("q", *[(p, f"{p}{x}") for x in "ab" for p in (0, 5, 9, 1)], fields="priority,body")
    assert c.bodies("q", 8) == ["9a", "9b", "5a", "5b", "1a", "1b", "0a", "0b"]
    c.pub("q", "x", priority=7)
    assert c.take("q")[0]["priority"] == 7


def test_past_a_backlog(c):
    c.create()
    c.pub("q", *range(50000))
    c.pub("q", "urgent", priority=1)
    assert c.bodies("q", 3) == ["urgent", "0", "1"]


def test_in_every_group_and_through_kill(c):
    c.create()
    c.ok("group", "create", "q", "other")
    c.pub("q", ("0", "low"), ("9", "high"), fields="priority,body")
    assert c.bodies("q") == ["high"]
    c.broker.restart()
    assert c.bodies("q", 1) == ["low"] and c.bodies("q", 2, "-g", "other") == ["high", "low"]


def test_what_comes_back_keeps_its_place(c):
    c.create()
    c.pub("q", ("3", "a"), ("9", "b"), ("3", "c"), fields="priority,body")
    m = c.lease("q")[0]
    assert m["body"] == "b"
    c.ok("nack", m["receipt"])
    assert c.bodies("q", 3) == ["b", "a", "c"]


def test_range(c):
    c.create()
    for wrong in ("10", "-1", "high"):
        c.run(2, "pub", "q", "x", f"--priority={wrong}")


@pytest.mark.parametrize("first", ["low", "high"])
def test_consumers(c, first):
    """The consumer of higher priority gets all that it has room for; the other one the rest."""
    c.create()
    words = {"low": ["--priority", "0"], "high": ["--priority", "5", "--max-unsettled", "3"]}
    second = "high" if first == "low" else "low"
    with c.follow("q", "--ack", "none", *words[first]) as a:
        c.until(lambda: c.group()["consumers"] == 1, "the first consumer")
        with c.follow("q", "--ack", "none", *words[second]) as b:
            c.until(lambda: c.group()["consumers"] == 2, "the second consumer")
            high, low = (a, b) if first == "high" else (b, a)
            for i in range(5):
                c.pub("q", i)
            assert [high.next()["body"] for _ in range(3)] == ["0", "1", "2"]
            assert [low.next()["body"] for _ in range(2)] == ["3", "4"]
