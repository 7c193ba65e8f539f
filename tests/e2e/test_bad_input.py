"""Bad input: a clear error or a bounded wait, never memory without bound, never harm to others."""

import os
import random
import socket
import struct
import time

import msgpack
import protocol
import pytest
from harness import MIB, Broker, until
from protocol import PREAMBLE, BrokerError, Closed, frame_bytes, record


@pytest.fixture
def raw(broker):
    """A greeted connection, and a check afterwards that the broker is fine."""
    with broker.connect() as c:
        c.create("q")
        yield c
    with broker.connect() as c:
        c.ask(protocol.PING)


def connection_error(conn, code):
    error = conn.wait_closed()
    assert error is not None, "it was closed without a word"
    assert (error.code, error.scope) == (code, "connection"), error
    assert len(error.text) > 10
    return error


# ---- before HELLO


def test_garbage(broker):
    for garbage in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"BRKE\1\0\0\0", bytes(64)):
        with broker.connect(hello=False) as c:
            c.sock.sendall(garbage)
            connection_error(c, protocol.MALFORMED)


def test_random_garbage_of_many(broker):
    chance = random.Random(7)
    for _ in range(200):
        with broker.connect(hello=False) as c:
            try:
                start = PREAMBLE if chance.random() < 0.7 else b""
                c.sock.sendall(start + chance.randbytes(chance.randrange(1, 300)))
                c.sock.shutdown(socket.SHUT_WR)
                c.wait_closed()
            except (ConnectionError, BrokenPipeError):
                pass
    with broker.connect() as c:
        assert c.stats()["connections"] == 1


def test_other_version(broker):
    with broker.connect(hello=False) as c:
        c.sock.sendall(b"BRKD\x09\x00\x00\x00" + frame_bytes(protocol.HELLO, {}, 1))
        connection_error(c, protocol.UNSUPPORTED_VERSION)


def test_commands_before_hello(broker):
    for kind in (protocol.PING, protocol.QUEUE_LIST, protocol.PUBLISH, 0x77):
        with broker.connect(hello=False) as c:
            c.sock.sendall(PREAMBLE + frame_bytes(kind, b"", 1))
            with pytest.raises((BrokerError, Closed)) as e:
                c.answer(1)
            assert e.type is BrokerError and e.value.code == protocol.UNAUTHENTICATED and e.value.scope == "connection"
            c.wait_closed()


def test_large_frame_before_hello(broker):
    with broker.connect(hello=False) as c:
        c.sock.sendall(PREAMBLE + struct.pack("<IBBHII", 8193, protocol.HELLO, 0, 0, 1, 0))
        with pytest.raises(BrokerError) as e:
            c.answer(1)
        assert e.value.code == protocol.TOO_LARGE and e.value.scope == "connection"
        c.wait_closed()


def test_second_hello(raw):
    with pytest.raises(BrokerError) as e:
        raw.ask(protocol.HELLO, {"client": "again"})
    assert (e.value.code, e.value.scope) == (protocol.INVALID_ARGUMENT, "request")
    raw.ask(protocol.PING)


def test_hello_byte_by_byte(broker):
    with broker.connect(hello=False) as c:
        for byte in PREAMBLE + frame_bytes(protocol.HELLO, {"client": "slow"}, 1):
            c.sock.sendall(bytes([byte]))
        assert msgpack.unpackb(c.answer(1).body)["server"] == "brokerd"


def test_half_a_frame_for_ever():
    with Broker(tcp__hello_timeout="300ms", tcp__frame_timeout="300ms") as broker:
        conns = []
        for data in (b"", b"BR", PREAMBLE, PREAMBLE + frame_bytes(protocol.HELLO, {"client": "x"}, 1)[:-1]):
            c = broker.connect(hello=False)
            c.sock.sendall(data)
            conns.append(c)
        for greeted in (b"\x05", frame_bytes(protocol.PING, b"", 9)[:15], frame_bytes(protocol.PUBLISH, bytes(1000), 9)[:500]):
            c = broker.connect()
            c.sock.sendall(greeted)
            conns.append(c)
        for c in conns:
            c.wait_closed()
            c.close()


# ---- frames


def test_frame_over_the_limit(raw):
    raw.sock.sendall(struct.pack("<IBBHII", raw.welcome["max_frame"] + 1, protocol.PUBLISH, 0, 0, 5, 0))
    with pytest.raises(BrokerError) as e:
        raw.answer(5)
    assert (e.value.code, e.value.scope) == (protocol.TOO_LARGE, "connection")
    raw.wait_closed()


def test_huge_lengths_take_no_memory(broker):
    before, conns = broker.rss(), []
    for _ in range(50):
        c = broker.connect()
        c.sock.sendall(struct.pack("<IBBHII", c.welcome["max_frame"], protocol.PUBLISH, 0, 0, 5, 0) + b"x" * 100)
        conns.append(c)
    with broker.connect() as c:
        c.ask(protocol.PING)
    assert broker.rss() - before < 64 * MIB, "memory for bytes that never came"
    for c in conns:
        c.close()


def test_reserved_bytes(raw):
    raw.sock.sendall(struct.pack("<IBBHII", 0, protocol.PING, 0, 1, 5, 0))
    error = raw.wait_closed() if 5 not in raw.answers else None
    assert error is None or error.code == protocol.MALFORMED


def test_correlation_zero(raw):
    raw.send(protocol.PING, b"", 0)
    connection_error(raw, protocol.MALFORMED)


def test_unknown_commands(raw):
    for kind in (0x04, 0x2F, 0x35, 0x3F, 0x00, 0x7F):
        with pytest.raises(BrokerError) as e:
            raw.ask(kind, {"x": 1})
        assert (e.value.code, e.value.scope) == (protocol.UNKNOWN_COMMAND, "request"), hex(kind)
    raw.ask(protocol.PING)


def test_unknown_keys_are_skipped(raw):
    raw.create("other", some_future_setting={"a": [1, 2]}, lease_ms=500)
    assert raw.describe("other")[0]["lease_ms"] == 500


# ---- control bodies

WRONG = [
    (protocol.QUEUE_CREATE, {}),
    (protocol.QUEUE_CREATE, {"queue": 7}),
    (protocol.QUEUE_CREATE, {"queue": None}),
    (protocol.QUEUE_CREATE, {"queue": ["a"]}),
    (protocol.QUEUE_CREATE, {"queue": b"bytes"}),
    (protocol.QUEUE_CREATE, {"queue": ""}),
    (protocol.QUEUE_CREATE, {"queue": "a b"}),
    (protocol.QUEUE_CREATE, {"queue": ".hidden"}),
    (protocol.QUEUE_CREATE, {"queue": "a\0b"}),
    (protocol.QUEUE_CREATE, {"queue": "ü"}),
    (protocol.QUEUE_CREATE, {"queue": "x" * 256}),
    (protocol.QUEUE_CREATE, {"queue": "x", "lease_ms": -1}),
    (protocol.QUEUE_CREATE, {"queue": "x", "lease_ms": 0xFFFFFFFF}),
    (protocol.QUEUE_CREATE, {"queue": "x", "lease_ms": 1.5}),
    (protocol.QUEUE_CREATE, {"queue": "x", "lease_ms": "30s"}),
    (protocol.QUEUE_CREATE, {"queue": "x", "retention": "forever"}),
    (protocol.QUEUE_CREATE, {"queue": "x", "retention": 1}),
    (protocol.QUEUE_CREATE, {"queue": "x", "sync": "sometimes"}),
    (protocol.QUEUE_LIST, {"limit": 0}),
    (protocol.QUEUE_LIST, {"limit": 1001}),
    (protocol.QUEUE_DESCRIBE, {}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "a b"}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "start": "middle"}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "start": "seq"}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "start": "seq", "value": "1"}),
    (protocol.LEASE, {"queue": "q", "max": 0}),
    (protocol.LEASE, {"queue": "q", "max": 1025}),
    (protocol.LEASE, {"queue": "q", "wait_ms": 3600001}),
    (protocol.LEASE, {"queue": "q", "lease_ms": 86400001}),
    (protocol.SUBSCRIBE, {"queue": "q", "priority": 10}),
    (protocol.SUBSCRIBE, {"queue": "q", "max_unsettled": -1}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "filter": "a.b"}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "filter": {"topic": "a..b"}}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "filter": {"topic": 5}}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "filter": {"key": b"bytes"}}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "filter": {"key": "a\0b"}}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "filter": {"key": "x" * 65536}}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "filter": {"headers": ["a"]}}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "filter": {"headers": {"a": 1}}}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "filter": {"headers": {"a": "x" * 65536}}}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "filter": {"headers": {str(i): "" for i in range(33)}}}),
    (protocol.GROUP_CREATE, {"queue": "q", "group": "g", "single_active": 1}),
    (protocol.GROUP_ALTER, {"queue": "q"}),
    (protocol.BIND, {"queue": "q"}),
    (protocol.BIND, {"queue": "q", "pattern": ""}),
    (protocol.BIND, {"queue": "q", "pattern": "a b"}),
    (protocol.BIND, {"queue": "q", "pattern": ">.a"}),
    (protocol.BIND, {"queue": "q", "pattern": "x" * 256}),
    (protocol.BIND, {"queue": "q", "pattern": ".".join("a" * 33)}),
    (protocol.UNBIND, {"queue": "q", "pattern": 5}),
    (protocol.SCAN, {"queue": "q"}),
    (protocol.SCAN, {"queue": "q", "action": "look"}),
    (protocol.SCAN, {"queue": "q", "action": "count", "target": "q"}),
    (protocol.SCAN, {"queue": "q", "action": "move"}),
    (protocol.SCAN, {"queue": "q", "action": "count", "state": "old"}),
    (protocol.SCAN, {"queue": "q", "action": "count", "max_messages": 0}),
    (protocol.SCAN, {"queue": "q", "action": "count", "max_messages": 1000001}),
    (protocol.SCAN, {"queue": "q", "action": "count", "max_scanned": 1000001}),
    (protocol.SCAN, {"queue": "q", "action": "count", "from_seq": 5, "to_seq": 4}),
    (protocol.SCAN, {"queue": "q", "action": "count", "from_ms": 5, "to_ms": 4}),
    (protocol.SCAN, {"queue": "q", "action": "count", "filter": {"topic": "*a"}}),
    (protocol.PEEK, {"queue": "q", "max_messages": 1025}),
    (protocol.PEEK, {"queue": "q", "from_seq": -1}),
    (protocol.RESCHEDULE, {"queue": "q", "seq": 1}),
    (protocol.RESCHEDULE, {"queue": "q", "due_ms": 1}),
    (protocol.RESCHEDULE, {"queue": "q", "seq": 0, "due_ms": 1}),
    (protocol.RESCHEDULE, {"queue": "q", "seq": 1, "due_ms": 1, "delay_ms": 1}),
    (protocol.RESCHEDULE, {"queue": "q", "seq": 1, "delay_ms": 1 << 62}),
    (protocol.BACKUP_READ, {"bytes": 1}),
    (protocol.BACKUP_READ, {"file": 0, "bytes": 0}),
]


@pytest.mark.parametrize("kind,body", WRONG)
def test_wrong_arguments_cost_the_request(raw, kind, body):
    with pytest.raises(BrokerError) as e:
        raw.ask(kind, body)
    assert (e.value.code, e.value.scope) == (protocol.INVALID_ARGUMENT, "request"), e.value
    raw.ask(protocol.PING)


@pytest.mark.parametrize(
    "body",
    [b"\x90", b"\xc0", b"\x01", b"\x81\x01\x01", b"\x81\xa1", b"\x80\x80", b"\xc1", b"\x81\xa1a" + b"\x91" * 1000, b"\xdf\xff\xff\xff\xff"],
)
def test_broken_maps(raw, body):
    with pytest.raises(BrokerError) as e:
        raw.ask(protocol.QUEUE_CREATE, body)
    assert e.value.code in (protocol.MALFORMED, protocol.INVALID_ARGUMENT) and e.value.scope == "request"
    raw.ask(protocol.PING)


def test_queue_name_of_64_kib(raw):
    for size in (65536, 65535, 300):
        with pytest.raises(BrokerError) as e:
            raw.create("x" * size)
        assert (e.value.code, e.value.scope) == (protocol.INVALID_ARGUMENT, "request")
        assert len(e.value.text) < 2000, "the error does not repeat it all"
    with pytest.raises(BrokerError) as e:
        raw.publish("x" * 65535, b"body")
    assert e.value.scope == "request"


# ---- binary bodies


def refused_publish(conn, body):
    """Either the whole frame is refused, or every record of it."""
    try:
        ranges = conn.publish_answer(conn.request(protocol.PUBLISH, body))
    except BrokerError as e:
        assert e.scope == "request" and e.code in (protocol.MALFORMED, protocol.INVALID_ARGUMENT), e
        return
    assert ranges and all(r.code == protocol.MALFORMED for r in ranges), [r.code for r in ranges]


def test_broken_publish_bodies(raw):
    name = protocol.publish_body("q", [])
    good = record(b"hello", key=b"k")

    def patched(offset, fmt, value):
        data = bytearray(good)
        struct.pack_into(fmt, data, offset, value)
        return bytes(data)

    for body in [
        b"",
        b"\x01",
        b"\xff\xff",
        b"\x00\x00" + bytes(6) + good,
        name,
        name + good[:-8],
        name + good[:39],
        name + patched(0, "<I", 0),
        name + patched(0, "<I", 39),
        name + patched(0, "<I", 0xFFFFFFFF),
        name + patched(0, "<I", len(good) + 8),
        name + patched(8, "<B", 2),
        name + patched(8, "<B", 0),
        name + patched(9, "<B", 0x80),
        name + patched(9, "<B", 0x07),
        name + patched(10, "<B", 10),
        name + patched(11, "<B", 255),
        name + patched(32, "<H", 0xFFFF),
        name + patched(34, "<H", 300),
        name + patched(36, "<I", 0xFFFFFFFF),
        name + patched(36, "<I", 3),
    ]:
        refused_publish(raw, body)
    assert raw.describe("q")[0]["messages"] == 0
    raw.publish_ok("q", b"fine")


def test_broken_settles(raw):
    for kind, head in ((protocol.ACK, b""), (protocol.NACK, bytes(8)), (protocol.EXTEND, struct.pack("<II", 1000, 0))):
        for ranges in (b"", b"\0" * 8, b"\0" * 15, struct.pack("<QII", 1, 0, 0), struct.pack("<QII", 1, 1 << 21, 0), struct.pack("<QII", 1, 1, 0) * 1025):
            with pytest.raises(BrokerError) as e:
                raw.answer(raw.request(kind, head + ranges))
            assert e.value.scope == "request" and e.value.code in (protocol.MALFORMED, protocol.INVALID_ARGUMENT, protocol.TOO_LARGE, protocol.LIMIT_REACHED)
    assert raw.ack(1 << 63) == (0, [1 << 63])
    for first in (0, 1 << 63, (1 << 64) - 1):
        try:
            raw.answer(raw.request(protocol.ACK, struct.pack("<QII", first, 1 << 20, 0)))
        except BrokerError as e:
            assert (e.code, e.scope) == (protocol.INVALID_ARGUMENT, "request"), e


def test_random_transactions(raw):
    """Whatever the bytes: an answer, and the connection goes on."""
    chance = random.Random(11)
    raw.publish_ok("q", b"x")
    receipt = raw.lease("q")[0].receipt
    good = protocol.publish_part("q", record(b"hello", key=b"k")) + protocol.part(2, data=struct.pack("<QII", receipt + 1, 1, 0))
    for _ in range(2000):
        body = bytearray(good * chance.randrange(1, 3))
        for _ in range(chance.randrange(1, 4)):
            body[chance.randrange(len(body))] = chance.choice((0, 1, 2, 3, 8, 0x7F, 0xFF, chance.randrange(256)))
        body = body[: chance.randrange(len(body) + 1)] if chance.random() < 0.3 else body
        try:
            raw.transact(bytes(body), flags=chance.choice((0, 0, 1, 4)))
        except BrokerError as e:
            assert e.scope == "request" and e.code not in (protocol.UNKNOWN_COMMAND, 30), e
    raw.ask(protocol.PING)


def test_broken_credit(raw):
    s = raw.subscribe("q", credit=0)
    raw.send(protocol.CREDIT, b"\x01", stream=s)
    try:
        raw.ask(protocol.PING)
    except (BrokerError, Closed):
        return  # a one-way frame has no other way to be refused
    raw.credit(s, 0xFFFFFFFF, (1 << 64) - 1)
    raw.credit(s, 0xFFFFFFFF, (1 << 64) - 1)
    raw.publish_ok("q", b"x")
    raw.receive(s)


# ---- greedy peers


def test_slow_reader_with_endless_credit(broker):
    with broker.connect() as c:
        c.create("big")
        for _ in range(30):
            c.publish_ok("big", *[os.urandom(1 << 16)] * 32)  # 60 MiB
        before = broker.rss()
        slow = [broker.connect(receive_buffer=4096) for _ in range(8)]
        for i, s in enumerate(slow):
            c.ask(protocol.GROUP_CREATE, {"queue": "big", "group": f"g{i}"})
            s.send(protocol.SUBSCRIBE, {"queue": "big", "group": f"g{i}"}, 99, 1)
            s.send(protocol.CREDIT, struct.pack("<IIQ", 0xFFFFFFFF, 0, (1 << 64) - 1), stream=1)
        peak = 0
        for _ in range(40):
            c.ask(protocol.PING)
            peak = max(peak, broker.rss() - before)
            time.sleep(0.02)
        assert peak < 200 * MIB, f"{peak / MIB:.0f} MiB for readers that do not read"
        for s in slow:
            s.close()
        assert c.lease("big", max=1)[0].seq == 1


def test_slow_reader_gets_everything(broker):
    with broker.connect() as c:
        c.create("big")
        c.publish_ok("big", *[b"%d" % i + bytes(60000) for i in range(200)])
        with broker.connect(receive_buffer=4096) as slow:
            s = slow.subscribe("big", credit=0xFFFFFFFF)
            got = slow.receive(s, 200, timeout=60)
            assert [m.seq for m in got] == list(range(1, 201))


def test_peer_that_never_reads_its_answers(broker):
    with broker.connect() as c:
        c.create("q")
        c.publish_ok("q", bytes(1 << 20))
        before = broker.rss()
        with broker.connect(receive_buffer=4096) as greedy:
            greedy.sock.settimeout(2)
            request = frame_bytes(protocol.QUEUE_DESCRIBE, {"queue": "q"}, 1)
            sent = 0
            try:
                while sent < 100 * MIB:
                    sent += greedy.sock.send(request * 1000)
            except (TimeoutError, ConnectionError):
                pass
            c.ask(protocol.PING)
            assert broker.rss() - before < 128 * MIB


def test_thousands_of_connections(broker):
    conns = []
    with broker.connect() as c:
        c.create("q")
        before = broker.rss()
        for _ in range(2000):
            conns.append(broker.connect_unix())
        assert c.stats()["connections"] == 2001
        for conn in conns[::100]:
            conn.ask(protocol.PING)
        assert broker.rss() - before < 64 * MIB
        for conn in conns:
            conn.close()
        until(lambda: c.stats()["connections"] == 1)


def test_connection_limit():
    with Broker(tcp__max_connections="5") as broker:
        conns = [broker.connect() for _ in range(5)]
        extra = broker.connect(hello=False)
        error = None
        try:
            extra.sock.sendall(PREAMBLE)
            error = extra.wait_closed()
        except ConnectionError:
            pass
        assert error is None or error.code == protocol.LIMIT_REACHED
        conns.pop().close()
        with until(lambda: try_connect(broker)) as c:
            c.ask(protocol.PING)
        for c in conns:
            c.close()


def try_connect(broker):
    try:
        return broker.connect(timeout=2)
    except (Closed, BrokerError, OSError):
        return None


def test_subscription_limit(raw):
    made = 0
    with pytest.raises(BrokerError) as e:
        for stream in range(1, 100000):
            raw.ask(protocol.SUBSCRIBE, {"queue": "q"}, stream)
            made = stream
    assert (e.value.code, e.value.scope) == (protocol.LIMIT_REACHED, "request") and made >= 10
    raw.ask(protocol.PING)


def test_heartbeats(broker):
    with broker.connect(hello=False) as c:
        c.sock.sendall(PREAMBLE)
        assert c.ask(protocol.HELLO, {"heartbeat_ms": 100})["heartbeat_ms"] == 100
        until(lambda: c.pump(time.monotonic() + 0.05) and c.heartbeats >= 1)
        c.send(protocol.HEARTBEAT)
        begin = time.monotonic()
        c.wait_closed()  # we are silent: lost after three intervals
        assert 0.2 <= time.monotonic() - begin < 5
