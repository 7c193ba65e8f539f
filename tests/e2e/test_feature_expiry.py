"""Expiry of messages, and of queues that nobody uses."""

import time


def test_not_held_up_by_the_head(c):
    c.create()
    c.pub("q", ("", "stays"), ("300ms", "goes"), ("", "stays too"), fields="ttl,body")
    assert c.lease("q", 1)[0]["body"] == "stays", "the head is leased meanwhile"
    c.until(lambda: c.describe()["expired"] == 1, "the expiry")
    assert c.describe()["messages"] == 2
    assert [m["body"] for m in c.peek("q")] == ["stays", "stays too"]
    assert c.bodies("q") == ["stays too"]


def test_never_handed_out_late(c):
    c.create()
    c.pub("q", "a", ttl="300ms")
    gone = time.time() + 0.3
    c.until(lambda: time.time() > gone, "its end")
    c.empty("q")
    c.until(lambda: c.describe()["messages"] == 0, "its removal")
    assert c.dead("q") == [], "gone, and not to the dead letters"


def test_of_the_queue(c):
    c.create(ttl="500ms")
    c.pub("q", "a")
    c.pub("q", "b", ttl="1h")
    c.until(lambda: c.describe()["expired"] >= 1, "the expiry")
    assert "a" not in [m["body"] for m in c.peek("q")]
    c.ok("queue", "alter", "q", "--ttl", "0")
    c.pub("q", "c")
    assert "c" in [m["body"] for m in c.peek("q")] and c.describe()["ttl_ms"] == 0


def test_to_the_dead_letters(c):
    c.create(ttl="300ms", dead_letter_expired="yes")
    c.ok("group", "create", "q", "other")
    c.pub("q", "a")
    c.until(lambda: c.dead("q"), "the dead letter")
    (m,) = c.dead("q")
    assert m["body"] == "a" and m["headers"]["dead-reason"] == "expired" and m["headers"]["dead-queue"] == "q"
    assert "dead-group" not in m["headers"]
    assert c.describe("q")["messages"] == 0 and c.describe("q.dead")["messages"] == 1, "once, whatever the groups"
    c.broker.restart()
    assert len(c.dead("q")) == 1


def test_while_leased(c):
    """Who has it may still settle it; it does not come again."""
    c.create()
    c.pub("q", "a", "b", ttl="3s")
    a, b = c.lease("q", 2, "--lease", "1min")
    gone = time.time() + 3.1
    c.until(lambda: time.time() > gone, "its end")
    c.ok("ack", a["receipt"])
    c.ok("nack", b["receipt"])
    c.empty("q")
    c.until(lambda: c.describe()["messages"] == 0, "its removal")


def test_across_a_restart(c):
    c.create()
    c.pub("q", ("1s", "short"), ("1h", "long"), fields="ttl,body")
    c.broker.restart()
    c.until(lambda: [m["body"] for m in c.peek("q")] == ["long"], "the expiry after the restart")
    assert c.bodies("q") == ["long"]


def test_a_delayed_message_may_expire_first(c):
    c.create()
    c.ok("pub", "q", "never seen", "--delay", "1h", "--ttl", "300ms")
    c.until(lambda: c.describe()["messages"] == 0, "the expiry")
    assert c.describe()["scheduled"] == 0


def test_many(c):
    c.create()
    c.pub("q", *[("1500ms" if i % 2 else "", i) for i in range(10000)], fields="ttl,body")
    c.until(lambda: c.describe()["messages"] == 5000, "half of them gone")
    assert c.bodies("q", 5000) == [str(i) for i in range(0, 10000, 2)]


def test_unused_queues(c):
    c.create("brief", delete_unused="700ms")
    c.create("stays")
    c.until(lambda: c.broker.cli("queue", "describe", "brief", "--json").returncode != 0 or None, "its deletion")
    c.refused("QUEUE_NOT_FOUND", "queue", "describe", "brief")
    c.describe("stays")


def test_a_used_queue_stays(c):
    c.create("brief", delete_unused="1s")
    with c.follow("brief") as consumer:
        c.until(lambda: c.describe("brief")["consumers"] == 1, "the consumer")
        later = time.time() + 2
        c.until(lambda: time.time() > later, "twice its time")
        c.pub("brief", "still there")
        assert consumer.next()["body"] == "still there"
    c.until(lambda: c.broker.cli("queue", "describe", "brief").returncode != 0, "its deletion, once the consumer has gone")
