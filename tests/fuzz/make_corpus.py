#!/usr/bin/python3
"""Writes the seed inputs in corpus/: small ones that get a fuzzer past the first checks. Run it again after a change of
the protocol; what a fuzzer found and was mended is kept beside them as found-*."""

import json
import os
import struct
import sys

import msgpack

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
PREAMBLE = b"BRKD\x01\x00\x00\x00"


def write(target, name, data):
    folder = os.path.join(HERE, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def padded(data):
    return data + bytes(-len(data) % 8)


def record(body=b"", key=b"", headers=b"", due=None, expire=None, ident=b"", producer=None, priority=0, kind=1, queue=0, seq=0, topic=b"", flags=0):
    flags |= (1 if due is not None else 0) | (2 if expire is not None else 0) | (4 if producer else 0)
    if producer:
        ident = struct.pack("<QQ", *producer) + ident
    times = b"".join(struct.pack("<Q", t) for t in (due, expire) if t is not None)
    length = 40 + len(times) + len(ident) + len(key) + len(topic) + len(headers) + len(body)
    head = struct.pack(
        "<IIBBBBIQQHHI", length, 0, kind, flags, priority, len(ident), queue, seq, 0, len(key), len(topic), len(headers)
    )
    return padded(head + times + ident + key + topic + headers + body)


def part(kind, name=b"", data=b"", delay=0, flags=0):
    return struct.pack("<BBHIII", kind, 0, len(name), len(data), delay, flags) + padded(name) + padded(data)


def frame(kind, body=b"", correlation=1, stream=0, flags=0):
    if isinstance(body, dict):
        body = msgpack.packb(body)
    return struct.pack("<IBBHII", len(body), kind, flags, 0, correlation, stream) + body


def queue_name(name):
    return padded(struct.pack("<H", len(name)) + name)


RECORDS = {
    "plain": record(b"hello"),
    "empty": record(),
    "key-headers": record(b"body", key=b"k1", headers=msgpack.packb({"a": "b", "n": 1})),
    "due-expire": record(b"later", due=1800000000000, expire=1900000000000, priority=9),
    "id": record(b"x", ident=b"order-17"),
    "producer": record(b"x", producer=(0x1122334455667788, 1)),
    "producer-id": record(b"x", producer=(0x1122334455667788, 1), ident=b"order-17"),
    "topic": record(b"x", key=b"k", topic=b"orders.eu", headers=b"\x80", flags=8),
    "delay-ttl": record(b"x", due=5000, expire=6000, flags=0x30),
    "not-a-message": record(b"x", kind=2),
}


def wire():
    for name, data in RECORDS.items():
        write("record", name, b"\x00" + data)
    write("record", "spec", b"\x01" + bytes([15, 3]) + struct.pack("<QQQQHHH", 5, 6, 7, 8, 0, 3, 1) + b"key" + b"\x80" + b"body")
    write("record", "spec-topic", b"\x01" + bytes([0xF7, 9]) + struct.pack("<QQQQHHH", 5, 6, 7, 8, 2, 3, 3) + b"idkeya.bbody")
    write("record", "spec-id", b"\x01" + bytes([8, 9]) + struct.pack("<HHH", 4, 3, 4) + b"id-1key" + b"\x81\xa1a\x01" + b"body")
    write("frame", "head", b"\x00" + frame(0x30, correlation=7, flags=1))
    write("frame", "range", b"\x01" + struct.pack("<QIIHHI", 5, 0, 3, 6, 1, 100))
    write("frame", "name", b"\x02" + b"orders.eu_1-a")
    write("frame", "crc", b"\x03" + struct.pack("<H", 4) + b"123456789")
    maps = {
        "empty": {},
        "queue": {"queue": "jobs", "lease_ms": 30000, "on_send": True},
        "settings": {"queue": "jobs", "retention": "log", "sync": "interval", "log_max_age_ms": 1 << 40},
        "hello": {"client": "demo", "version": "0.1.0", "features": ["a", "b"], "heartbeat_ms": 10000},
        "types": {"queue": 1, "code": "x", "text": None, "lease_ms": -1, "limit": 1.5, "features": [[[[]]]], "on_send": b"\0"},
        "error": {"code": 6, "text": "no queue", "scope": "request", "retry_ms": 0},
    }
    for name, value in maps.items():
        write("map", name, msgpack.packb(value))
    write("map", "bomb-array", b"\x81\xa1a" + b"\xdd\xff\xff\xff\xff")
    write("map", "bomb-deep", b"\x81\xa1a" + b"\x91" * 64 + b"\xc0")
    write("map", "long-string", b"\x81\xdb\x7f\xff\xff\xffabc")
    write("map", "our-error", b"\xc1\x06\x00no queue \"x\"")


# ---- filters


def filter_bytes(topic=None, key=None, headers=()):
    out = struct.pack("<BBHI", (topic is not None) | (key is not None) << 1, len(headers), len(topic or b""), len(key or b""))
    out += (topic or b"") + (key or b"")
    for name, value in headers:
        out += struct.pack("<II", len(name), len(value)) + name + value
    return out


def filters():
    def case(encoded, headers=b"", key=b"", topic=b""):
        return struct.pack("<H", len(encoded)) + encoded + bytes([len(key), len(topic)]) + key + topic + headers

    want = [(b"type", b"order"), (b"", b"")]
    has = msgpack.packb({"n": [1, {"x": None}], "type": "order", "": ""})
    made = {
        "everything": case(filter_bytes(), has),
        "topic": case(filter_bytes(topic=b"a.*.>"), topic=b"a.b.c"),
        "key": case(filter_bytes(key=b"k1"), key=b"k1"),
        "no-key": case(filter_bytes(key=b"")),
        "headers": case(filter_bytes(headers=want), has),
        "all": case(filter_bytes(b">", b"k", want), has, b"k", b"x"),
        "twice": case(filter_bytes(headers=want[:1]), b"\x82\xa4type\xa5other\xa4type\xa5order"),
        "other-types": case(filter_bytes(headers=want[:1]), b"\x83\x05\xc0\xa4type\xc4\x05order\x92\x01\x02\x80"),
        "bomb": case(filter_bytes(headers=want), b"\xdf\xff\xff\xff\xff\xa1x\xdd\xff\xff\xff\xff"),
        "deep": case(filter_bytes(headers=want), b"\x81\xa1x" + b"\x91" * 64 + b"\xc0"),
        "cut": case(filter_bytes(headers=want)[:-3], has),
        "claims": case(b"\x00\x01\x00\x00\x00\x00\x00\x00" + b"\xff" * 8, has),
        "many": case(filter_bytes(headers=[(b"h%d" % i, b"v") for i in range(32)]), msgpack.packb({"h%d" % i: "v" for i in range(32)})),
        "too-many": case(filter_bytes(headers=[(b"h", b"v")] * 33), has),
    }
    for name, data in made.items():
        write("filter", name, data)


# ---- requests as maps


def control():
    q = {"queue": "q"}
    filtered = {"filter": {"topic": "a.>", "key": "k", "headers": {"h": "v", "": ""}}}
    every = {"retention": "log", "sync": "interval", "lease_ms": 1, "max_message_bytes": 2, "log_max_age_ms": 2**64 - 1, "log_max_bytes": 4, "log_max_messages": 5, "max_attempts": 6,
             "backoff": "exponential", "backoff_ms": 7, "backoff_max_ms": 8, "backoff_jitter_percent": 9, "dead_letter": "d", "ttl_ms": 10, "dead_letter_expired": True, "unused_ms": 11,
             "dedup_ms": 12, "dedup_count": 13, "max_messages": 14, "max_bytes": 15, "overflow": "drop_oldest", "ordered_keys": True, "fair_keys": True, "compact": True}
    kinds = ("queue_create queue_alter queue_delete queue_pause queue_resume queue_purge queue_list queue_describe group_create group_alter group_seek group_delete bind unbind scan peek "
             "reschedule subscribe unsubscribe lease read").split()
    made = {
        "queue_create": {**q, **every},
        "queue_alter": {**q, "dead_letter": "", "backoff_ms": 5},
        "queue_list": {"prefix": "a", "after": "b", "limit": 5},
        "group_create": {**q, "group": "g", "start": "time", "value": 5, "single_active": True, **filtered},
        "group_alter": {**q, "group": "g", "filter": {}},
        "group_seek": {**q, "group": "g", "start": "seq", "value": 1},
        "group_delete": {**q, "group": "g"},
        "bind": {**q, "pattern": "a.*"},
        "scan": {**q, "action": "move", "target": "t", "state": "scheduled", "from_seq": 1, "to_seq": 2, "from_ms": 3, "to_ms": 4, "max_messages": 5, "max_scanned": 6, **filtered},
        "peek": {**q, "max_bytes": 5, "filter": {"topics": "x"}},
        "reschedule": {**q, "seq": 1, "delay_ms": 5},
        "subscribe": {**q, "group": "g", "lease_ms": 1, "on_send": True, "priority": 9, "max_unsettled": 5},
        "unsubscribe": {},
        "lease": {**q, "max": 2, "max_bytes": 3, "lease_ms": 4, "wait_ms": 5},
        "read": {**q, "from": "end", "max": 2, "max_bytes": 3, "wait_ms": 4, **filtered},
    }
    for name, value in made.items():
        write("control", name, bytes([kinds.index(name)]) + msgpack.packb(value))
    for name, key in (("text", "retention"), ("number", "lease_ms"), ("truth", "compact"), ("name", "dead_letter")):
        for i, value in enumerate((None, -1, 1.5, "x\0y", [1], {1: 2}, 2**64 - 1)):
            write("control", f"wrong-{name}-{i}", bytes([kinds.index("queue_create")]) + msgpack.packb({**q, key: value}))
    twice = b"\x83\xa5queue\xa1q" + b"\xa6filter\x80" + b"\xa6filter\xcf" + b"\xff" * 8
    write("control", "twice", bytes([kinds.index("peek")]) + twice)


# ---- messages and maps as JSON and msgpack


def forms():
    message = {"body": "b\u00e9\n", "key": "k", "topic": "a.b", "id": "order-1", "priority": 9, "delay_ms": 5, "ttl_ms": 6, "headers": {"content-type": "text/plain", "x": ""}}
    json_made = {
        "message": json.dumps(message).encode(),
        "base64": b'{"body_base64":"/wD+","key_base64":"ww==","id_base64":"Zm8=","at_ms":1795545130123}',
        "body-json": b'{"body_json":{"a":[1,0.1,-5,1e300,true,null,"\\u0000"]},"headers":{}}',
        "wrong": b'{"body":1,"nosuch":2,"headers":{"n":1}}',
        "duplicate": b'{"a":1,"a":2}',
        "numbers": b"[9223372036854775807,-9223372036854775808,9223372036854775808,1e999]",
        "receipt": b'"18446744073709551615"',
        "deep": b"[" * 60 + b'{"a":"\\u0000"}' + b"]" * 60,
        "text": '["\u00e9\u4e2d\U0001f600","\\ud83d\\ude00","\\"\\\\"]'.encode(),
    }
    for name, data in json_made.items():
        write("forms", "json-" + name, b"\x00" + data)
    packed_made = {
        "message": {**message, "body": b"\xff\x00"},
        "body-json": {"body_json": [1, 2.5, b"x", None, {1: 2, None: 3}]},
        "any": {"a": [2**64 - 1, -(2**63), 1.5, float("nan"), b"\xff", {5: 1, True: 2}], "b": {"c": {}}},
        "wrong": {"body": 1, 5: 6, "headers": {"n": 1}},
    }
    for name, value in packed_made.items():
        write("forms", "msgpack-" + name, b"\x01" + msgpack.packb(value))
    write("forms", "msgpack-keys", b"\x01\x83\x91\x01\x01\x80\x02\xc7\x01\x05x\xca\x7f\xc0\x00\x00")
    headers = msgpack.packb({"s": "v", "n": 5, "m": {"a": [1, b"x"]}, "b": b"\xff"})
    text, binary = "k\u00e9y \"quoted\"\n".encode(), b"\xff\x00\xfe\xed\xa0\x80"
    for name, body, head in (("text", text, headers), ("binary", binary, headers[: len(binary)]), ("cut", text, headers[:-9])):
        size = max(len(body), len(head))
        write("forms", "record-" + name, b"\x02" + struct.pack("<QQ", 1795545130123, 253402300800000) + body.ljust(size, b"x") + head.ljust(size, b"\xc0"))


# ---- the engine's start-up


def queue_record_body(name=b"q", retention=1, paused=0, log_max=0):
    return struct.pack("<BBBBIIIQQQII", 1, retention, 1, paused, 30000, 0, 0, 0, 0, log_max, 0, len(name)) + name


def seqset(*seqs):
    """Settled messages: one part, a portable roaring bitmap with one array container."""
    if not seqs:
        return struct.pack("<I", 0)
    bits = struct.pack("<IIHHI", 12346, 1, 0, len(seqs) - 1, 16) + b"".join(struct.pack("<H", s) for s in seqs)
    return struct.pack("<III", 1, 0, len(bits)) + bits


def snapshot(groups=1, settled=(), returned=(), producers=0, retention=1):
    out = struct.pack("<IIII", 1, 3, 1, producers)
    body = queue_record_body(retention=retention)
    out += struct.pack("<II", 2, len(body)) + body + struct.pack("<QQII", 10, 0, 1 + groups, groups) + seqset()
    for i in range(groups):
        name = b"default" if i == 0 else b"b"
        out += struct.pack("<IIQQII", i + 1, len(name), 2, 8, len(returned), 0) + name + seqset(*settled)
        out += b"".join(struct.pack("<QQII", seq, due, attempt, 0) for seq, due, attempt in returned)
    for i in range(producers):
        out += struct.pack("<QIIQ", i + 1, 2, 0, 7) + struct.pack("<QQQ", 1, 1, 7) * 8
    return out


def engine_input(snapshot_bytes=b"", records=(), commands=()):
    out = struct.pack("<H", len(snapshot_bytes)) + snapshot_bytes + bytes([len(records)])
    for kind, queue, seq, body in records:
        head = struct.pack("<BHBBH", kind, len(body), queue, seq, 1000)
        out += head + (b"\0" if kind == 1 else b"") + body
    for command in commands:  # a step byte, then type, what, number
        out += bytes(command)
    return out


def engine():
    q = (5, 2, 0, queue_record_body())
    message = [(1, 2, n, b"body") for n in (1, 2, 3)]
    commands = [[1, 12, 1, 3], [1, 0, 2, 5, 1, 1] + [65] * 20, [4], [1, 1, 2, 1], [1, 3, 2, 200], [1, 6, 2, 5], [1, 7, 0, 1], [4], [241, 17, 2, 9]]
    write("engine", "empty", engine_input(commands=commands))
    write("engine", "queue", engine_input(records=[q, *message], commands=commands))
    write("engine", "settles", engine_input(records=[
        q, *message,
        (7, 2, 0, struct.pack("<IIQ", 2, 1, 1) + b"b"),
        (4, 2, 0, struct.pack("<IIQQ", 1, 0, 1, 3)),
        (2, 2, 0, struct.pack("<IIQQ", 1, 1, 2, 2)),
        (3, 2, 0, struct.pack("<IIQQII", 1, 1, 3, 1700000000000, 2, 0)),
        (4, 2, 0, struct.pack("<IIQII", 1, 1, 3, 3, 0)),
        (9, 2, 0, struct.pack("<Q", 1)), (10, 2, 0, struct.pack("<Q", 1)),
        (8, 2, 0, struct.pack("<II", 2, 0)), (6, 2, 0, b""),
    ], commands=commands))
    for name, made in {
        "snapshot": snapshot(),
        "snapshot-groups": snapshot(groups=2, settled=(4, 6), returned=((3, 0, 2), (5, 1700000005000, 3))),
        "snapshot-producers": snapshot(producers=2, retention=2),
    }.items():
        write("engine", name, engine_input(made, message, commands))
    step, tick = [1], [4]
    create = step + [10, 0, 3, 0x80, 0x01, 0x02]  # a: two attempts ... of what the three bytes name
    other = step + [10, 1, 3, 0, 0, 0]
    body = [65] * 20

    def publish(how, times, what=0):
        return step + [0, what, 7, 0, 0, how, times] + body

    subscribe = step + [1, 0, 2] + tick + step + [3, 0, 200]
    later = [241, 17, 0, 0]
    made = {
        "specials": [create, publish(9, 5), publish(16, 60), publish(32 | 5, 30), tick, subscribe, tick, step + [26, 0, 2], later, tick, later],
        "keys-ids": [create, publish(64, 1), publish(64, 1), publish(128, 2), publish(128, 2), tick, subscribe, tick, step + [7, 0, 1], tick],
        "dead-letters": [create, publish(0, 0), tick, subscribe, tick, step + [8, 128, 0], tick, tick, step + [25, 4, 4], later],
        "topics": [create, other, step + [22, 0, 3], step + [22, 1, 4], tick, publish(0, 0, 128), publish(0, 1, 128), tick, subscribe, tick],
        "transact": [create, other, publish(0, 0), tick, subscribe, tick, step + [24, 1, 1] + [0, 0, 0, 0] + body + [0, 0, 0, 0] + body, tick],
        "scan": [create, other, publish(0, 0), publish(16, 60), publish(64, 1), tick] + [step + [25, what, action] for action in range(4) for what in (0, 1)] + [tick, later],
    }
    for name, parts in made.items():
        write("engine", name, engine_input(commands=parts))


# ---- configuration


def conf():
    with open(os.path.join(HERE, "..", "..", "..", "conf", "brokerd.ini"), "rb") as f:
        lines = [line for line in f.read().split(b"\n") if line and not line.startswith((b"#", b";"))]
    write("conf", "all", b"\x00" + b"\n".join(lines))
    write("conf", "broken", b"\x00[tcp]\nlisten = 127.0.0.1:x\n[nosuch]\nkey\n= 5\n[store\nsegment = 1 QiB\n")
    for i, text in enumerate((b"store.segment=1 MiB", b"tcp.listen=[::1]:7440 *:0", b"log.level=loud", b"=", b"tcp.unix_mode=0999", b"x.y=z")):
        write("conf", f"set-{i}", b"\x01" + text)
    for i, text in enumerate((b"127.0.0.1:7440, [::1]:0 *:1", b":7440", b"[::1", b"host:99999")):
        write("conf", f"address-{i}", b"\x02" + text)
    write("conf", "words", b"\x03--data\n/tmp/x\n--listen\n127.0.0.1:0\n--set\ntcp.heartbeat=1s\n--check")
    write("conf", "words-fsck", b"\x03--fsck\n/tmp/x\n--quarantine\n--json")


# ---- what a broker may send

RESPONSE = 0x80


def delivered(*bodies, first_receipt=64, attempts=None):
    out = struct.pack("<IIQ", len(bodies), 1 if attempts else 0, first_receipt)
    if attempts:
        out += padded(b"".join(struct.pack("<I", a) for a in attempts))
    for i, body in enumerate(bodies):
        out += record(body, key=b"k", headers=msgpack.packb({"a": "b", "n": 1}), queue=1, seq=i + 1)
    return out


def client():
    publish_range = struct.pack("<QIIHHI", 1, 0, 1, 0, 0, 0)
    error = frame(0xFF, {"code": 6, "text": "no queue", "scope": "request", "retry_ms": 5}, 2)
    queue = {"name": "q", "id": 1, "retention": "work", "sync": "always", "lease_ms": 5, "paused": False, "first_seq": 1, "last_seq": 2, "messages": 1, "bytes": 9, "groups": 1, "consumers": 0,
             "max_message_bytes": 0, "log_max_age_ms": 0, "log_max_bytes": 0, "log_max_messages": 0}
    group = {"name": "default", "floor_seq": 0, "cursor_seq": 1, "ready": 1, "leased": 0, "delayed": 0, "consumers": 0}
    stats = {"uptime_ms": 1, "cpu_us": 2, "rss_bytes": 3, "connections": 1, "queues": 1, "subscriptions": 0, "published": 1, "delivered": 1,
             "acked": 1, "syncs": 9, "bytes_written": 1, "log_index": 5, "disk_bytes": 7, "segments": 1, "version": "0.1.0"}
    settled = struct.pack("<IIQ", 1, 1, 64)
    made = {
        "publish": (0, frame(0x30 | RESPONSE, publish_range, 2)),
        "publish-several": (20, frame(0x30 | RESPONSE, struct.pack("<QIIHHI", 1, 0, 3, 0, 1, 0) + struct.pack("<QIIHHI", 0, 3, 2, 15, 0, 100), 2)),
        "publish-error": (0, error),
        "subscribe": (1, frame(0x20 | RESPONSE, b"", 2, 1) + frame(0x43, delivered(b"one", b"two", b""), 0, 1)
                      + frame(0x43, delivered(b"again", first_receipt=128, attempts=[2]), 0, 1) + frame(0x31 | RESPONSE, settled, 3) + frame(0x32 | RESPONSE, settled, 4)),
        "ended": (1, frame(0x20 | RESPONSE, b"", 2, 1) + frame(0x44, {"code": 6, "text": "deleted"}, 0, 1)),
        "lease": (2, frame(0x22 | RESPONSE, delivered(b"one", b"two", attempts=[1, 7]), 2)),
        "lease-empty": (2, frame(0x22 | RESPONSE, delivered(), 2)),
        "admin": (3, frame(0x16 | RESPONSE, {"queues": [queue, {**queue, "name": "r"}], "more": False}, 2) + frame(0x17 | RESPONSE, {"queue": queue, "groups": [group]}, 3)
                  + frame(0x03 | RESPONSE, stats, 4) + frame(0x15 | RESPONSE, {"purged": 3}, 5) + frame(0x02 | RESPONSE, {}, 6)),
        "receipts": (4, frame(0x31 | RESPONSE, struct.pack("<II", 1, 0), 2) + frame(0x32 | RESPONSE, struct.pack("<IIQ", 0, 1, 8), 3)),
        "admin-filters": (3, frame(0x16 | RESPONSE, {"queues": [], "more": False}, 2)
                          + frame(0x17 | RESPONSE, {"queue": {**queue, "backoff": "fixed", "backoff_ms": 7, "dead_letter": "d", "overflow": "drop_oldest", "compact": True, "dropped": 4},
                                                    "groups": [{**group, "blocked": 1, "lag": 2, "single_active": True, "filter": {"topic": "a.>", "key": "k", "headers": {"x": "1", "y": ""}}}]}, 3)
                          + frame(0x03 | RESPONSE, stats, 4) + frame(0x15 | RESPONSE, {"purged": 3}, 5) + frame(0x02 | RESPONSE, {}, 6)
                          + frame(0x17 | RESPONSE, {"queue": queue, "bindings": ["a.*", ">"]}, 7)),
        "routed": (5, frame(0x30 | RESPONSE, struct.pack("<QIIHHI", 3, 0, 2, 0, 2, 0), 2)),
        "subscribe-seqs": (1, frame(0x20 | RESPONSE, b"", 2, 1)
                           + frame(0x43, struct.pack("<IIQII", 1, 3, 64, 2, 0) + struct.pack("<Q", 901) + record(b"one", key=b"k"), 0, 1) + frame(0x32 | RESPONSE, settled, 3)),
        "transact": (96, frame(0x34 | RESPONSE, struct.pack("<QQ", 17, 2), 2)),
        "transact-refused": (96, error),
        "look": (97, frame(0x23 | RESPONSE, struct.pack("<IIQQQ", 2, 1, 50, 3, 9) + record(b"one") + record(b"two", key=b"k"), 2)
                 + frame(0x23 | RESPONSE, struct.pack("<IIQ", 0, 0, 0), 3) + frame(0x1E | RESPONSE, {"matched": 5, "skipped": 1, "next_seq": 200001}, 4)
                 + frame(0x1E | RESPONSE, {"matched": 5, "skipped": 0, "next_seq": 0}, 5)),
        "backup": (98, frame(0x50 | RESPONSE, {"bytes": 5, "files": [{"name": "log-1", "size": 64, "data_end": 3}, {"name": "checkpoint-1", "size": 2, "data_end": 2}]}, 2)
                   + frame(0x51 | RESPONSE, b"abc", 3) + frame(0x51 | RESPONSE, b"de", 4) + frame(0x52 | RESPONSE, {}, 5)),
        "goaway": (0, frame(0x41, b"", 0) + frame(0x42, {"code": 21, "text": "bye"}, 0)),
        "connection-error": (0, frame(0xFF, {"code": 2, "text": "bad", "scope": "connection", "retry_ms": 0}, 0)),
        "hello-refused": (0x80, frame(0xFF, {"code": 4, "text": "version", "scope": "connection", "retry_ms": 0}, 1)),
        "hello": (0x80, frame(0x01 | RESPONSE, {"server": "brokerd", "version": "9", "epoch": 3, "heartbeat_ms": 10000, "max_frame": 17825792, "max_message": 8388608, "features": []}, 1)),
    }
    for name, (how, data) in made.items():
        write("client", name, bytes([how]) + data)


# ---- what a client may send


FIRST_RECEIPT = (1 << 38 | 1) << 6  # of a broker's first start


def chunk(data, peer=0, turns=1):
    return struct.pack("<BH", peer | turns << 1, len(data)) + data


def front():
    hello = PREAMBLE + frame(0x01, {"client": "x", "heartbeat_ms": 0})
    create = frame(0x10, {"queue": "q", "lease_ms": 1000}, 2)
    publish = frame(0x30, queue_name(b"q") + record(b"one", producer=(5, 1)) + record(b"two", key=b"k"), 3)
    subscribe = frame(0x20, {"queue": "q"}, 4, 7) + frame(0x40, struct.pack("<IIQ", 100, 0, 1 << 20), 0, 7)
    lease = frame(0x22, {"queue": "q", "max": 10, "wait_ms": 10}, 5)
    receipts = b"".join(struct.pack("<QII", first, 2, 0) for first in (FIRST_RECEIPT, FIRST_RECEIPT + 64, 64))
    settle = frame(0x31, receipts, 6) + frame(0x32, bytes(8) + receipts, 7) + frame(0x33, struct.pack("<II", 500, 0) + receipts, 8)
    transact = frame(0x34, part(1, b"q", record(b"t1", producer=(6, 1)) + record(b"t2", producer=(6, 2))) + part(1, b"", record(b"t3", topic=b"a.b", flags=8, producer=(6, 1)))
                     + part(2, data=struct.pack("<QII", FIRST_RECEIPT, 1, 0)) + part(3, data=struct.pack("<QII", FIRST_RECEIPT + 1, 1, 0), delay=9, flags=1), 15, flags=5)
    made = {
        "hello": b"\x01" + chunk(hello),
        "hello-split": b"\x01" + chunk(hello[:5]) + chunk(hello[5:20]) + chunk(hello[20:]),
        "garbage": b"\x01" + chunk(b"GET / HTTP/1.1\r\n\r\n"),
        "publish": b"\x00" + chunk(create) + chunk(publish, turns=3),
        "consume": b"\x00" + chunk(create + publish) + chunk(subscribe, turns=3) + chunk(settle, turns=2),
        "lease": b"\x00" + chunk(create + publish, turns=3) + chunk(lease, turns=2) + chunk(settle, turns=3),
        "two": b"\x00" + chunk(create + subscribe) + chunk(publish, peer=1, turns=3) + chunk(frame(0x12, {"queue": "q"}, 9), peer=1, turns=2),
        "admin": b"\x00" + chunk(create + b"".join(frame(kind, {"queue": "q"}, 20 + kind) for kind in (0x13, 0x14, 0x15, 0x17)) + frame(0x16, {"limit": 5}, 9) + frame(0x03, {}, 10))
                 + chunk(frame(0x18, {"queue": "q", "group": "g", "start": "seq", "value": 1}, 11) + frame(0x1A, {"queue": "q", "group": "g", "start": "end"}, 12) + frame(0x19, {"queue": "q", "group": "g"}, 13)),
        "transact": b"\x00" + chunk(create + publish, turns=3) + chunk(lease, turns=2) + chunk(transact, turns=3) + chunk(transact, peer=1, turns=2),
        "topics": b"\x00" + chunk(create + frame(0x1C, {"queue": "q", "pattern": "a.*"}, 20)
                 + frame(0x18, {"queue": "q", "group": "g", "filter": {"topic": "a.>", "key": "k", "headers": {"h": "v"}}, "single_active": True}, 21), turns=2)
                 + chunk(frame(0x30, queue_name(b"") + record(b"x", topic=b"a.b", flags=8) + record(b"y", topic=b"b", flags=8), 22, flags=4), turns=3)
                 + chunk(frame(0x20, {"queue": "q", "group": "g", "priority": 3, "max_unsettled": 2}, 23, 8) + frame(0x40, struct.pack("<IIQ", 9, 0, 1 << 20), 0, 8), turns=2)
                 + chunk(frame(0x1B, {"queue": "q", "group": "g", "filter": {}}, 24) + frame(0x1D, {"queue": "q", "pattern": "a.*"}, 25) + frame(0x17, {"queue": "q"}, 26)),
        "scan": b"\x00" + chunk(create + publish, turns=3) + chunk(b"".join(frame(0x1E, {"queue": "q", "action": a, "max_messages": 2, "filter": {"key": "k"}}, 30 + i) for i, a in enumerate(("count", "delete", "redrive")))
                 + frame(0x23, {"queue": "q", "from_seq": 1, "max_bytes": 50, "state": "any"}, 35), turns=3)
                 + chunk(frame(0x10, {"queue": "r"}, 36) + frame(0x1E, {"queue": "q", "action": "move", "target": "r"}, 37), turns=3),
        "schedule": b"\x00" + chunk(create + frame(0x30, queue_name(b"q") + record(b"x", due=100000, flags=0x10) + record(b"y", expire=5, flags=0x20, priority=9), 40), turns=3)
                 + chunk(frame(0x1F, {"queue": "q", "seq": 1, "delay_ms": 0}, 41) + frame(0x1F, {"queue": "q", "seq": 2, "due_ms": 5}, 42), turns=3),
        "settings": b"\x00" + chunk(frame(0x10, {"queue": "s", "max_attempts": 1, "backoff": "exponential", "backoff_ms": 5, "backoff_max_ms": 9, "backoff_jitter_percent": 50, "dead_letter": "d",
                 "ttl_ms": 5, "dead_letter_expired": True, "unused_ms": 1000, "dedup_ms": 10, "dedup_count": 2, "max_messages": 3, "max_bytes": 1000, "overflow": "drop_oldest", "ordered_keys": False,
                 "fair_keys": True}, 50) + frame(0x11, {"queue": "s", "retention": "log", "compact": True}, 51) + frame(0x17, {"queue": "s"}, 52), turns=2)
                 + chunk(frame(0x30, queue_name(b"s") + record(b"a", ident=b"id") + record(b"b", ident=b"id"), 53) + frame(0x22, {"queue": "s", "max": 5}, 54), turns=3)
                 + chunk(frame(0x32, struct.pack("<II", 0, 1) + receipts, 55), turns=2),
        "backup": b"\x00" + chunk(frame(0x50, {}, 60) + frame(0x51, {"file": 0, "offset": 5, "bytes": 100}, 61), turns=2) + chunk(frame(0x50, {}, 62) + frame(0x52, {}, 63), peer=1)
                 + chunk(frame(0x51, {"file": 0, "bytes": 1}, 64) + frame(0x52, {}, 65)) + struct.pack("<BH", 0xF0, 0),
        "unknown": b"\x00" + chunk(frame(0x3E, b"x", 5) + frame(0x21, b"", 6, 9) + frame(0x41) + frame(0x02, b"", 7) + frame(0x02, b"", 0)),
    }
    for name, data in made.items():
        write("front", name, data)


# ---- HTTP


def http():
    host = b"Host: broker.example\r\n"

    def request(line=b"GET / HTTP/1.1", *fields, body=b""):
        return line + b"\r\n" + host + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body

    get, post = request(), b"POST /echo HTTP/1.1"
    chunked = b"Transfer-Encoding: chunked"
    upgrade = (b"Connection: Upgrade", b"Upgrade: websocket")
    made = {
        "get": get,
        "pipeline": get * 3 + request(b"GET /q/a/m/1 HTTP/1.1") + get,
        "kept": request(b"GET /q/a%2Fb/m/1?a=%41&b=+ HTTP/1.1") * 10 + get,
        "length": request(post, b"Content-Length: 5", b"Content-Type: text/plain;x=y", body=b"hello") + get,
        "inner": request(post, b"Content-Length: %d" % len(get), body=get) + get,
        "chunked": request(post, chunked, body=b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n") + get,
        "chunks": request(post, chunked, body=b"1\r\na\r\n" * 20 + b"0\r\n\r\n") + get,
        "expect": request(post, b"Content-Length: 5", b"Expect: 100-continue", body=b"hello") + get,
        "expect-chunked": request(b"POST /keep HTTP/1.1", chunked, b"Expect: 100-continue", body=b"5\r\nhello\r\n0\r\n\r\n"),
        "both": request(post, b"Content-Length: 4", chunked, body=b"0\r\n\r\n") + get,
        "two-lengths": request(post, b"Content-Length: 4", b"Content-Length: 5", body=b"hello"),
        "encodings": request(post, b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
        "folded": request(b"GET / HTTP/1.1", b"A: b", b" c") + get,
        "bare": b"GET / HTTP/1.1\nHost: x\n\n" + get,
        "old": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /pieces HTTP/1.0\r\n\r\n" + get,
        "close": request(b"GET / HTTP/1.1", b"Connection: a, close") + get,
        "head": request(b"HEAD /pieces HTTP/1.1") + request(b"HEAD / HTTP/1.1") + get,
        "pieces": request(b"POST /pieces HTTP/1.1", b"Content-Length: 2", body=b"ab") + request(b"GET /pieces HTTP/1.1"),
        "options": request(b"OPTIONS * HTTP/1.1") + request(b"OPTIONS /echo HTTP/1.1", b"Origin: https://a.example", b"Access-Control-Request-Method: POST"),
        "browser": request(b"GET / HTTP/1.1", b"Sec-Fetch-Site: cross-site") + request(b"GET / HTTP/1.1", b"Origin: null"),
        "accept": request(b"GET / HTTP/1.1", b"Accept: text/*;q=0.5, application/json;q=\"a,b\", */*;q=0"),
        "take": request(b"GET /take HTTP/1.1", *upgrade, body=b"not HTTP any more"),
        "take-behind": request(b"GET /q/a/m/1 HTTP/1.1") + request(b"GET /take HTTP/1.1", *upgrade, body=b"not HTTP"),
        "take-unasked": request(b"GET /q/a/m/1 HTTP/1.1") + request(b"GET /take HTTP/1.1") + get,
        "absolute": request(b"GET http://broker.example/ui/a/b?c HTTP/1.1") + request(b"GET http://other/ HTTP/1.1"),
        "path": request(b"GET /ui/%2e%2e/x HTTP/1.1") + get,
        "wrong": request(b"GET /nowhere HTTP/1.1") + request(b"DELETE /echo HTTP/1.1") + request(b"BREW / HTTP/1.1"),
        "large": request(b"PUT /q/a/m/1 HTTP/1.1", b"Content-Length: 101", body=b"x" * 101),
        "long": b"GET / HTTP/1.1\r\nA: " + b"b" * 1100,
        "fields": request(b"GET / HTTP/1.1", *[b"A: b"] * 20),
        "lines": b"\r\n" + get + b"\r\n" + get + b"\r\n\r\n" + get,
    }
    for name, data in made.items():
        write("http", name, bytes([len(name)]) + data)


# ---- what may happen to files


def recover():
    def change(file, offset, *flips):
        return struct.pack("<BBIB", 2, file, offset, len(flips) - 1) + bytes(flips)

    made = {"nothing": b"\x00", "nothing-clean": b"\x01"}
    for file in range(8):
        made[f"remove-{file}"] = struct.pack("<BBB", file % 2, 0, file)
        made[f"cut-{file}"] = struct.pack("<BBBI", file % 2, 1, file, 9000)
        for offset in (0, 40, 4096, 4140, 9000, 60000):
            made[f"flip-{file}-{offset}"] = bytes([(file + offset) % 2]) + change(file, offset, 1 << file)
    made["much"] = b"\x00" + change(0, 5000, 1, 2, 3, 4) + change(1, 70, 255) + change(5, 100, 7, 7)
    for target in ("recover", "recover_deep"):
        for name, data in made.items():
            write(target, name, data)


if __name__ == "__main__":
    wire()
    filters()
    control()
    forms()
    engine()
    conf()
    client()
    front()
    http()
    recover()
    print("wrote", HERE, file=sys.stderr)
