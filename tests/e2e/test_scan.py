"""Peek, count, delete, move, redrive and reschedule, by the protocol; what a record says of times."""

import time

import protocol
import pytest
from harness import until
from protocol import BrokerError, message


@pytest.fixture
def conn(broker):
    with broker.connect() as c:
        c.create("q")
        yield c


def seqs(messages):
    return [m.seq for m in messages]


def lease_all(conn, queue, count):
    """That many, however many answers they take."""
    got = []
    while len(got) < count:
        more = conn.lease(queue, max=count - len(got), wait_ms=10000)
        assert more, f"{len(got)} of {count} came"
        got += more
    return got


def fill(conn, count=10, queue="q"):
    conn.publish_ok(queue, *[message(b"%d" % i, key=b"odd" if i % 2 else b"even") for i in range(1, count + 1)])


def test_peek_leases_nothing(conn):
    fill(conn)
    messages, next_seq = conn.peek("q")
    assert [m.body for m in messages] == [b"%d" % i for i in range(1, 11)] and next_seq == 0
    assert seqs(conn.lease("q", max=2)) == [1, 2]
    assert seqs(conn.peek("q")[0]) == list(range(1, 11)), "also what is leased"


def test_peek_goes_on(conn):
    fill(conn)
    assert conn.peek("q", from_seq=11) == ([], 0)
    got, at = [], 0
    while True:
        messages, at = conn.peek("q", max_messages=3, from_seq=at)
        got += seqs(messages)
        if not at:
            break
    assert got == list(range(1, 11))
    messages, at = conn.peek("q", max_bytes=1)
    assert seqs(messages) == [1] and at == 2


def test_peek_by_filter_and_range(conn):
    fill(conn)
    assert seqs(conn.peek("q", filter={"key": "odd"}, from_seq=4, to_seq=9)[0]) == [5, 7, 9]
    when = conn.peek("q", from_seq=1, to_seq=1)[0][0].time_ms
    assert seqs(conn.peek("q", from_ms=when)[0])[0] == 1 and conn.peek("q", to_ms=when - 1)[0] == []
    messages, at = conn.peek("q", filter={"key": "nobody"}, max_scanned=4)
    assert messages == [] and 1 < at <= 5, "looked at, and nothing found yet"


def test_peek_more_than_a_frame_holds(broker):
    with broker.connect() as c:
        c.create("q")
        for _ in range(6):
            c.publish_ok("q", *[bytes(1 << 20)] * 5)
        got, at = [], 0
        while True:
            messages, at = c.peek("q", max_messages=1024, from_seq=at)
            assert messages
            got += seqs(messages)
            if not at:
                break
        assert got == list(range(1, 31))


def test_count_and_delete(conn):
    fill(conn)
    assert conn.scan("q", "count", filter={"key": "odd"}) == (5, 0, 0)
    leased = conn.lease("q", max=1)[0]
    assert conn.scan("q", "delete", filter={"key": "odd"}) == (5, 0, 0)
    assert seqs(conn.peek("q")[0]) == [2, 4, 6, 8, 10]
    assert conn.ack(leased) == (0, [leased.receipt]), "its lease ended"
    assert conn.scan("q", "count") == (5, 0, 0)
    matched, _, at = conn.scan("q", "delete", max_messages=2)
    assert matched == 2 and at > 0 and seqs(conn.peek("q")[0]) == [6, 8, 10]


def test_deletes_survive(broker, conn):
    fill(conn)
    conn.scan("q", "delete", from_seq=2, to_seq=8)
    broker.restart()
    with broker.connect() as c:
        assert seqs(c.peek("q")[0]) == [1, 9, 10]
        assert seqs(lease_all(c, "q", 2)) == [1, 10], "9 waits for its key"


def test_move(conn):
    conn.create("to")
    conn.publish_ok("q", b"x", b"y")
    x = conn.lease("q", max=1)[0]
    assert conn.scan("q", "move", target="to") == (1, 1, 0), "what is leased is skipped"
    assert conn.ack(x) == (1, []) and conn.describe("q")[0]["messages"] == 0
    (moved,) = conn.lease("to", max=10)
    assert (moved.seq, moved.body, moved.attempt) == (1, b"y", 1)


def test_a_moved_message_keeps_what_it_is(conn):
    conn.create("to")
    conn.publish_ok("q", message(b"x", key=b"k", headers={"h": "v"}, priority=3, topic="a.b"))
    assert conn.scan("q", "move", target="to") == (1, 0, 0)
    (m,) = conn.lease("to")
    assert (m.body, m.key, m.headers, m.priority, m.topic) == (b"x", b"k", {"h": "v"}, 3, "a.b")
    assert conn.describe("q")[0]["messages"] == 0


def test_dead_letters(conn):
    conn.create("work", max_attempts=2)
    conn.publish_ok("work", message(b"bad", key=b"k", headers={"h": "v"}), message(b"worse"))
    assert conn.nack(*conn.lease("work", max=2)) == (2, [])
    again = {m.body: m for m in lease_all(conn, "work", 2)}
    published = again[b"bad"].time_ms
    assert conn.nack(again[b"bad"]) == (1, [])
    assert conn.nack(again[b"worse"], reject=True) == (1, [])
    dead = until(lambda: (got := conn.peek("work.dead")[0] if has(conn, "work.dead") else []) and len(got) == 2 and got)
    bad = next(m for m in dead if m.body == b"bad")
    assert bad.key == b"k" and bad.headers["h"] == "v"
    assert [bad.headers[h] for h in ("dead-reason", "dead-queue", "dead-group", "dead-attempts", "dead-seq")] == ["max_attempts", "work", "default", "2", "1"]
    assert int(bad.headers["dead-published-ms"]) == published and int(bad.headers["dead-time-ms"]) >= published
    assert next(m for m in dead if m.body == b"worse").headers["dead-reason"] == "rejected"
    assert conn.scan("work.dead", "count", filter={"headers": {"dead-reason": "rejected"}})[0] == 1
    assert conn.scan("work.dead", "redrive") == (2, 0, 0)
    back = lease_all(conn, "work", 2)
    assert {m.body for m in back} == {b"bad", b"worse"} and all(m.attempt == 1 and not any(h.startswith("dead-") for h in m.headers) for m in back)
    assert conn.stats()["dead_lettered"] >= 2


def has(conn, queue):
    return queue in [q["name"] for q in conn.ask(protocol.QUEUE_LIST, {})["queues"]]


def test_nothing_to_redrive_to(conn):
    conn.publish_ok("q", message(b"x", headers={"dead-queue": "gone"}), message(b"y"))
    assert conn.scan("q", "redrive") == (0, 2, 0)


def test_refusals(conn):
    for code, body in (
        (protocol.QUEUE_NOT_FOUND, {"queue": "nowhere", "action": "count"}),
        (protocol.QUEUE_NOT_FOUND, {"queue": "q", "action": "move", "target": "nowhere"}),
        (protocol.INVALID_ARGUMENT, {"queue": "q", "action": "move", "target": "q"}),
    ):
        with pytest.raises(BrokerError) as e:
            conn.ask(protocol.SCAN, body)
        assert (e.value.code, e.value.scope) == (code, "request"), body
    with pytest.raises(BrokerError) as e:
        conn.peek("nowhere")
    assert e.value.code == protocol.QUEUE_NOT_FOUND


# ---- times


def test_delays_become_times(conn):
    conn.publish_ok("q", message(b"later", delay_ms=60000, ttl_ms=120000))
    (m,) = conn.peek("q", state="scheduled")[0]
    assert m.due_ms == m.time_ms + 60000 and m.expire_ms == m.time_ms + 120000
    assert conn.lease("q") == [] and conn.peek("q", state="available")[0] == []
    queue, groups = conn.describe("q")
    assert queue["scheduled"] == 1 and groups["default"]["lag"] == 1 and groups["default"]["ready"] == 0
    assert conn.stats()["scheduled"] == 1


def test_due_in_time_and_not_before(conn):
    due = int(time.time() * 1000) + 700
    conn.publish_ok("q", message(b"at", due_ms=due), message(b"past", due_ms=1))
    assert [m.body for m in conn.lease("q", max=5)] == [b"past"]
    (m,) = conn.lease("q", wait_ms=10000)
    assert m.body == b"at" and time.time() * 1000 >= due


def test_reschedule(conn):
    conn.publish_ok("q", message(b"a", delay_ms=3600000), message(b"b", delay_ms=3600000), message(b"c"))
    conn.ask(protocol.RESCHEDULE, {"queue": "q", "seq": 1, "due_ms": 1})
    assert [m.body for m in conn.lease("q", max=5, wait_ms=5000)][0] in (b"a", b"c")
    until(lambda: conn.describe("q")[0]["scheduled"] == 1)
    conn.ask(protocol.RESCHEDULE, {"queue": "q", "seq": 2, "delay_ms": 200})
    until(lambda: conn.describe("q")[0]["scheduled"] == 0)
    for seq in (3, 99):
        with pytest.raises(BrokerError) as e:
            conn.ask(protocol.RESCHEDULE, {"queue": "q", "seq": seq, "delay_ms": 0})
        assert e.value.code == protocol.MESSAGE_NOT_FOUND


def test_cancel(conn):
    conn.publish_ok("q", message(b"a", delay_ms=3600000))
    assert conn.scan("q", "delete", state="scheduled") == (1, 0, 0)
    assert conn.describe("q")[0]["scheduled"] == 0


def test_expiry(conn):
    conn.publish_ok("q", message(b"gone", ttl_ms=100), b"stays")
    until(lambda: conn.describe("q")[0]["messages"] == 1)
    assert [m.body for m in conn.lease("q", max=5)] == [b"stays"]
    assert conn.describe("q")[0]["expired"] == 1 and conn.stats()["expired"] == 1


def test_times_too_far(conn):
    for more in ({"delay_ms": 1 << 62}, {"due_ms": (1 << 64) - 1}, {"ttl_ms": 1 << 63}):
        (r,) = conn.publish("q", message(b"x", **more))
        assert r.code == protocol.INVALID_ARGUMENT, more


def test_flags_without_times_are_malformed(conn):
    for flags in (protocol.DUE_IS_DELAY, protocol.EXPIRE_IS_TTL, 0x40, 0x80):
        with pytest.raises(BrokerError) as e:
            conn.publish("q", message(b"x", flags=flags))
        assert (e.value.code, e.value.scope) == (protocol.MALFORMED, "request")


# ---- priority, ids, consumers


def test_priority(conn):
    conn.publish_ok("q", b"low", message(b"high", priority=9), message(b"middle", priority=5))
    assert [m.body for m in lease_all(conn, "q", 3)] == [b"high", b"middle", b"low"]


def test_message_ids(conn):
    assert conn.publish_ok("q", message(b"x", ident=b"one", producer=(5, 1))) == [1]
    (r,) = conn.publish("q", message(b"y", ident=b"one", producer=(6, 1)))
    assert r.duplicate and r.first_seq == 1 and conn.describe("q")[0]["duplicates"] == 1
    assert conn.lease("q", max=5)[0].message_id == b"one"
    (r,) = conn.publish("q", message(b"z", ident=b"x" * 255))
    assert r.code == 0 and r.first_seq == 2


def test_max_unsettled_and_priority_of_consumers(broker, conn):
    with broker.connect() as other:
        low, high = conn.subscribe("q"), other.subscribe("q", priority=5, max_unsettled=2)
        conn.publish_ok("q", *[b"%d" % i for i in range(5)])
        two = other.receive(high, 2)
        rest = conn.receive(low, 3)
        assert other.nothing_comes(high)
        conn.publish_ok("q", b"more")
        rest += conn.receive(low, 1)
        assert len(two + rest) == 6
        other.ack(*two)
        conn.publish_ok("q", b"again")
        assert other.receive(high, 1)[0].body == b"again"
