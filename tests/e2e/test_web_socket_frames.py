"""WebSocket byte by byte (RFC 6455, 7692): the handshake, frames of every kind, closing, silence, and clients that do not read."""

import json
import os
import socket
import struct
import time
import zlib

import pytest
import web
from harness import Broker, until
from web import BINARY, CLOSE, PING, PONG, TEXT

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MAX = 64 << 10


@pytest.fixture(scope="module")
def broker():
    with Broker(websocket__max_message="64KiB", websocket__ping="2s", websocket__close_timeout="300ms", websocket__deflate="yes") as b:
        yield b


@pytest.fixture
def ws(broker):
    with web.websocket(broker) as w:
        yield w


# ---- the handshake ---------------------------------------------------------------------------------------------------------


def ask(broker, *lines, path="/v1/ws", method="GET"):
    """Send a request of these fields: status, fields, body."""
    with socket.create_connection(("127.0.0.1", broker.http_port), 10) as s:
        s.sendall("\r\n".join([f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{broker.http_port}", *lines, "", ""]).encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += s.recv(65536)
        head, body = got.split(b"\r\n\r\n", 1)
        status, *fields = head.decode().split("\r\n")
        fields = {k.lower(): v for k, v in (f.split(": ", 1) for f in fields)}
        while len(body) < int(fields.get("content-length", 0)):
            body += s.recv(65536)
        return int(status.split()[1]), fields, body


UPGRADE = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"]


def without(name):
    return [line for line in UPGRADE if not line.startswith(name)]


def test_the_rfcs_own_example(broker):
    status, fields, _ = ask(broker, *UPGRADE)
    assert status == 101
    assert fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert fields["upgrade"].lower() == "websocket" and fields["connection"].lower() == "upgrade"
    assert "sec-websocket-protocol" not in fields and "sec-websocket-extensions" not in fields
    assert "content-length" not in fields


def test_lists_and_case(broker):
    fields = ["upgrade: foo, WebSocket", "CONNECTION: keep-alive,  upgrade", f"sec-websocket-key: {KEY}", "sec-websocket-version: 13"]
    assert ask(broker, *fields)[0] == 101


@pytest.mark.parametrize("fields", [
    [],
    without("Upgrade"),
    without("Connection"),
    without("Sec-WebSocket-Version"),
    [*without("Sec-WebSocket-Version"), "Sec-WebSocket-Version: 8"],
    [*without("Sec-WebSocket-Version"), "Sec-WebSocket-Version: 13, 8"],
    [*UPGRADE, "Sec-WebSocket-Version: 8"],
    [*without("Upgrade"), "Upgrade: h2c"],
])
def test_upgrade_required(broker, fields):
    status, got, body = ask(broker, *fields)
    assert status == 426, body
    assert got["sec-websocket-version"] == "13" and "websocket" in got["upgrade"].lower()
    assert json.loads(body)["status"] == 426


@pytest.mark.parametrize("key", [None, "", "short", KEY[:-1], KEY + "=", "dGhlIHNhbXBsZSBub25jZQ=!", "dGhlIHNhbXBsZSBub25jZSE=", "*" * 24])
def test_keys(broker, key):
    status, _, body = ask(broker, *without("Sec-WebSocket-Key"), *([] if key is None else [f"Sec-WebSocket-Key: {key}"]))
    assert status == 400 and "Sec-WebSocket-Key" in json.loads(body)["detail"]


def test_two_keys(broker):
    assert ask(broker, *UPGRADE, f"Sec-WebSocket-Key: {KEY}")[0] == 400


@pytest.mark.parametrize("offered,chosen", [
    ("brokerd.v1.json", "brokerd.v1.json"),
    ("brokerd.v1.msgpack", "brokerd.v1.msgpack"),
    ("mqtt, brokerd.v1.msgpack, brokerd.v1.json", "brokerd.v1.msgpack"),
    ("brokerd.v2.json ,brokerd.v1.json", "brokerd.v1.json"),
])
def test_subprotocols(broker, offered, chosen):
    assert ask(broker, *UPGRADE, f"Sec-WebSocket-Protocol: {offered}")[1]["sec-websocket-protocol"] == chosen


def test_subprotocols_in_two_fields(broker):
    assert ask(broker, *UPGRADE, "Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Protocol: brokerd.v1.json")[0] == 101


@pytest.mark.parametrize("offered", ["mqtt", "BROKERD.V1.JSON", "brokerd.v1.json2, wamp"])
def test_unknown_subprotocols(broker, offered):
    status, _, body = ask(broker, *UPGRADE, f"Sec-WebSocket-Protocol: {offered}")
    assert status == 400
    assert "brokerd.v1.json" in json.loads(body)["detail"] and "brokerd.v1.msgpack" in json.loads(body)["detail"]


def test_methods(broker):
    assert ask(broker, *UPGRADE, method="POST")[0] == 405


def test_pages_of_other_origins(broker):
    assert ask(broker, *UPGRADE, "Origin: https://elsewhere.example")[0] == 403
    assert ask(broker, *UPGRADE, f"Origin: http://127.0.0.1:{broker.http_port}")[0] == 101


@pytest.mark.parametrize("offer,answer", [
    ("permessage-deflate", "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
    ("permessage-deflate; client_max_window_bits", "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
    ("permessage-deflate; client_max_window_bits=9; client_no_context_takeover",
     "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
    ("permessage-deflate; server_max_window_bits=10",
     "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10"),
    ('permessage-deflate; server_max_window_bits="12"',
     "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12"),
    ("x-webkit-deflate-frame, permessage-deflate; unknown, permessage-deflate",
     "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
    ("permessage-deflate; unknown", None),
    ("permessage-deflate; server_max_window_bits=7", None),
    ("permessage-deflate; server_max_window_bits=16", None),
    ("permessage-deflate; server_max_window_bits", None),
    ("permessage-deflate; client_max_window_bits=20", None),
    ("permessage-deflate; server_no_context_takeover=1", None),
    ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
    ("x-webkit-deflate-frame", None),
])
def test_extensions(broker, offer, answer):
    status, fields, _ = ask(broker, *UPGRADE, f"Sec-WebSocket-Extensions: {offer}")
    assert status == 101 and fields.get("sec-websocket-extensions") == answer


def test_no_compression_unless_configured():
    with Broker() as b:
        assert "sec-websocket-extensions" not in ask(b, *UPGRADE, "Sec-WebSocket-Extensions: permessage-deflate")[1]
        with web.websocket(b, Sec_WebSocket_Extensions="permessage-deflate") as w:
            w.send_frame(0x40 | TEXT, b"x")
            expect_close(w, 1002)


def test_frames_right_behind_the_handshake(broker):
    with socket.create_connection(("127.0.0.1", broker.http_port), 10) as s:
        head = "\r\n".join(["GET /v1/ws HTTP/1.1", f"Host: 127.0.0.1:{broker.http_port}", *UPGRADE, "", ""]).encode()
        s.sendall(head + b"\x89\x82\0\0\0\0hi")
        got = b""
        while not got.endswith(b"\x8a\x02hi"):
            more = s.recv(65536)
            assert more, got
            got += more


# ---- frames ------------------------------------------------------------------------------------------------------------------


def raw(ws, first, payload=b"", length=None, mask=True, extended=None):
    """A frame by hand: the first byte, the length as it is told, in so many bytes."""
    n = len(payload) if length is None else length
    extended = extended if extended is not None else 0 if n < 126 else 2 if n < 65536 else 8
    bit = 0x80 if mask else 0
    head = bytes([first, bit | (n if extended == 0 else 126 if extended == 2 else 127)]) + n.to_bytes(8, "big")[8 - extended :]
    key = os.urandom(4)
    body = bytes(b ^ key[i & 3] for i, b in enumerate(payload)) if mask else payload
    ws.socket.sendall(head + (key if mask else b"") + body)


def expect_close(ws, code, says=""):
    """The peer closes with this code, and then the connection."""
    ws.socket.settimeout(10)
    try:
        while True:
            opcode, payload = ws.frame()
            if opcode == CLOSE:
                break
            assert opcode in (PING, PONG, TEXT, BINARY)
    except EOFError as end:
        raise AssertionError("it closed without a close frame") from end
    assert struct.unpack(">H", payload[:2])[0] == code, payload
    assert says in payload[2:].decode()
    with pytest.raises((EOFError, ConnectionResetError)):
        ws.frame()


def alive(ws):
    assert ws.call("ping")["op"] == "ok"


BAD = {
    "not masked": (1002, lambda w: raw(w, 0x81, b"{}", mask=False)),
    "not masked, empty": (1002, lambda w: raw(w, 0x89, mask=False)),
    "rsv1": (1002, lambda w: raw(w, 0xC1, b"{}")),
    "rsv2": (1002, lambda w: raw(w, 0xA1, b"{}")),
    "rsv3": (1002, lambda w: raw(w, 0x91, b"{}")),
    "rsv1 of a ping": (1002, lambda w: raw(w, 0xC9, b"x")),
    **{f"opcode {o}": (1002, lambda w, o=o: raw(w, 0x80 | o, b"x")) for o in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "ping of 126": (1002, lambda w: raw(w, 0x89, b"x" * 126)),
    "pong of 126": (1002, lambda w: raw(w, 0x8A, b"x" * 126)),
    "close of 126": (1002, lambda w: raw(w, 0x88, b"\x03\xe8" + b"x" * 124)),
    "ping in fragments": (1002, lambda w: raw(w, 0x09, b"x")),
    "close in fragments": (1002, lambda w: raw(w, 0x08, b"\x03\xe8")),
    "continuation of nothing": (1002, lambda w: raw(w, 0x80, b"x")),
    "open continuation of nothing": (1002, lambda w: raw(w, 0x00, b"x")),
    "text within a message": (1002, lambda w: (raw(w, 0x01, b"{"), raw(w, 0x81, b"}"))),
    "continuation after the end": (1002, lambda w: (raw(w, 0x01, b"{"), raw(w, 0x80, b"}"), raw(w, 0x80, b"}"))),
    "length 5 in 2 bytes": (1002, lambda w: raw(w, 0x81, b'"abc"', extended=2)),
    "length 5 in 8 bytes": (1002, lambda w: raw(w, 0x81, b'"abc"', extended=8)),
    "length 126 in 8 bytes": (1002, lambda w: raw(w, 0x81, b"x" * 126, extended=8)),
    "length with the top bit": (1002, lambda w: raw(w, 0x82, b"x", length=1 << 63)),
    "longer than allowed": (1009, lambda w: raw(w, 0x81, b"x", length=MAX + 1)),
    "much longer than allowed": (1009, lambda w: raw(w, 0x81, b"x", length=1 << 62)),
    "longer in fragments": (1009, lambda w: (raw(w, 0x01, b" " * MAX), raw(w, 0x80, b"x"))),
    "no utf-8": (1007, lambda w: raw(w, 0x81, b'"\xff"')),
    "utf-8 cut short": (1007, lambda w: raw(w, 0x81, b'"\xe2\x82')),
    "utf-8 cut by fragments and then wrong": (1007, lambda w: (raw(w, 0x01, b'"\xe2'), raw(w, 0x80, b"\x28\xa1"))),
    "utf-8 wrong before the end comes": (1007, lambda w: raw(w, 0x01, b'"\xff')),
    "surrogate": (1007, lambda w: raw(w, 0x81, b'"\xed\xa0\x80"')),
    "overlong": (1007, lambda w: raw(w, 0x81, b'"\xc0\xaf"')),
    "beyond unicode": (1007, lambda w: raw(w, 0x81, b'"\xf4\x90\x80\x80"')),
    "binary where text is spoken": (1003, lambda w: raw(w, 0x82, b"{}")),
    "half a code": (1002, lambda w: raw(w, 0x88, b"\x03")),
    "a reason that is no utf-8": (1007, lambda w: raw(w, 0x88, b"\x03\xe8\xff")),
    **{f"code {c}": (1002, lambda w, c=c: raw(w, 0x88, struct.pack(">H", c)))
       for c in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)},
}


@pytest.mark.parametrize("case", BAD)
def test_broken_frames(ws, case):
    code, send = BAD[case]
    alive(ws)
    send(ws)
    expect_close(ws, code)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])
def test_closing(ws, code):
    raw(ws, 0x88, struct.pack(">H", code) + "auf Wiedersehen, 日本".encode())
    expect_close(ws, code)


def test_closing_without_a_code(ws):
    raw(ws, 0x88)
    assert ws.frame() == (CLOSE, b"")
    with pytest.raises(EOFError):
        ws.frame()


def test_what_follows_a_close_is_not_read(ws):
    raw(ws, 0x88, b"\x03\xe8")
    raw(ws, 0x81, b'{"op":"ping","id":1}')
    raw(ws, 0x89, b"x")
    assert ws.frame() == (CLOSE, b"\x03\xe8")
    with pytest.raises((EOFError, ConnectionResetError)):
        ws.frame()


def test_pings_are_answered(ws):
    for n in (0, 1, 124, 125):
        raw(ws, 0x89, b"\x00\xff" * 62 + b"x" if n == 125 else b"\xfe" * n)
        opcode, payload = ws.frame()
        assert opcode == PONG and len(payload) == n
    raw(ws, 0x8A, b"nobody asked")
    alive(ws)


def test_fragments_with_control_frames_in_between(ws):
    text = b'{"op":"ping","id":1}'
    for at in range(1, len(text)):
        raw(ws, 0x01, text[:at])
        raw(ws, 0x89, b"a")
        raw(ws, 0x00)
        raw(ws, 0x8A, b"b")
        raw(ws, 0x80, text[at:])
        assert ws.frame() == (PONG, b"a")
        assert ws.next() == {"op": "ok", "id": 1}


def test_byte_by_byte(ws):
    ws.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for text in (b'{"op":"ping","id":1}', b'{"op":"ping","id":1,"data":"' + b"x" * 200 + b'"}'):
        n = len(text)
        frame = bytes([0x81]) + (bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack(">H", n)) + b"\0\0\0\0" + text
        for byte in frame:
            ws.socket.sendall(bytes([byte]))
        assert ws.next() == {"op": "ok", "id": 1}


def test_split_code_points(ws):
    text = json.dumps({"op": "ping", "id": 1, "data": "€😀"}, ensure_ascii=False).encode()
    for at in range(len(text)):
        raw(ws, 0x01, text[:at])
        raw(ws, 0x89, b"\xff")
        raw(ws, 0x80, text[at:])
        assert ws.frame() == (PONG, b"\xff")
        assert ws.next() == {"op": "ok", "id": 1}


@pytest.mark.parametrize("size", [125, 126, 127, 65535, MAX])
def test_lengths(ws, size):
    text = b'{"op":"ping","id":1,"data":""}'
    raw(ws, 0x81, text[:-2] + b"x" * (size - len(text)) + text[-2:])
    assert ws.next() == {"op": "ok", "id": 1}


def test_many_messages_in_one_write(ws):
    frames = b""
    for i in range(200):
        text = b'{"op":"ping","id":%d}' % i
        frames += bytes([0x81, 0x80 | len(text)]) + b"\0\0\0\0" + text
    ws.socket.sendall(frames)
    assert [ws.next()["id"] for _ in range(200)] == list(range(200))


def test_errors_are_logged(broker, ws):
    raw(ws, 0xA1, b"{}")
    expect_close(ws, 1002, "reserved bit")
    until(lambda: "with 1002: a reserved bit" in broker.log(), what="the log's line")


# ---- compression ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(broker):
    with web.websocket(broker, Sec_WebSocket_Extensions="permessage-deflate") as w:
        assert "permessage-deflate" in w.headers["sec-websocket-extensions"]
        yield w


def deflate(data):
    z = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (z.compress(data) + z.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflate(data):
    return zlib.decompressobj(-15).decompress(data + b"\x00\x00\xff\xff")


def whole_frame(ws):
    """With the first byte whole: (rsv1, opcode, payload)."""
    first, second = ws._take(2)
    n = second & 0x7F
    n = struct.unpack(">H", ws._take(2))[0] if n == 126 else struct.unpack(">Q", ws._take(8))[0] if n == 127 else n
    return bool(first & 0x40), first & 0x0F, ws._take(n)


def test_compressed_requests(packed):
    text = b'{"op":"ping","id":1}'
    raw(packed, 0xC1, deflate(text))
    assert packed.next()["id"] == 1
    raw(packed, 0x81, text)
    assert packed.next()["id"] == 1
    z = deflate(text)
    raw(packed, 0x41, z[:4])
    raw(packed, 0x89, b"x")
    raw(packed, 0x80, z[4:])
    assert packed.frame() == (PONG, b"x")
    assert packed.next()["id"] == 1


def test_compressed_answers(packed):
    raw(packed, 0x81, b'{"op":"request","id":1,"name":"queue_create","args":{"queue":"packed"}}')
    packed.next()
    raw(packed, 0x81, b'{"op":"request","id":2,"name":"queue_describe","args":{"queue":"packed"}}')
    rsv1, opcode, payload = whole_frame(packed)
    assert rsv1 and opcode == TEXT
    assert json.loads(inflate(payload))["result"]["queue"]["name"] == "packed"
    raw(packed, 0x81, json.dumps({"op": "publish", "queue": "packed", "message": {"body": "x" * 5000}}).encode())
    raw(packed, 0x81, b'{"op":"subscribe","sub":1,"queue":"packed","from":"beginning"}')
    rsv1, opcode, payload = whole_frame(packed)
    assert rsv1 and len(payload) < 500 and json.loads(inflate(payload))["body"] == "x" * 5000


def test_a_small_window_is_granted_by_not_compressing(broker):
    with web.websocket(broker, Sec_WebSocket_Extensions="permessage-deflate; server_max_window_bits=9") as w:
        w.send({"op": "request", "id": 2, "name": "queue_list", "args": {}})
        assert not whole_frame(w)[0]
        raw(w, 0xC1, deflate(b'{"op":"ping","id":1}'))
        assert w.next()["id"] == 1


def test_bombs_go_off_outside(broker, packed):
    before = broker.rss()
    bomb = deflate(b'{"op":"ping","data":"' + b"x" * (50 << 20) + b'"}')
    assert len(bomb) < MAX
    raw(packed, 0xC1, bomb)
    expect_close(packed, 1009, "inflated")
    assert broker.rss() - before < 30 << 20


def test_compressed_and_at_the_limit(packed):
    text = b'{"op":"ping","id":1,"data":"' + b"x" * (MAX - 30) + b'"}'
    assert len(text) == MAX
    raw(packed, 0xC1, deflate(text))
    assert packed.next()["id"] == 1
    raw(packed, 0xC1, deflate(text + b" "))
    expect_close(packed, 1009)


@pytest.mark.parametrize("case", ["garbage", "cut short", "no text inside", "again in a continuation"])
def test_compressed_and_broken(packed, case):
    z = deflate(b'{"op":"ping","id":1,"data":"abcdefghij"}')
    if case == "garbage":
        raw(packed, 0xC1, b"\xff\xff\xff\xff")
    elif case == "cut short":
        raw(packed, 0xC1, z[:-5])
    elif case == "no text inside":
        raw(packed, 0xC1, deflate(b'"\xff"'))
    else:
        raw(packed, 0x41, z[:4])
        raw(packed, 0xC0, z[4:])
    expect_close(packed, 1002 if case.startswith("again") else 1007)


# ---- silence, and the end -----------------------------------------------------------------------------------------------------------


def test_the_silent_are_pinged_and_then_let_go():
    with Broker(websocket__ping="300ms") as b, web.websocket(b) as talks, web.websocket(b) as silent:
        begin = time.monotonic()
        talks.socket.settimeout(10)
        silent.socket.settimeout(10)
        assert silent.frame() == (PING, b"")
        expect_close(silent, 1008, "heard")
        assert 0.5 < time.monotonic() - begin < 5
        for _ in range(4):  # who answers stays
            opcode, payload = talks.frame()
            if opcode == CLOSE:
                break
            talks.send_frame(PONG, payload)
        assert "nothing was heard" in b.log()


def test_who_answers_pings_stays():
    with Broker(websocket__ping="100ms") as b, web.websocket(b) as w:
        w.socket.settimeout(10)
        for _ in range(6):
            opcode, payload = w.frame()
            assert opcode == PING
            w.send_frame(PONG, payload)
        assert w.call("ping")["op"] == "ok"


def test_a_message_that_trickles_is_given_up():
    with Broker(websocket__ping="500ms") as b, web.websocket(b) as w:
        raw(w, 0x01, b" " * 10)
        deadline = time.monotonic() + 20
        w.socket.settimeout(0.05)
        with pytest.raises((EOFError, ConnectionError, AssertionError)):
            while time.monotonic() < deadline:
                raw(w, 0x00, b" ")
                time.sleep(0.02)
                try:
                    opcode, payload = w.frame()
                except socket.timeout:
                    continue
                if opcode == CLOSE:
                    assert struct.unpack(">H", payload[:2])[0] == 1008 and b"bytes a second" in payload
                    raise EOFError
            pytest.fail("it is still there")


def test_goaway_at_the_brokers_end():
    with Broker(websocket__close_timeout="2s") as b, web.websocket(b) as w, web.websocket(b, protocol="brokerd.v1.msgpack") as packed:
        w.ok("request", name="queue_create", args={"queue": "q"})
        w.ok("subscribe", sub=1, queue="q", credit=5)
        w.ok("subscribe", sub=2, queue="q", **{"from": "end"})
        w.send({"op": "request", "id": 99, "name": "lease", "args": {"queue": "q", "wait_ms": 30000}})
        w.ok("ping")
        begin = time.monotonic()
        b.process.terminate()
        for each in (w, packed):
            assert "text" in each.next(op="goaway")
            with pytest.raises(web.Closed) as closed:
                each.next(op="nothing")
            assert closed.value.code == 1001
            each.send_frame(CLOSE, b"\x03\xe9")
        assert b.wait(20) == 0
        assert time.monotonic() - begin < 10


def test_a_close_that_is_not_answered():
    with Broker(websocket__close_timeout="200ms") as b, web.websocket(b) as w:
        b.process.terminate()
        with pytest.raises(web.Closed):
            w.next(op="nothing")
        with pytest.raises((EOFError, ConnectionResetError)):
            w.frame()  # we say nothing, and it ends all the same


def test_who_takes_nothing_is_cut():
    with Broker(tcp__stall_timeout="1s", http__output="64KiB") as b, web.websocket(b) as slow, web.websocket(b) as quick:
        quick.ok("request", name="queue_create", args={"queue": "q", "retention": "log"})
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.ok("subscribe", sub=1, queue="q", **{"from": "end"})
        quick.ok("subscribe", sub=1, queue="q", **{"from": "end"})
        n, body, before = 2000, "x" * 10000, b.rss()
        for at in range(0, n, 50):
            quick.ok("publish", queue="q", messages=[{"body": body}] * 50, sync="none")
        for i in range(n):  # the other one is not held up
            assert quick.next(op="message", sub=1)["seq"] == i + 1
        assert b.rss() - before < 40 << 20  # bounded: the log is not read further for it
        until(lambda: "takes nothing" in b.log(), 20, "the slow one's end")


def test_who_comes_back_to_reading_misses_nothing():
    with Broker(http__output="64KiB") as b, web.websocket(b) as w:
        w.ok("request", name="queue_create", args={"queue": "q"})
        for _ in range(20):
            w.ok("publish", queue="q", messages=[{"body": "y" * 10000}] * 100, sync="none")
        w.ok("subscribe", sub=1, queue="q", **{"from": "beginning"})
        w.ok("subscribe", sub=2, queue="q", credit=1000000)
        time.sleep(1)
        for sub in (1, 2):
            assert [w.next(op="message", sub=sub)["seq"] for _ in range(2000)] == list(range(1, 2001))
