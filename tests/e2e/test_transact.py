"""Transactions, by the protocol: all of it or nothing, and once."""

import struct

import protocol
import pytest
from protocol import BY_TOPIC, BrokerError, ack_part, nack_part, part, publish_part, record


@pytest.fixture
def conn(broker):
    with broker.connect() as c:
        for name in ("in", "out", "log"):
            c.create(name)
        yield c


def refused(conn, code, *parts, flags=0, part_number=None):
    with pytest.raises(BrokerError) as e:
        conn.transact(*parts, flags=flags)
    assert (e.value.code, e.value.scope) == (code, "request"), e.value
    assert part_number is None or f"part {part_number}" in e.value.text, e.value
    return e.value


def counts(conn):
    return [conn.describe(q)[0]["messages"] for q in ("in", "out", "log")]


def test_consume_transform_produce(conn):
    conn.publish_ok("in", b"a", b"b")
    a, b = conn.lease("in", max=2)
    seqs, before = conn.transact(ack_part(a), publish_part("out", record(b"A"), record(b"AA")), publish_part("log", record(b"did a")))
    assert (seqs, before) == ([1, 2, 1], False)
    assert counts(conn) == [1, 2, 1]
    assert conn.ack(a) == (0, [a.receipt]) and conn.ack(b) == (1, [])
    assert [m.body for m in conn.lease("out", max=10)] == [b"A", b"AA"]


def test_only_settles(conn):
    conn.publish_ok("in", b"a", b"b")
    a, b = conn.lease("in", max=2)
    assert conn.transact(ack_part(a), nack_part(b)) == ([], False)
    again = conn.lease("in", wait_ms=5000)[0]
    assert (again.body, again.attempt) == (b"b", 2)


def test_a_nack_with_delay(conn):
    conn.publish_ok("in", b"a")
    conn.transact(nack_part(conn.lease("in")[0], delay_ms=60000), publish_part("out", record(b"x")))
    assert conn.describe("in")[1]["default"]["delayed"] == 1


def test_a_stale_receipt_undoes_all(conn):
    conn.publish_ok("in", b"a", b"b")
    a, b = conn.lease("in", max=2)
    conn.ack(a)
    refused(conn, protocol.STALE_RECEIPT, publish_part("out", record(b"x")), ack_part(b), ack_part(a), part_number=2)
    assert counts(conn) == [1, 0, 0], "b is still leased and nothing was published"
    assert conn.ack(b) == (1, [])


def test_a_missing_queue_undoes_all(conn):
    conn.publish_ok("in", b"a")
    (a,) = conn.lease("in")
    refused(conn, protocol.QUEUE_NOT_FOUND, ack_part(a), publish_part("out", record(b"x")), publish_part("nowhere", record(b"y")), part_number=2)
    assert counts(conn) == [1, 0, 0]
    assert conn.ack(a) == (1, [])


def test_a_full_queue_undoes_all(conn):
    conn.create("small", max_messages=2)
    conn.publish_ok("in", b"a")
    conn.publish_ok("small", b"there")
    (a,) = conn.lease("in")
    error = refused(conn, protocol.QUEUE_FULL, ack_part(a), publish_part("out", record(b"x")), publish_part("small", record(b"1"), record(b"2")), part_number=2)
    assert error.retry_ms > 0
    assert counts(conn) == [1, 0, 0] and conn.describe("small")[0]["messages"] == 1
    conn.transact(ack_part(a), publish_part("small", record(b"1")))


def test_by_topic(conn):
    for name in ("out", "log"):
        conn.ask(protocol.BIND, {"queue": name, "pattern": "t.>"})
    seqs, _ = conn.transact(publish_part(None, record(b"x", topic="t.1", flags=BY_TOPIC)), publish_part("in", record(b"y")))
    assert seqs == [2, 1] and counts(conn) == [1, 1, 1]
    lost = publish_part(None, record(b"x", topic="nobody", flags=BY_TOPIC))
    refused(conn, protocol.UNROUTABLE, publish_part("in", record(b"y")), lost, part_number=1)
    assert conn.transact(publish_part("in", record(b"y")), lost, flags=protocol.UNROUTABLE_OK)[0] == [2, 0]


def numbered(first):
    return (
        publish_part("out", record(b"x", producer=(7, first)), record(b"y", producer=(7, first + 1))),
        publish_part("log", record(b"z", producer=(7, first))),
    )


def test_a_retry_is_not_done_twice(broker, conn):
    conn.publish_ok("in", b"a")
    parts = (ack_part(*conn.lease("in")), *numbered(1))
    assert conn.transact(*parts) == ([1, 2, 1], False)
    seqs, before = conn.transact(*parts)
    assert before and len(seqs) == 3, "its receipt is stale by now, and that is no matter"
    assert counts(conn) == [0, 2, 1]
    broker.restart()
    with broker.connect() as c:
        assert c.transact(*parts)[1] and counts(c) == [0, 2, 1]
        assert c.transact(*numbered(3))[1] is False and counts(c) == [0, 4, 2]


def test_a_retry_in_part_is_refused(conn):
    conn.publish_ok("out", protocol.message(b"x", producer=(7, 1)))
    refused(conn, protocol.REFUSED, *numbered(1))
    assert counts(conn) == [0, 1, 0]


def test_it_survives_as_a_whole(broker):
    with broker.connect() as c:
        for name in ("in", "out", "log"):
            c.create(name)
        c.publish_ok("in", b"a")
        c.transact(ack_part(*c.lease("in")), publish_part("out", record(b"A")), publish_part("log", record(b"did")))
    broker.restart()
    with broker.connect() as c:
        assert counts(c) == [0, 1, 1]


def test_order_with_other_publishes(conn):
    first = conn.publish_request("out", [record(b"1")])
    middle = conn.request(protocol.TRANSACT, publish_part("out", record(b"2")))
    last = conn.publish_request("out", [record(b"3")])
    for request in (last, middle, first):
        conn.answer(request)
    assert [m.body for m in conn.lease("out", max=9)] == [b"1", b"2", b"3"]


def test_limits(conn):
    assert len(conn.transact(*[publish_part("out", record(b"x"))] * 1024)[0]) == 1024
    refused(conn, protocol.TOO_LARGE, *[publish_part("out", record(b"x"))] * 1025)
    one = struct.pack("<QII", 1 << 60, 1, 0)
    refused(conn, protocol.TOO_LARGE, part(2, data=one * 600), part(2, data=one * 600))
    assert conn.describe("out")[0]["messages"] == 1024


GOOD = record(b"x")


@pytest.mark.parametrize(
    "code,body",
    [
        (protocol.INVALID_ARGUMENT, b""),
        (protocol.MALFORMED, b"\1"),
        (protocol.MALFORMED, publish_part("out", GOOD)[:-8]),
        (protocol.MALFORMED, publish_part("out", GOOD) + bytes(8)),
        (protocol.MALFORMED, publish_part("out", GOOD) + bytes(16)),
        (protocol.MALFORMED, part(4, b"out", GOOD)),
        (protocol.MALFORMED, part(1, b"out", GOOD, delay_ms=1)),
        (protocol.MALFORMED, part(1, b"out", GOOD, flags=1)),
        (protocol.MALFORMED, part(2, b"out", struct.pack("<QII", 1, 1, 0))),
        (protocol.MALFORMED, part(2, data=struct.pack("<QII", 1, 1, 1))),
        (protocol.MALFORMED, part(2, data=bytes(15))),
        (protocol.MALFORMED, part(2, data=struct.pack("<QII", 1, 1, 0), delay_ms=5)),
        (protocol.MALFORMED, struct.pack("<BBHIII", 1, 0, 3, 0xFFFFFFFF, 0, 0) + b"out" + bytes(5)),
        (protocol.MALFORMED, struct.pack("<BBHIII", 1, 0, 0xFFFF, 0, 0, 0)),
        (protocol.MALFORMED, part(1, b"out", GOOD[:-8])),
        (protocol.MALFORMED, part(1, b"out", b"\xff" * 48)),
        (protocol.INVALID_ARGUMENT, part(1, b"out", b"")),
        (protocol.INVALID_ARGUMENT, part(1, b"a b", GOOD)),
        (protocol.INVALID_ARGUMENT, part(1, b"", GOOD)),
        (protocol.INVALID_ARGUMENT, part(2, data=b"")),
        (protocol.INVALID_ARGUMENT, part(2, data=struct.pack("<QII", 1, 0, 0))),
        (protocol.INVALID_ARGUMENT, part(3, data=struct.pack("<QII", 1, 1, 0), flags=2)),
    ],
)
def test_broken_bodies(conn, code, body):
    refused(conn, code, body)
    if code == protocol.MALFORMED:
        refused(conn, code, publish_part("log", GOOD) + body)
    assert counts(conn) == [0, 0, 0]
    conn.ask(protocol.PING)
