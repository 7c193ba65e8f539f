"""Delays: not early, not lost, in the way of nobody; listed, counted, cancelled, rescheduled."""

import datetime
import time

from commands import FAILED


def ms(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000


def test_a_delayed_message_comes_at_its_time(c):
    c.create()
    with c.follow("q") as consumer:
        c.pub("q", "a", delay="700ms")
        m = consumer.next()
    assert m["body"] == "a" and m["attempt"] == 1
    assert ms(m["due"]) - ms(m["time"]) == 700
    late_ms = m["came"] * 1000 - ms(m["due"])
    assert 0 <= late_ms < 1000, "with a command under sanitizers in between"


def test_at_a_time(c):
    c.create()
    at = time.time() + 4
    text = datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    c.pub("q", "rfc", at=text)
    c.pub("q", "unix", at=f"{at:.3f}")
    c.empty("q")
    got = c.take("q", 2)
    assert {m["body"] for m in got} == {"rfc", "unix"} and time.time() >= at
    c.pub("q", "past", at="2020-01-01T00:00:00Z")
    assert c.lease("q")[0]["body"] == "past", "a time that has passed delays nothing"


def test_it_is_in_the_way_of_nobody(c):
    c.create()
    c.pub("q", "later", delay="1h")
    c.pub("q", "now", "and now")
    assert c.bodies("q", 2) == ["now", "and now"]
    c.empty("q")
    assert c.describe()["scheduled"] == 1 and c.group()["lag"] == 1


def test_order_of_due_times(c):
    c.create()
    c.pub("q", ("900ms", "third"), ("300ms", "first"), ("600ms", "second"), fields="delay,body")
    assert c.bodies("q", 3) == ["first", "second", "third"]


def test_every_group_gets_it(c):
    c.create()
    c.ok("group", "create", "q", "other")
    c.pub("q", "a", delay="300ms")
    assert c.bodies("q") == ["a"] and c.bodies("q", 1, "-g", "other") == ["a"]
    c.until(lambda: c.describe()["messages"] == 0, "settled by both")


def test_through_kill(c):
    c.create()
    c.pub("q", ("500ms", "soon"), ("1h", "later"), ("3650d", "in ten years"), fields="delay,body")
    c.broker.restart()
    assert c.describe()["scheduled"] >= 2
    assert c.bodies("q") == ["soon"]
    c.empty("q")
    assert [m["body"] for m in c.peek("q", "--scheduled")] == ["later", "in ten years"]


def test_due_while_the_broker_was_down(c):
    c.create()
    c.pub("q", "a", delay="400ms")
    due = time.time() + 0.4
    c.broker.kill()
    c.until(lambda: time.time() > due, "its time")
    c.broker.start()
    assert c.bodies("q") == ["a"]


def test_list_and_count(c):
    c.create()
    c.pub("q", ("a", "1h", "1"), ("b", "2h", "2"), ("a", "3h", "3"), ("a", "", "now"), fields="key,delay,body")
    assert c.json("scheduled", "count", "q")["scheduled"] == 3
    assert c.json("scheduled", "count", "q", "--key", "a")["scheduled"] == 2
    listed = c.json("scheduled", "list", "q")
    assert [m["body"] for m in listed] == ["1", "2", "3"]
    assert [round((ms(m["due"]) - ms(m["time"])) / 3600000) for m in listed] == [1, 2, 3]
    assert "due=" in c.ok("scheduled", "list", "q") and "now" not in c.ok("scheduled", "list", "q")


def test_cancel(c):
    c.create()
    c.pub("q", *[("a", "1h", i) for i in range(1, 6)], ("b", "1h", 6), fields="key,delay,body")
    assert c.json("scheduled", "cancel", "q", "--seq", "2", "--seq", "4-5")["cancelled"] == 3
    c.refused("MESSAGE_NOT_FOUND", "scheduled", "cancel", "q", "--seq", "2")
    assert c.json("scheduled", "cancel", "q", "--key", "a", "--dry-run")["cancelled"] == 2
    assert c.json("scheduled", "cancel", "q", "--key", "a")["cancelled"] == 2
    assert [m["body"] for m in c.peek("q")] == ["6"]
    c.broker.restart()
    assert [m["body"] for m in c.peek("q")] == ["6"], "what was cancelled stays so"
    assert c.json("scheduled", "cancel", "q", "--all")["cancelled"] == 1
    assert c.describe()["messages"] == 0
    c.pub("q", "not scheduled")
    c.run(FAILED, "scheduled", "cancel", "q", "--seq", "7")
    assert c.bodies("q") == ["not scheduled"]


def test_reschedule(c):
    c.create()
    c.pub("q", "a", "b", delay="1h")
    c.ok("scheduled", "reschedule", "q", "--seq", "2", "--delay", "300ms")
    assert c.bodies("q") == ["b"]
    c.refused("MESSAGE_NOT_FOUND", "scheduled", "reschedule", "q", "--seq", "2", "--delay", "1s")
    c.ok("scheduled", "reschedule", "q", "--seq", "1", "--at", "in:2h")
    c.broker.restart()
    c.empty("q")
    c.ok("scheduled", "reschedule", "q", "--seq", "1", "--delay", "0")
    assert c.bodies("q") == ["a"]


def test_many(c):
    c.create()
    c.pub("q", *[(f"{1000 + i % 500}ms", i) for i in range(20000)], ("1h", "later"), fields="delay,body")
    with c.follow("q") as consumer:
        got = [consumer.next() for _ in range(20000)]
    assert sorted(int(m["body"]) for m in got) == list(range(20000))
    assert all(m["came"] * 1000 >= ms(m["due"]) for m in got), "none too early"
    assert c.describe()["scheduled"] == 1
