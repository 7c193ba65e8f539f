"""A client of the native protocol, written from docs/PROTOCOL.md alone: it proves the document.

It is made for tests: blocking, with a deadline on everything, and it can send what no decent client would.
"""

import socket
import struct
import time

import msgpack

PREAMBLE = b"BRKD\x01\x00\x00\x00"

HELLO, PING, STATS = 0x01, 0x02, 0x03
QUEUE_CREATE, QUEUE_ALTER, QUEUE_DELETE, QUEUE_PAUSE, QUEUE_RESUME = 0x10, 0x11, 0x12, 0x13, 0x14
QUEUE_PURGE, QUEUE_LIST, QUEUE_DESCRIBE = 0x15, 0x16, 0x17
GROUP_CREATE, GROUP_DELETE, GROUP_SEEK, GROUP_ALTER = 0x18, 0x19, 0x1A, 0x1B
BIND, UNBIND, SCAN, RESCHEDULE = 0x1C, 0x1D, 0x1E, 0x1F
SUBSCRIBE, UNSUBSCRIBE, LEASE, PEEK = 0x20, 0x21, 0x22, 0x23
PUBLISH, ACK, NACK, EXTEND, TRANSACT = 0x30, 0x31, 0x32, 0x33, 0x34
BACKUP_BEGIN, BACKUP_READ, BACKUP_END = 0x50, 0x51, 0x52
CREDIT, HEARTBEAT, GOAWAY, DELIVER, SUBSCRIPTION_ENDED = 0x40, 0x41, 0x42, 0x43, 0x44
ERROR = 0xFF
RESPONSE = 0x80

INVALID_ARGUMENT, MALFORMED, UNKNOWN_COMMAND, UNSUPPORTED_VERSION, TOO_LARGE = 1, 2, 3, 4, 5
QUEUE_NOT_FOUND, QUEUE_EXISTS, GROUP_NOT_FOUND, GROUP_EXISTS = 6, 7, 8, 9
SUBSCRIPTION_NOT_FOUND, SUBSCRIPTION_EXISTS, STALE_RECEIPT = 10, 11, 12
QUEUE_FULL, UNROUTABLE, MESSAGE_NOT_FOUND, REFUSED = 13, 31, 32, 33
DISK_FULL, OVERLOADED, LIMIT_REACHED, DAMAGED, UNAUTHENTICATED, SHUTTING_DOWN = 15, 16, 17, 18, 19, 21

SYNC_DEFAULT, SYNC_ALWAYS, SYNC_INTERVAL, SYNC_NONE = 0, 1, 2, 3
UNROUTABLE_OK = 4  # flag of PUBLISH and TRANSACT
NACK_REJECT = 1  # flag of NACK and of a transaction's nacks
HAS_DUE, HAS_EXPIRE, HAS_PRODUCER, BY_TOPIC, DUE_IS_DELAY, EXPIRE_IS_TTL = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20  # of records


class BrokerError(Exception):
    """An ERROR frame."""

    def __init__(self, frame):
        said = msgpack.unpackb(frame.body)
        self.code, self.text = said["code"], said["text"]
        self.scope, self.retry_ms = said["scope"], said["retry_ms"]
        self.stream, self.correlation = frame.stream, frame.correlation
        super().__init__(f"{self.code} ({self.scope}): {self.text}")


class Closed(Exception):
    """The broker closed the connection."""


class Frame:
    def __init__(self, kind, flags, correlation, stream, body):
        self.kind, self.flags, self.correlation, self.stream, self.body = kind, flags, correlation, stream, body


class Range:
    """One range of a PUBLISH answer."""

    def __init__(self, data):
        self.first_seq, self.first_index, self.count, self.code, self.flags, self.retry_ms = struct.unpack("<QIIHHI", data)

    @property
    def duplicate(self):
        return bool(self.flags & 1)

    @property
    def routed(self):
        return bool(self.flags & 2)


class Message:
    """A delivered record taken apart."""

    def __init__(self, record, receipt, attempt, seq=None):
        """seq: of the batch, where it has seqs."""
        fields = struct.unpack_from("<IIBBBBIQQHHI", record)
        self.length, self.crc, self.type, self.flags, self.priority, id_len = fields[:6]
        self.queue, self.record_seq, self.time_ms, key_len, topic_len, headers_len = fields[6:]
        assert self.type == 1 and self.length <= len(record), "not a message record"
        assert not self.flags & (DUE_IS_DELAY | EXPIRE_IS_TTL), "a stored record has times, not delays"
        self.seq = self.record_seq if seq is None else seq
        self.receipt, self.attempt = receipt, attempt
        at = 40
        self.due_ms = self.expire_ms = None
        if self.flags & HAS_DUE:
            self.due_ms = struct.unpack_from("<Q", record, at)[0]
            at += 8
        if self.flags & HAS_EXPIRE:
            self.expire_ms = struct.unpack_from("<Q", record, at)[0]
            at += 8
        self.id = record[at : at + id_len]
        self.message_id = self.id[16:] if self.flags & HAS_PRODUCER else self.id
        at += id_len
        self.key = record[at : at + key_len]
        at += key_len
        self.topic = record[at : at + topic_len].decode()
        at += topic_len
        self.headers = msgpack.unpackb(record[at : at + headers_len]) if headers_len else {}
        at += headers_len
        assert at <= self.length, "the lengths of a record pass its end"
        self.body = record[at : self.length]
        if self.length < 4096:
            assert self.crc == crc32c(record[8 : self.length]), "wrong CRC in a delivered record"


def _crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283


def padded(data):
    return data + bytes(-len(data) % 8)


def record(body=b"", key=b"", headers=None, producer=None, ident=b"", flags=0, priority=0, topic="", **times):
    """A message as a publisher writes it, padded. producer: (producer, number); times: due_ms or delay_ms, expire_ms or
    ttl_ms; flags: more of them, also wrong ones."""
    packed = msgpack.packb(headers) if headers else b""
    head = b""
    for name, bits in (("due_ms", HAS_DUE), ("delay_ms", HAS_DUE | DUE_IS_DELAY)):
        if name in times:
            head, flags = head + struct.pack("<Q", times.pop(name)), flags | bits
    for name, bits in (("expire_ms", HAS_EXPIRE), ("ttl_ms", HAS_EXPIRE | EXPIRE_IS_TTL)):
        if name in times:
            head, flags = head + struct.pack("<Q", times.pop(name)), flags | bits
    assert not times, f"unknown: {times}"
    if producer:
        ident, flags = struct.pack("<QQ", *producer) + ident, flags | HAS_PRODUCER
    rest = head + ident + key + topic.encode() + packed + body
    fixed = struct.pack(
        "<IIBBBBIQQHHI", 40 + len(rest), 0, 1, flags, priority, len(ident), 0, 0, 0, len(key), len(topic), len(packed)
    )
    return padded(fixed + rest)


def publish_body(queue, records):
    name = queue.encode() if isinstance(queue, str) else queue
    return padded(struct.pack("<H", len(name)) + name) + b"".join(records)


def frame_bytes(kind, body=b"", correlation=0, stream=0, flags=0):
    if isinstance(body, dict):
        body = msgpack.packb(body)
    return struct.pack("<IBBHII", len(body), kind, flags, 0, correlation, stream) + body


def receipt_ranges(receipts):
    """Consecutive receipts as ranges."""
    ranges = []
    for receipt in sorted(receipts):
        if ranges and ranges[-1][0] + ranges[-1][1] == receipt:
            ranges[-1][1] += 1
        else:
            ranges.append([receipt, 1])
    return b"".join(struct.pack("<QII", first, count, 0) for first, count in ranges)


def records_of(body, at, count, receipts, attempts, seqs):
    messages = []
    for i in range(count):
        length = struct.unpack_from("<I", body, at)[0]
        messages.append(Message(body[at : at + length], receipts[i], attempts[i], seqs[i]))
        at += (length + 7) // 8 * 8
    assert at == len(body), "the records do not fill their frame"
    return messages


def batch(body):
    """The messages of a DELIVER frame or a LEASE answer."""
    count, flags, first_receipt = struct.unpack_from("<IIQ", body)
    assert not flags & ~3, "unknown flags of a batch"
    at, attempts, seqs = 16, [1] * count, [None] * count
    if flags & 1:
        attempts = list(struct.unpack_from(f"<{count}I", body, at))
        at += (4 * count + 7) // 8 * 8
    if flags & 2:
        seqs = list(struct.unpack_from(f"<{count}Q", body, at))
        at += 8 * count
    receipts = [first_receipt + i if first_receipt else 0 for i in range(count)]
    return records_of(body, at, count, receipts, attempts, seqs)


def part(kind, name=b"", data=b"", delay_ms=0, flags=0):
    """A part of a transaction."""
    head = struct.pack("<BBHIII", kind, 0, len(name), len(data), delay_ms, flags)
    return head + padded(name) + padded(data)


def publish_part(queue, *records):
    """queue None: by topic."""
    return part(1, (queue or "").encode(), b"".join(records))


def ack_part(*messages):
    return part(2, data=receipt_ranges(m.receipt for m in messages))


def nack_part(*messages, delay_ms=0, reject=False):
    return part(3, data=receipt_ranges(m.receipt for m in messages), delay_ms=delay_ms, flags=NACK_REJECT if reject else 0)


class Connection:
    def __init__(self, address, hello=True, timeout=20.0, receive_buffer=None):
        """address: (host, port), or the path of a unix socket."""
        self.timeout = timeout
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        if not isinstance(address, str):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.correlation = 0
        self.answers = {}  # correlation -> frame
        self.streams = {}  # stream -> messages that came
        self.ended = {}  # stream -> {"code", "text"}
        self.goaway = None
        self.heartbeats = 0
        self.welcome = None
        if hello:
            self.sock.sendall(PREAMBLE)
            self.welcome = self.ask(HELLO, {"client": "e2e"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    # ---- frames

    def send(self, kind, body=b"", correlation=0, stream=0, flags=0):
        self.sock.sendall(frame_bytes(kind, body, correlation, stream, flags))

    def request(self, kind, body=b"", stream=0, flags=0):
        """Send a request and return its correlation."""
        self.correlation += 1
        self.send(kind, body, self.correlation, stream, flags)
        return self.correlation

    def read_frame(self, deadline):
        """The next frame, or None at the deadline (time.monotonic())."""
        while True:
            if len(self.buffer) >= 16:
                length, kind, flags, reserved, correlation, stream = struct.unpack_from("<IBBHII", self.buffer)
                assert reserved == 0, "the reserved bytes of a frame are not zero"
                if len(self.buffer) >= 16 + length:
                    body = bytes(self.buffer[16 : 16 + length])
                    del self.buffer[: 16 + length]
                    return Frame(kind, flags, correlation, stream, body)
            left = deadline - time.monotonic()
            self.sock.settimeout(max(left, 0.001))
            try:
                data = self.sock.recv(1 << 20)
            except (TimeoutError, BlockingIOError):
                if left <= 0:
                    return None
                continue
            except ConnectionResetError:
                data = b""
            finally:
                self.sock.settimeout(self.timeout)
            if not data:
                raise Closed("the broker closed the connection")
            self.buffer += data

    def pump(self, deadline):
        """Take one frame and put it where it belongs. False at the deadline."""
        frame = self.read_frame(deadline)
        if frame is None:
            return False
        if frame.kind == DELIVER:
            self.streams.setdefault(frame.stream, []).extend(batch(frame.body))
        elif frame.kind == SUBSCRIPTION_ENDED:
            self.ended[frame.stream] = msgpack.unpackb(frame.body)
        elif frame.kind == GOAWAY:
            self.goaway = msgpack.unpackb(frame.body)
        elif frame.kind == HEARTBEAT:
            self.heartbeats += 1
        elif frame.kind == ERROR and frame.correlation == 0:
            raise BrokerError(frame)
        elif frame.kind & RESPONSE:
            assert frame.correlation not in self.answers, "a second answer to one request"
            self.answers[frame.correlation] = frame
        return True

    def answer(self, correlation, timeout=None):
        deadline = time.monotonic() + (timeout or self.timeout)
        while correlation not in self.answers:
            if not self.pump(deadline):
                raise TimeoutError(f"no answer to request {correlation}")
        frame = self.answers.pop(correlation)
        if frame.kind == ERROR:
            raise BrokerError(frame)
        return frame

    def ask(self, kind, body=b"", stream=0, flags=0, timeout=None):
        """A request whose answer is a map."""
        frame = self.answer(self.request(kind, body, stream, flags), timeout)
        assert frame.kind == kind | RESPONSE
        return msgpack.unpackb(frame.body) if frame.body else {}

    def wait_closed(self, timeout=20.0):
        """Read until the broker closes; the connection-scope error that came before, or None."""
        deadline, error = time.monotonic() + timeout, None
        while True:
            try:
                if not self.pump(deadline):
                    raise TimeoutError("the broker does not close the connection")
            except BrokerError as e:
                error = e
            except Closed:
                return error

    # ---- publish

    def publish_topics(self, *records, unroutable_ok=False, sync=SYNC_DEFAULT):
        """Publish records (made with flags=BY_TOPIC and a topic) to their topics; the answer's ranges."""
        flags = sync | (UNROUTABLE_OK if unroutable_ok else 0)
        return self.publish_answer(self.request(PUBLISH, publish_body("", records), flags=flags))

    def transact(self, *parts, flags=0):
        """(seqs, was it done before?)"""
        frame = self.answer(self.request(TRANSACT, b"".join(parts), flags=flags))
        assert frame.kind == TRANSACT | RESPONSE and not frame.flags & ~1
        return list(struct.unpack(f"<{len(frame.body) // 8}Q", frame.body)), bool(frame.flags & 1)

    def publish_request(self, queue, records, sync=SYNC_DEFAULT):
        return self.request(PUBLISH, publish_body(queue, records), flags=sync)

    def publish_answer(self, correlation, timeout=None):
        body = self.answer(correlation, timeout).body
        return [Range(body[i : i + 24]) for i in range(0, len(body), 24)]

    def publish(self, queue, *records, sync=SYNC_DEFAULT):
        """Publish records (or bodies) in one frame; the answer's ranges."""
        made = [r if isinstance(r, _Record) else record(r) for r in records]
        return self.publish_answer(self.publish_request(queue, made, sync))

    def publish_ok(self, queue, *records, sync=SYNC_DEFAULT):
        """The same, all of them stored: their seqs."""
        seqs = []
        for r in self.publish(queue, *records, sync=sync):
            assert r.code == 0, f"refused with code {r.code}"
            seqs += range(r.first_seq, r.first_seq + r.count)
        assert len(seqs) == len(records)
        return seqs

    # ---- consume

    def subscribe(
        self, queue, group=None, lease_ms=None, on_send=None, credit=100, credit_bytes=1 << 30, stream=None, **more
    ):
        """more: priority, max_unsettled."""
        stream = stream or max(self.streams, default=0) + 1
        body = {"queue": queue, **more}
        for key, value in (("group", group), ("lease_ms", lease_ms), ("on_send", on_send)):
            if value is not None:
                body[key] = value
        self.streams.setdefault(stream, [])
        self.ask(SUBSCRIBE, body, stream)
        if credit:
            self.credit(stream, credit, credit_bytes)
        return stream

    def credit(self, stream, messages, size=1 << 30):
        self.send(CREDIT, struct.pack("<IIQ", messages, 0, size), stream=stream)

    def unsubscribe(self, stream):
        self.ask(UNSUBSCRIBE, stream=stream)

    def receive(self, stream, count=1, timeout=None):
        """Exactly `count` messages of the stream."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while len(self.streams[stream]) < count:
            if not self.pump(deadline):
                raise TimeoutError(f"{len(self.streams[stream])} of {count} messages came")
        got, self.streams[stream] = self.streams[stream][:count], self.streams[stream][count:]
        return got

    def nothing_comes(self, stream, seconds=0.3):
        """True if no message comes to the stream for that long."""
        deadline = time.monotonic() + seconds
        while not self.streams[stream]:
            if not self.pump(deadline):
                return True
        return False

    def lease(self, queue, max=1, wait_ms=0, **more):  # pylint: disable=redefined-builtin
        body = {"queue": queue, "max": max, "wait_ms": wait_ms, **more}
        return batch(self.answer(self.request(LEASE, body), wait_ms / 1000 + self.timeout).body)

    # ---- settle

    def _settle(self, kind, head, receipts):
        receipts = [r.receipt if isinstance(r, Message) else r for r in receipts]
        body = self.answer(self.request(kind, head + receipt_ranges(receipts))).body
        settled, stale = struct.unpack_from("<II", body)
        return settled, list(struct.unpack_from(f"<{(len(body) - 8) // 8}Q", body, 8)) if stale else []

    def ack(self, *receipts):
        """(settled, stale receipts); receipts may be messages."""
        return self._settle(ACK, b"", receipts)

    def nack(self, *receipts, delay_ms=0, reject=False):
        return self._settle(NACK, struct.pack("<II", delay_ms, NACK_REJECT if reject else 0), receipts)

    def extend(self, lease_ms, *receipts):
        return self._settle(EXTEND, struct.pack("<II", lease_ms, 0), receipts)

    # ---- queues and groups

    def create(self, queue, **settings):
        self.ask(QUEUE_CREATE, {"queue": queue, **settings})

    def describe(self, queue):
        """(queue, {group name: group})"""
        said = self.ask(QUEUE_DESCRIBE, {"queue": queue})
        return said["queue"], {g["name"]: g for g in said["groups"]}

    def bindings(self, queue):
        return self.ask(QUEUE_DESCRIBE, {"queue": queue})["bindings"]

    # ---- what lies in a queue

    def peek(self, queue, **more):
        """(messages, next seq; 0: the range is done)"""
        body = self.answer(self.request(PEEK, {"queue": queue, **more})).body
        count, flags, next_seq = struct.unpack_from("<IIQ", body)
        assert not flags & ~1 and bool(flags) == bool(next_seq)
        seqs = struct.unpack_from(f"<{count}Q", body, 16)
        return records_of(body, 16 + 8 * count, count, [0] * count, [0] * count, seqs), next_seq

    def scan(self, queue, action, **more):
        """(matched, skipped, next seq)"""
        said = self.ask(SCAN, {"queue": queue, "action": action, **more})
        return said["matched"], said["skipped"], said["next_seq"]

    def read_backup(self, file, offset, size):
        return self.answer(self.request(BACKUP_READ, {"file": file, "offset": offset, "bytes": size})).body

    def stats(self):
        return self.ask(STATS)


class _Record(bytes):
    """A record that is built already, as opposed to a body."""


def message(*args, **kwargs):
    return _Record(record(*args, **kwargs))
