"""Ordered keys: of one key one message at a time and in order; fairness."""

import time


def test_one_at_a_time(c):
    c.create()
    c.pub("q", ("a", "a1"), ("a", "a2"), ("b", "b1"), ("", "free"), ("b", "b2"), fields="key,body")
    got = c.lease("q", 10)
    assert [m["body"] for m in got] == ["a1", "b1", "free"]
    assert c.group()["blocked"] == 2 and c.group()["leased"] == 3 and c.group()["lag"] == 5
    c.ok("ack", got[0]["receipt"])
    assert [m["body"] for m in c.lease("q", 10)] == ["a2"]


def test_a_retry_holds_its_key_only(c):
    c.create()
    c.pub("q", ("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2"), fields="key,body")
    a1 = c.lease("q")[0]
    c.ok("nack", a1["receipt"], "--delay", "4s")
    assert c.bodies("q", 2) == ["b1", "b2"]
    c.empty("q")
    assert [(m["body"], m["attempt"]) for m in c.take("q", 2)] == [("a1", 2), ("a2", 1)]


def test_through_kill(c):
    c.create()
    c.pub("q", *[("k", i) for i in range(5)], fields="key,body")
    assert [m["body"] for m in c.lease("q", 5)] == ["0"]
    c.broker.restart()
    assert [m["body"] for m in c.lease("q", 5, "--lease", "200ms")] == ["0"]
    assert c.bodies("q", 5) == list("01234")


def test_groups_are_apart(c):
    c.create()
    c.ok("group", "create", "q", "other")
    c.pub("q", ("k", "1"), ("k", "2"), fields="key,body")
    assert len(c.lease("q", 5)) == 1 and len(c.lease("q", 5, "-g", "other")) == 1


def test_a_dead_letter_frees_its_key(c):
    c.create(max_attempts=1)
    c.pub("q", ("k", "bad"), ("k", "good"), fields="key,body")
    c.ok("nack", c.lease("q")[0]["receipt"])
    assert c.bodies("q") == ["good"] and [m["body"] for m in c.dead("q")] == ["bad"]


def test_a_blocked_key_with_a_long_backlog(c):
    c.create()
    c.pub("q", *[("slow", i) for i in range(50000)], *[(f"k{i}", f"other {i}") for i in range(100)], fields="key,body")
    held = c.lease("q", 1, "--lease", "1min")[0]
    assert held["body"] == "0"
    begin = time.monotonic()
    assert c.bodies("q", 100) == [f"other {i}" for i in range(100)]
    assert time.monotonic() - begin < 20
    c.ok("ack", held["receipt"])
    assert c.bodies("q", 50) == [str(i) for i in range(1, 51)]


def test_order_with_several_consumers(c):
    c.create()
    c.pub("q", *[(f"k{i % 7}", i) for i in range(700)], fields="key,body")
    seen = []
    with c.follow("q") as a, c.follow("q") as b:
        for _ in range(700):
            c.until(lambda: a.count() or b.count(), "a message")
            seen.append((a if a.count() else b).next())
    for key in range(7):
        mine = [m for m in sorted(seen, key=lambda m: m["came"]) if m["key"] == f"k{key}"]
        assert len(mine) == 100 and len({m["seq"] for m in mine}) == 100


def test_off(c):
    c.create(ordered_keys="no")
    c.pub("q", ("a", "1"), ("a", "2"), ("a", "3"), fields="key,body")
    assert len(c.lease("q", 10)) == 3
    c.ok("queue", "alter", "q", "--ordered-keys", "yes")
    c.pub("q", ("b", "4"), ("b", "5"), fields="key,body")
    assert [m["body"] for m in c.lease("q", 10)] == ["4"]


def test_fair(c):
    """A tenant with a long backlog does not hold up another one."""
    c.create(fair_keys="yes", ordered_keys="no")
    c.pub("q", *[("big", f"big {i}") for i in range(2000)], *[("small", f"small {i}") for i in range(3)], fields="key,body")
    first = [m["key"] for m in c.take("q", 10)]
    assert first.count("small") == 3, first


def test_fair_and_ordered(c):
    c.create(fair_keys="yes")
    c.pub("q", *[("big", f"big {i}") for i in range(200)], *[("small", f"small {i}") for i in range(3)], fields="key,body")
    got = c.bodies("q", 8)
    assert got.index("small 0") < 3 and [b for b in got if b.startswith("big")] == [f"big {i}" for i in range(8 - len([b for b in got if b.startswith("small")]))]
