"""Topics: bindings, one publish to many queues, all or none."""

import pytest


def publish(c, topic, body="x", *words):
    return c.json("pub", "--topic", topic, body, *words)


def test_to_every_bound_queue(c):
    for name in ("a", "b", "other"):
        c.create(name)
    c.ok("bind", "a", "orders.>")
    c.ok("bind", "b", "orders.eu.*")
    c.ok("bind", "other", "bills.>")
    said = publish(c, "orders.eu.created", "hello", "-k", "k")
    assert said["copies"] == 2 and said["topic"] == "orders.eu.created"
    assert publish(c, "orders.us.created", "two")["copies"] == 1
    for m in c.take("a", 1) + c.take("b", 1):
        assert m["body"] == "hello" and m["topic"] == "orders.eu.created" and m["key"] == "k"
    assert c.bodies("a") == ["two"]
    c.empty("b")
    c.empty("other")
    assert "2 queues" in c.ok("pub", "--topic", "orders.eu.x", "m")


@pytest.mark.parametrize(
    "pattern,yes,no",
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "a.c"]),
        ("a.*", ["a.b", "a.c"], ["a", "a.b.c"]),
        ("*.b", ["a.b"], ["b", "x.b.c"]),
        ("a.>", ["a.b", "a.b.c"], ["a", "b.a"]),
        (">", ["a", "a.b.c"], []),
    ],
)
def test_patterns(c, pattern, yes, no):
    c.create()
    c.ok("bind", "q", pattern)
    for topic in yes:
        assert publish(c, topic)["copies"] == 1, topic
    for topic in no:
        c.refused("UNROUTABLE", "pub", "--topic", topic, "x")
    assert [m["topic"] for m in c.peek("q")] == yes


def test_twice_bound_once_delivered(c):
    c.create()
    for pattern in ("a.*", "a.>", "a.*"):
        c.ok("bind", "q", pattern)
    assert sorted(c.json("bindings", "q")) == ["a.*", "a.>"]
    assert publish(c, "a.b")["copies"] == 1 and c.describe()["messages"] == 1
    assert c.describe()["binding_count"] == 2


def test_unroutable(c):
    said = c.refused("UNROUTABLE", "pub", "--topic", "nobody.listens", "x")
    assert "broker bind" in said["hint"]
    assert publish(c, "nobody.listens", "x", "--unroutable-ok")["copies"] == 0
    c.create()
    c.ok("bind", "q", "a")
    c.ok("unbind", "q", "a")
    assert c.json("bindings", "q") == []
    c.refused("UNROUTABLE", "pub", "--topic", "a", "x")


def test_through_kill(c):
    for name in ("a", "b"):
        c.create(name)
        c.ok("bind", name, "t.>")
    publish(c, "t.1", "before")
    c.broker.restart()
    assert publish(c, "t.2", "after")["copies"] == 2
    assert c.bodies("a", 2) == ["before", "after"]
    c.broker.restart()
    assert c.bodies("b", 2) == ["before", "after"], "though the other queue has no need of them any more"
    c.ok("queue", "delete", "a", "--yes")
    assert publish(c, "t.3")["copies"] == 1


def test_all_or_none(c):
    c.create("roomy")
    c.create("full", max_messages=1)
    for name in ("roomy", "full"):
        c.ok("bind", name, "t")
    publish(c, "t", "1")
    c.refused("QUEUE_FULL", "pub", "--topic", "t", "2")
    assert [m["body"] for m in c.peek("roomy")] == ["1"], "none, if not all"
    assert c.bodies("full") == ["1"]
    publish(c, "t", "3")
    assert c.bodies("full") == ["3"] and c.bodies("roomy", 2) == ["1", "3"]


def test_many_from_lines(c):
    for i in range(3):
        c.create(f"q{i}")
        c.ok("bind", f"q{i}", f"t.{i}.>")
    lines = "".join(f"t.{i % 3}.x\t{i}\n" for i in range(3000))
    assert c.json("pub", "--fields", "topic,body", stdin=lines.encode())["copies"] == 3000
    for i in range(3):
        assert c.bodies(f"q{i}", 1000) == [str(n) for n in range(i, 3000, 3)]


def test_a_wrong_topic(c):
    c.create()
    for wrong in ("a..b", ".a", "a.", "a.*"):
        c.refused("INVALID_ARGUMENT", "pub", "--topic", wrong, "x")
    for wrong in ("a..b", "a.>.b"):
        c.refused("INVALID_ARGUMENT", "bind", "q", wrong)
