"""Queues and groups: settings, fan-out, pause, purge, delete, seek, retention."""

import time

import protocol
import pytest
from harness import until
from protocol import BrokerError


@pytest.fixture
def conn(broker):
    with broker.connect() as c:
        c.create("q")
        yield c


def refused(code, call, *args, **kwargs):
    with pytest.raises(BrokerError) as e:
        call(*args, **kwargs)
    assert (e.value.code, e.value.scope) == (code, "request"), e.value
    return e.value.text


def test_settings(conn):
    settings = {
        "retention": "log",
        "sync": "interval",
        "lease_ms": 1234,
        "max_message_bytes": 5000,
        "log_max_age_ms": 60000,
        "log_max_bytes": 1 << 30,
        "log_max_messages": 1000,
    }
    conn.create("s", **settings)
    conn.create("s", **settings)  # again: fine
    assert {k: conn.describe("s")[0][k] for k in settings} == settings
    refused(protocol.QUEUE_EXISTS, conn.create, "s", retention="work")
    conn.ask(protocol.QUEUE_ALTER, {"queue": "s", "lease_ms": 99})
    queue = conn.describe("s")[0]
    assert queue["lease_ms"] == 99 and queue["sync"] == "interval" and not queue["paused"]
    refused(protocol.QUEUE_NOT_FOUND, conn.ask, protocol.QUEUE_ALTER, {"queue": "none", "lease_ms": 9})


def test_list(conn):
    names = [f"list.{i:03}" for i in range(25)]
    for name in names:
        conn.create(name)
    seen, after, rounds = [], "", 0
    while True:
        page = conn.ask(protocol.QUEUE_LIST, {"prefix": "list.", "after": after, "limit": 10} if after else {"prefix": "list.", "limit": 10})
        seen += [q["name"] for q in page["queues"]]
        rounds += 1
        if not page["more"]:
            break
        after = seen[-1]
    assert seen == names and rounds == 3
    assert [q["name"] for q in conn.ask(protocol.QUEUE_LIST)["queues"]] == names + ["q"]


def test_fan_out(conn):
    conn.ask(protocol.GROUP_CREATE, {"queue": "q", "group": "b"})
    conn.publish_ok("q", b"1", b"2")
    for group in ("default", "b"):
        got = conn.lease("q", max=5, group=group)
        assert [m.body for m in got] == [b"1", b"2"]
        assert conn.describe("q")[0]["messages"] == 2
        assert conn.ack(*got) == (2, [])
    assert conn.describe("q")[0]["messages"] == 0


def test_group_starts(conn):
    conn.create("log", retention="log")
    conn.publish_ok("log", *[b"%d" % i for i in range(1, 6)])
    for name, start, expected in [
        ("beginning", {"start": "beginning"}, [1, 2, 3, 4, 5]),
        ("end", {"start": "end"}, []),
        ("seq", {"start": "seq", "value": 4}, [4, 5]),
        ("past", {"start": "time", "value": 1}, [1, 2, 3, 4, 5]),
        ("future", {"start": "time", "value": int(time.time() * 1000) + 3600000}, []),
    ]:
        conn.ask(protocol.GROUP_CREATE, {"queue": "log", "group": name, **start})
        assert [m.seq for m in conn.lease("log", max=10, group=name)] == expected, name
    refused(protocol.GROUP_EXISTS, conn.ask, protocol.GROUP_CREATE, {"queue": "log", "group": "seq"})
    conn.publish_ok("log", b"6")
    assert [m.seq for m in conn.lease("log", max=10, group="end")] == [6]
    assert set(conn.describe("log")[1]) == {"default", "beginning", "end", "seq", "past", "future"}


def test_seek_replays(conn):
    conn.create("log", retention="log")
    conn.publish_ok("log", *[b"x"] * 5)
    got = conn.lease("log", max=5)
    conn.ack(*got[:3])
    conn.ask(protocol.GROUP_SEEK, {"queue": "log", "group": "default", "start": "seq", "value": 2})
    assert conn.ack(got[4]) == (0, [got[4].receipt]), "a seek ends the leases"
    assert [m.seq for m in conn.lease("log", max=10)] == [2, 3, 4, 5]
    conn.ask(protocol.GROUP_SEEK, {"queue": "log", "group": "default", "start": "end"})
    assert conn.lease("log", max=10) == []


def test_group_delete(conn):
    conn.ask(protocol.GROUP_CREATE, {"queue": "q", "group": "b"})
    s = conn.subscribe("q", group="b")
    conn.ask(protocol.GROUP_DELETE, {"queue": "q", "group": "b"})
    until(lambda: conn.ended or conn.pump(time.monotonic() + 0.1) and conn.ended)
    assert conn.ended[s]["code"] == protocol.GROUP_NOT_FOUND
    refused(protocol.GROUP_NOT_FOUND, conn.lease, "q", group="b")
    refused(protocol.INVALID_ARGUMENT, conn.ask, protocol.GROUP_DELETE, {"queue": "q", "group": "default"})


def test_pause(conn):
    s = conn.subscribe("q")
    conn.ask(protocol.QUEUE_PAUSE, {"queue": "q"})
    assert conn.describe("q")[0]["paused"]
    conn.publish_ok("q", b"a")
    assert conn.nothing_comes(s)
    conn.ask(protocol.QUEUE_RESUME, {"queue": "q"})
    assert conn.receive(s)[0].body == b"a"


def test_purge(conn):
    conn.publish_ok("q", *[b"x"] * 10)
    leased = conn.lease("q", max=3)
    assert conn.ask(protocol.QUEUE_PURGE, {"queue": "q"})["purged"] == 10
    assert conn.lease("q") == [] and conn.describe("q")[0]["messages"] == 0
    assert conn.ack(*leased)[0] == 0
    assert conn.publish_ok("q", b"new") == [11]
    assert conn.lease("q")[0].seq == 11


def test_delete_and_create_again(conn):
    conn.publish_ok("q", b"old")
    s = conn.subscribe("q")
    conn.receive(s)
    before = conn.describe("q")[0]["id"]
    conn.ask(protocol.QUEUE_DELETE, {"queue": "q"})
    until(lambda: conn.ended or conn.pump(time.monotonic() + 0.1) and conn.ended)
    assert conn.ended[s]["code"] == protocol.QUEUE_NOT_FOUND
    refused(protocol.QUEUE_NOT_FOUND, conn.publish, "q", b"x")
    refused(protocol.QUEUE_NOT_FOUND, conn.describe, "q")
    conn.create("q")
    assert conn.describe("q")[0]["id"] != before
    assert conn.publish_ok("q", b"new") == [1]
    assert [m.body for m in conn.lease("q", max=5)] == [b"new"]


def test_log_retention_by_count(conn):
    conn.create("log", retention="log", log_max_messages=100)
    conn.publish_ok("log", *[b"%d" % i for i in range(5000)])
    until(lambda: conn.describe("log")[0]["messages"] < 5000, what="trimming")
    queue = conn.describe("log")[0]
    assert queue["messages"] >= 100 and queue["last_seq"] == 5000
    first = conn.lease("log", max=1)[0]
    assert first.seq == queue["first_seq"] or first.seq >= queue["first_seq"]
    assert conn.lease("log", max=1, group="default")[0].seq == first.seq + 1


def test_log_retention_keeps_settled_messages(conn):
    conn.create("log", retention="log")
    conn.publish_ok("log", b"a", b"b")
    conn.ack(*conn.lease("log", max=2))
    queue = conn.describe("log")[0]
    assert (queue["messages"], queue["first_seq"]) == (2, 1)


def test_log_retention_by_age(conn):
    conn.create("log", retention="log", log_max_age_ms=300)
    conn.publish_ok("log", b"a", b"b")
    until(lambda: conn.describe("log")[0]["messages"] == 0, 20, "trimming by age")
    assert conn.publish_ok("log", b"c") == [3]


def test_alter_retention(conn):
    conn.create("log", retention="log")
    conn.publish_ok("log", b"a", b"b")
    conn.ack(*conn.lease("log", max=2))
    conn.ask(protocol.QUEUE_ALTER, {"queue": "log", "retention": "work"})
    until(lambda: conn.describe("log")[0]["messages"] == 0, what="settled messages going")


def test_unsubscribe_returns_leases(conn):
    conn.publish_ok("q", b"a")
    s = conn.subscribe("q")
    m = conn.receive(s)[0]
    conn.unsubscribe(s)
    again = conn.lease("q", wait_ms=5000)[0]
    assert again.attempt == 2
    assert conn.ack(m) == (0, [m.receipt])
    refused(protocol.SUBSCRIPTION_NOT_FOUND, conn.unsubscribe, s)


def test_close_returns_leases(broker, conn):
    conn.publish_ok("q", b"a")
    with broker.connect() as other:
        other.receive(other.subscribe("q"))
        assert conn.lease("q") == []
    assert conn.lease("q", wait_ms=5000)[0].attempt == 2


def test_subscription_ids(conn):
    s = conn.subscribe("q")
    refused(protocol.SUBSCRIPTION_EXISTS, conn.ask, protocol.SUBSCRIBE, {"queue": "q"}, stream=s)
    refused(protocol.INVALID_ARGUMENT, conn.ask, protocol.SUBSCRIBE, {"queue": "q"}, stream=0)
    refused(protocol.GROUP_NOT_FOUND, conn.ask, protocol.SUBSCRIBE, {"queue": "q", "group": "none"}, stream=9)
    conn.credit(77, 5)  # an unknown stream: ignored
    conn.unsubscribe(s)
    conn.subscribe("q", stream=s)


def test_stats(conn):
    conn.publish_ok("q", b"a", b"b")
    conn.ack(*conn.lease("q", max=2))
    said = conn.stats()
    assert (said["queues"], said["published"], said["delivered"], said["acked"]) == (1, 2, 2, 2)
    for key in ("uptime_ms", "cpu_us", "rss_bytes", "syncs", "bytes_written", "log_index", "disk_bytes", "segments"):
        assert said[key] > 0 or key == "uptime_ms", key
    assert said["connections"] == 1 and said["version"]
