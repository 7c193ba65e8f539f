"""Dead letters: moved by the broker with reasons, looked at, sent back."""

from commands import OK


def kill(c, name="q", words=()):
    """Nack what is there until nothing is."""
    for _ in range(20):
        got = c.lease(name, 64, *words)
        if not got:
            return
        c.ok("nack", *[m["receipt"] for m in got])
    raise AssertionError("it comes again and again")


def test_after_the_last_attempt(c):
    c.create(max_attempts=2)
    c.ok("pub", "q", "broken", "-k", "customer-7", "-H", "type:order", "--topic", "orders.eu")
    kill(c)
    (m,) = c.dead("q")
    assert m["body"] == "broken" and m["key"] == "customer-7" and m["topic"] == "orders.eu"
    headers = m["headers"]
    assert headers["type"] == "order"
    assert headers["dead-reason"] == "max_attempts" and headers["dead-queue"] == "q" and headers["dead-group"] == "default"
    assert headers["dead-seq"] == "1" and headers["dead-attempts"] == "2"
    assert int(headers["dead-published-ms"]) <= int(headers["dead-time-ms"])
    assert c.describe("q")["messages"] == 0 and c.describe("q")["dead_lettered"] == 1
    assert c.describe("q.dead")["messages"] == 1
    said = c.ok("dead", "list", "q")
    assert "max_attempts" in said and "broken" in said and "attempts 2" in said
    c.broker.restart()
    assert len(c.dead("q")) == 1 and c.describe("q")["messages"] == 0, "in one place, and one only"


def test_rejected(c):
    c.create()
    c.pub("q", "a", "b", "c")
    c.take("q", 1, ack="reject")
    c.ok("reject", c.lease("q")[0]["receipt"])
    assert [(m["body"], m["headers"]["dead-reason"], m["headers"]["dead-attempts"]) for m in c.dead("q")] == [
        ("a", "rejected", "1"),
        ("b", "rejected", "1"),
    ]
    assert c.bodies("q") == ["c"]


def test_a_lease_that_ran_out_counts(c):
    c.create(max_attempts=1, lease="200ms")
    c.pub("q", "a")
    assert c.lease("q")[0]["attempt"] == 1
    c.until(lambda: c.dead("q"), "the dead letter")
    assert c.dead("q")[0]["headers"]["dead-reason"] == "max_attempts"
    assert c.describe("q")["messages"] == 0


def test_no_limit_no_dead_letters(c):
    c.create()
    c.pub("q", "a")
    for _ in range(5):
        c.ok("nack", c.lease("q")[0]["receipt"])
    assert c.dead("q") == [] and c.lease("q")[0]["attempt"] == 6


def test_of_one_group_only(c):
    c.create(max_attempts=1)
    c.ok("group", "create", "q", "other")
    c.pub("q", "a")
    kill(c)
    assert [m["headers"]["dead-group"] for m in c.dead("q")] == ["default"]
    assert c.bodies("q", 1, "-g", "other") == ["a"], "the other group has its own count"


def test_another_queue_shared(c):
    for name in ("a", "b"):
        c.create(name, max_attempts=1, dead_letter="graveyard")
        c.pub(name, f"of {name}")
        kill(c, name)
    assert [m["body"] for m in c.dead("a")] == ["of a"]
    assert [m["body"] for m in c.dead("b")] == ["of b"]
    assert [m["body"] for m in c.dead("graveyard", "--here")] == ["of a", "of b"]
    assert c.json("dead", "redrive", "a")["redriven"] == 1
    assert c.bodies("a") == ["of a"]
    assert [m["body"] for m in c.dead("graveyard", "--here")] == ["of b"]


def dead_queue(c, count=6):
    c.create(max_attempts=1)
    c.pub("q", *[("even" if i % 2 == 0 else "odd", i) for i in range(count)], fields="key,body")
    kill(c)
    assert len(c.dead("q")) == count


def test_redrive_one(c):
    dead_queue(c)
    assert c.json("dead", "redrive", "q", "--seq", c.dead("q")[2]["seq"])["redriven"] == 1
    (m,) = c.take("q")
    assert m["body"] == "2" and m["attempt"] == 1 and m["key"] == "even"
    assert not [h for h in m.get("headers", {}) if h.startswith("dead-")], "as it was"
    assert [d["body"] for d in c.dead("q")] == ["0", "1", "3", "4", "5"]


def test_redrive_by_filter_with_a_dry_run(c):
    dead_queue(c)
    dry = c.json("dead", "redrive", "q", "--key", "odd", "--dry-run")
    assert dry["redriven"] == 3 and dry["dry_run"] and len(c.dead("q")) == 6
    c.empty("q")
    assert c.json("dead", "redrive", "q", "--key", "odd")["redriven"] == 3
    assert sorted(c.bodies("q", 3)) == ["1", "3", "5"]
    assert [d["body"] for d in c.dead("q")] == ["0", "2", "4"]
    assert c.json("dead", "redrive", "q", "-H", "dead-reason=rejected")["redriven"] == 0


def test_redrive_all_and_through_kill(c):
    dead_queue(c)
    assert c.json("dead", "redrive", "q.dead")["redriven"] == 6
    c.broker.restart()
    assert c.dead("q") == [] and sorted(c.bodies("q", 6)) == list("012345")


def test_redrive_to_another_queue(c):
    dead_queue(c)
    c.create("repair")
    assert c.json("dead", "redrive", "q", "--to", "repair")["redriven"] == 6
    assert sorted(c.bodies("repair", 6)) == list("012345") and c.dead("q") == []
    c.empty("q")


def test_none_yet(c):
    c.create()
    assert c.dead("q") == []
    c.refused("MESSAGE_NOT_FOUND", "dead", "redrive", "q")
    c.refused("QUEUE_NOT_FOUND", "dead", "list", "nobody")


def test_many(c):
    c.create(max_attempts=1)
    c.pub("q", *range(3000))
    c.run(OK, "sub", "q", "-n", "3000", "--ack", "nack", "--timeout", "30s")
    c.until(lambda: c.describe("q.dead")["messages"] == 3000, "all of them dead")
    assert c.describe("q")["messages"] == 0
    assert c.json("dead", "redrive", "q")["redriven"] == 3000
    assert sorted(map(int, c.bodies("q", 3000))) == list(range(3000))
