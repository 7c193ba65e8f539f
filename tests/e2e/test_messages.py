"""The way of a message: published, leased, settled, delivered again."""

import os
import time

import protocol
import pytest
from protocol import BrokerError, message


@pytest.fixture
def conn(broker):
    with broker.connect() as c:
        c.create("q")
        yield c


def test_welcome(broker):
    with broker.connect() as c:
        assert c.welcome["server"] == "brokerd"
        assert c.welcome["max_frame"] > 1 << 20 and c.welcome["max_message"] >= 1 << 20
        assert c.welcome["epoch"] >= 1 and c.welcome["version"]


def test_publish_consume_ack(conn):
    assert conn.publish_ok("q", b"one", b"two", b"three") == [1, 2, 3]
    s = conn.subscribe("q")
    got = conn.receive(s, 3)
    assert [(m.seq, m.body, m.attempt) for m in got] == [(1, b"one", 1), (2, b"two", 1), (3, b"three", 1)]
    assert abs(got[0].time_ms - time.time() * 1000) < 60000
    assert conn.ack(*got) == (3, [])
    queue, groups = conn.describe("q")
    assert (queue["messages"], queue["last_seq"], queue["first_seq"]) == (0, 3, 4)
    assert groups["default"]["floor_seq"] == 3 and groups["default"]["leased"] == 0


def test_message_is_kept_byte_for_byte(conn):
    headers = {"type": "order", "n": 7, "nested": {"a": [1, b"\0\xff"]}}
    body = bytes(range(256)) * 3
    conn.publish_ok("q", message(body, key=b"\0key\xff", headers=headers, priority=0))
    m = conn.lease("q")[0]
    assert (m.body, m.key, m.headers) == (body, b"\0key\xff", headers)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 4095, 65536, 1 << 20, (8 << 20) - 4096])
def test_sizes(conn, size):
    body = os.urandom(size)
    conn.publish_ok("q", body)
    m = conn.lease("q", wait_ms=10000)[0]
    assert m.body == body
    assert conn.ack(m) == (1, [])


def test_too_large_message_fails_alone(conn):
    limit = conn.welcome["max_message"]
    ranges = conn.publish("q", b"before", bytes(limit + 1), b"after")
    assert [(r.first_index, r.count, r.code) for r in ranges] == [(0, 1, 0), (1, 1, protocol.TOO_LARGE), (2, 1, 0)]
    assert [m.body for m in conn.lease("q", max=10)] == [b"before", b"after"]


def test_queue_limits_message_size(conn):
    conn.create("small", max_message_bytes=100)
    assert [r.code for r in conn.publish("small", b"x" * 10, b"x" * 101)] == [0, protocol.TOO_LARGE]


def test_many_messages_in_order(conn):
    total, requests = 20000, []
    for first in range(0, total, 500):
        requests.append(conn.publish_request("q", [protocol.record(b"%d" % i) for i in range(first, first + 500)]))
    for r in requests:
        assert all(x.code == 0 for x in conn.publish_answer(r))
    s = conn.subscribe("q", credit=total)
    got = conn.receive(s, total)
    assert [m.body for m in got] == [b"%d" % i for i in range(total)]
    assert conn.ack(*got) == (total, [])


def test_sync_modes(conn):
    for sync in (protocol.SYNC_ALWAYS, protocol.SYNC_INTERVAL, protocol.SYNC_NONE):
        conn.publish_ok("q", b"x", sync=sync)
    conn.create("n", sync="none")
    conn.publish_ok("n", b"x")
    assert len(conn.lease("q", max=10)) == 3 and len(conn.lease("n")) == 1


def test_nack_comes_again_at_once(conn):
    conn.publish_ok("q", b"a", b"b")
    s = conn.subscribe("q", credit=2)
    a, b = conn.receive(s, 2)
    assert conn.nack(a) == (1, [])
    conn.credit(s, 5)
    again = conn.receive(s)[0]
    assert (again.seq, again.attempt) == (1, 2) and again.receipt != a.receipt
    assert conn.ack(a) == (0, [a.receipt])
    assert conn.ack(again, b) == (2, [])


def test_nack_with_delay(conn):
    conn.publish_ok("q", b"a")
    m = conn.lease("q")[0]
    begin = time.monotonic()
    assert conn.nack(m, delay_ms=400) == (1, [])
    assert conn.lease("q") == []
    assert conn.describe("q")[1]["default"]["delayed"] == 1
    again = conn.lease("q", wait_ms=10000)[0]
    assert 0.39 <= time.monotonic() - begin < 5 and again.attempt == 2


def test_lease_expires(conn):
    conn.publish_ok("q", b"a")
    begin = time.monotonic()
    m = conn.lease("q", lease_ms=300)[0]
    again = conn.lease("q", wait_ms=10000)[0]
    assert 0.29 <= time.monotonic() - begin < 5
    assert again.attempt == 2 and again.receipt != m.receipt
    assert conn.ack(m) == (0, [m.receipt]), "a stale receipt"
    assert conn.ack(again) == (1, [])


def test_subscription_lease_expires(conn):
    conn.create("s", lease_ms=300)
    conn.publish_ok("s", b"a")
    s = conn.subscribe("s")
    first = conn.receive(s)[0]
    again = conn.receive(s)[0]
    assert (first.seq, first.attempt, again.seq, again.attempt) == (1, 1, 1, 2)


def test_extend(conn):
    conn.publish_ok("q", b"a")
    m = conn.lease("q", lease_ms=300)[0]
    begin = time.monotonic()
    assert conn.extend(1200, m) == (1, [])
    again = conn.lease("q", wait_ms=10000)[0]
    assert time.monotonic() - begin >= 1.15 and again.attempt == 2
    assert conn.extend(1000, m) == (0, [m.receipt])


def test_stale_receipts_fail_alone(conn):
    conn.publish_ok("q", b"a", b"b", b"c")
    a, b, c = conn.lease("q", max=3)
    assert conn.ack(b) == (1, [])
    assert conn.ack(a, b, c, 1 << 60) == (2, [b.receipt, 1 << 60])
    assert conn.describe("q")[0]["messages"] == 0


def test_out_of_order_acks(conn):
    conn.publish_ok("q", *[b"%d" % i for i in range(200)])
    got = conn.lease("q", max=200)
    for m in reversed(got[1:]):
        assert conn.ack(m) == (1, [])
    assert conn.describe("q")[1]["default"]["floor_seq"] == 0
    conn.ack(got[0])
    assert conn.describe("q")[1]["default"]["floor_seq"] == 200


def test_ack_on_send(conn):
    conn.publish_ok("q", b"a", b"b")
    s = conn.subscribe("q", on_send=True)
    assert [m.receipt for m in conn.receive(s, 2)] == [0, 0]
    conn.unsubscribe(s)
    assert conn.lease("q") == []
    harness_until_settled(conn, "q")


def harness_until_settled(conn, queue):
    deadline = time.monotonic() + 10
    while conn.describe(queue)[0]["messages"]:
        assert time.monotonic() < deadline


def test_long_wait(broker, conn):
    begin = time.monotonic()
    assert conn.lease("q", wait_ms=300) == []
    assert time.monotonic() - begin >= 0.29
    with broker.connect() as other:
        request = conn.request(protocol.LEASE, {"queue": "q", "wait_ms": 20000, "max": 5})
        other.publish_ok("q", b"late")
        assert [m.body for m in protocol.batch(conn.answer(request).body)] == [b"late"]


def test_lease_outlives_its_connection(broker, conn):
    conn.publish_ok("q", b"a")
    with broker.connect() as other:
        m = other.lease("q")[0]
    assert conn.lease("q") == []
    assert conn.ack(m) == (1, [])


def test_waiting_lease_of_a_gone_connection_takes_nothing(broker, conn):
    with broker.connect() as other:
        other.request(protocol.LEASE, {"queue": "q", "wait_ms": 20000})
        other.ask(protocol.PING)
    other = None
    deadline = time.monotonic() + 10
    while conn.stats()["connections"] > 1:
        assert time.monotonic() < deadline
    conn.publish_ok("q", b"a")
    assert [m.attempt for m in conn.lease("q", wait_ms=5000)] == [1]


def test_competing_consumers_share(broker, conn):
    with broker.connect() as other:
        s, t = conn.subscribe("q", credit=50), other.subscribe("q", credit=50)
        conn.publish_ok("q", *[b"%d" % i for i in range(100)])
        mine, theirs = conn.receive(s, 50), other.receive(t, 50)
        assert sorted(m.seq for m in mine + theirs) == list(range(1, 101))


def test_credit_is_respected(conn):
    s = conn.subscribe("q", credit=0)
    conn.publish_ok("q", *[b"x"] * 10)
    assert conn.nothing_comes(s)
    conn.credit(s, 3)
    conn.receive(s, 3)
    assert conn.nothing_comes(s)
    conn.credit(s, 2)
    conn.receive(s, 2)
    assert conn.nothing_comes(s)


def test_byte_credit_is_respected(conn):
    conn.publish_ok("q", *[bytes(1000)] * 10)
    s = conn.subscribe("q", credit=0)
    conn.credit(s, 100, 2100)
    conn.receive(s, 3)  # the third goes below zero
    assert conn.nothing_comes(s)
    conn.credit(s, 0, 20000)
    conn.receive(s, 7)


def test_retries_are_no_duplicates(conn):
    first = conn.publish("q", message(b"a", producer=(77, 1)), message(b"b", producer=(77, 2)))
    assert [(r.first_seq, r.count, r.duplicate) for r in first] == [(1, 2, False)]
    again = conn.publish("q", message(b"a", producer=(77, 1)), message(b"b", producer=(77, 2)), message(b"c", producer=(77, 5)))
    assert [(r.first_seq, r.first_index, r.count, r.duplicate) for r in again] == [(1, 0, 2, True), (3, 2, 1, False)]
    assert [r.duplicate for r in conn.publish("q", message(b"a", producer=(78, 1)))] == [False], "another producer"
    assert [m.body for m in conn.lease("q", max=10)] == [b"a", b"b", b"c", b"a"]


def test_publish_to_missing_queue(conn):
    with pytest.raises(BrokerError) as e:
        conn.publish("nowhere", b"x")
    assert (e.value.code, e.value.scope) == (protocol.QUEUE_NOT_FOUND, "request") and "nowhere" in e.value.text
    conn.publish_ok("q", b"x")
