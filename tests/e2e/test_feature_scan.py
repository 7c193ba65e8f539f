"""Looking and mending: peek, delete, purge by filter, move, pause."""

import time

from commands import TIMED_OUT, USAGE


def fill(c, name="q"):
    c.create(name)
    c.pub(name, *[("even" if i % 2 == 0 else "odd", f"t.{i % 3}", i) for i in range(1, 11)], fields="key,topic,body")


def bodies(messages):
    return [m["body"] for m in messages]


def test_peek_leases_nothing(c):
    fill(c)
    for _ in range(2):
        assert bodies(c.peek("q")) == [str(i) for i in range(1, 11)]
    assert c.group()["ready"] == 10 and c.take("q")[0]["attempt"] == 1
    assert len(c.ok("peek", "q", "-n", "3").splitlines()) == 3
    assert c.ok("peek", "q", "-n", "2", "--format", "raw") == "2\n3\n"
    assert "receipt" not in c.peek("q")[0]
    c.take("q", 9)
    c.run(TIMED_OUT, "peek", "q")


def test_peek_by_position_and_filter(c):
    fill(c)
    assert bodies(c.peek("q", "--from-seq", "4", "--to-seq", "6")) == ["4", "5", "6"]
    assert bodies(c.peek("q", "--seq", "9", "--seq", "2-3")) == ["9", "2", "3"]
    assert bodies(c.peek("q", "--key", "odd")) == ["1", "3", "5", "7", "9"]
    assert bodies(c.peek("q", "--topic", "t.0")) == ["3", "6", "9"]
    assert bodies(c.peek("q", "--topic", "t.*", "--key", "even", "--from-seq", "5")) == ["6", "8", "10"]
    c.ok("pub", "q", "x", "-H", "type:order")
    assert bodies(c.peek("q", "-H", "type=order")) == ["x"]
    c.run(USAGE, "peek", "q", "--from-seq", "7", "--to-seq", "3")
    c.run(USAGE, "peek", "q", "--since", "yesterday")


def test_peek_by_time(c):
    fill(c)
    newest = c.peek("q")[-1]["time_ms"] / 1000
    c.until(lambda: time.time() > newest + 0.01, "some time")
    c.pub("q", "later")
    later = c.peek("q", "--seq", "11")[0]["time"]
    assert bodies(c.peek("q", "--since", later)) == ["later"]
    assert len(c.peek("q", "--until", f"{newest:.3f}")) == 10
    assert len(c.peek("q", "--since", "ago:1h")) == 11
    assert c.peek("q", "--since", "in:1h") == []


def test_peek_sees_what_is_leased_and_what_waits(c):
    fill(c)
    c.lease("q", 1)
    c.pub("q", "scheduled", delay="1h")
    assert len(c.peek("q")) == 11
    assert bodies(c.peek("q", "--scheduled")) == ["scheduled"]
    assert len(c.peek("q", "--available")) == 10


def test_peek_a_long_queue(c):
    c.create()
    c.pub("q", *range(30000))
    assert bodies(c.peek("q")) == [str(i) for i in range(30000)]
    assert bodies(c.peek("q", "--from-seq", "29999")) == ["29998", "29999"]


def test_delete_by_seq(c):
    fill(c)
    c.ok("group", "create", "q", "other")
    assert c.json("delete", "q", "--seq", "3", "--seq", "5-7")["deleted"] == 4
    c.refused("MESSAGE_NOT_FOUND", "delete", "q", "--seq", "3")
    c.run(USAGE, "delete", "q")
    c.broker.restart()
    expected = ["1", "2", "4", "8", "9", "10"]
    assert bodies(c.peek("q")) == expected
    assert c.bodies("q", 6) == expected and c.bodies("q", 6, "-g", "other") == expected, "gone for every group"
    assert c.describe()["messages"] == 0


def test_purge_by_filter(c):
    fill(c)
    dry = c.json("purge", "q", "--key", "odd", "--dry-run")
    assert dry["purged"] == 5 and dry["dry_run"] and len(c.peek("q")) == 10
    assert c.json("queue", "purge", "q", "--key", "odd")["purged"] == 5
    assert bodies(c.peek("q")) == ["2", "4", "6", "8", "10"]
    assert c.json("purge", "q", "--dry-run")["purged"] == 5
    assert c.json("purge", "q")["purged"] == 5 and c.peek("q") == []


def test_purge_of_a_long_queue(c):
    c.create()
    c.pub("q", *[("x" if i % 10 == 0 else "y", i) for i in range(30000)], fields="key,body")
    assert c.json("purge", "q", "--key", "y")["purged"] == 27000
    assert bodies(c.peek("q")) == [str(i) for i in range(0, 30000, 10)]


def test_move(c):
    fill(c)
    c.create("to")
    assert c.json("move", "q", "--to", "to", "--key", "odd", "--dry-run")["moved"] == 5
    assert c.describe("to")["messages"] == 0
    assert c.json("move", "q", "--to", "to", "--key", "odd")["moved"] == 5
    assert bodies(c.peek("q")) == ["2", "4", "6", "8", "10"]
    moved = c.take("to", 5)
    assert [(m["seq"], m["body"], m["key"], m["topic"]) for m in moved] == [
        (i, str(2 * i - 1), "odd", f"t.{(2 * i - 1) % 3}") for i in range(1, 6)
    ]
    c.refused("QUEUE_NOT_FOUND", "move", "q", "--to", "nowhere")
    assert len(c.peek("q")) == 5
    c.run(USAGE, "move", "q")


def test_move_skips_what_is_leased(c):
    fill(c)
    c.create("to")
    held = c.lease("q", 1)[0]
    said = c.json("move", "q", "--to", "to")
    assert said["moved"] == 9 and said["skipped"] == 1
    c.broker.restart()
    assert len(c.peek("to")) == 9 and bodies(c.peek("q")) == [held["body"]], "each in one place"


def test_pause_persists(c):
    fill(c)
    c.ok("queue", "pause", "q")
    c.broker.restart()
    assert c.describe()["paused"]
    c.empty("q")
    assert len(c.peek("q")) == 10, "one may look"
    c.pub("q", "11")
    c.ok("queue", "resume", "q")
    assert len(c.take("q", 11)) == 11
