"""HTTP's framing in the real daemon: what two parsers could read differently, who is slow, who does not read, who asks for too much."""

import json
import os
import signal
import socket
import struct
import subprocess
import time

import pytest

import harness
import web

SMUGGLED = b"PUT /v1/queues/smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Raw:
    """A connection by hand."""

    def __init__(self, broker):
        self.socket = socket.create_connection(("127.0.0.1", broker.http_port), timeout=web.SECONDS)
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            return False  # it had sent more than was read
        self.rest += data
        return bool(data)

    def answer(self, head=False):
        """The next one: status, fields, body. None: the connection ended instead."""
        while b"\r\n\r\n" not in self.rest:
            if not self.more():
                assert not self.rest, self.rest
                return None
        top, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = top.decode("latin-1").split("\r\n")
        fields = dict((name.lower(), value) for name, value in (line.split(": ", 1) for line in lines[1:]))
        status = int(lines[0].split(" ")[1])
        length = 0 if head or status in (100, 204, 304) else int(fields["content-length"])
        while len(self.rest) < length:
            assert self.more(), "the connection ended in the midst of a body"
        body, self.rest = self.rest[:length], self.rest[length:]
        return status, fields, body

    def ends(self):
        """The broker closes, and says nothing more."""
        while self.more():
            pass
        return not self.rest


@pytest.fixture(scope="module")
def broker():
    with harness.Broker(http__head_timeout="400ms", http__idle_timeout="1s", http__body_rate="1KiB", http__output="16KiB") as b:
        with web.connect(b) as http:
            http.ok("PUT", "/v1/queues/jobs")
        yield b


def request(line, *fields, body=b""):
    return b"\r\n".join((line, b"Host: 127.0.0.1") + fields) + b"\r\n\r\n" + body


POST = b"POST /v1/queues/jobs/messages HTTP/1.1"
LENGTH = b"Content-Length: %d" % len(SMUGGLED)
VERSION = request(b"GET /v1/version HTTP/1.1")

# What hides a second request from one of two parsers.
SMUGGLING = {
    "length and encoding": request(POST, b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "encoding and length": request(POST, b"Transfer-Encoding: chunked", LENGTH, body=b"0\r\n\r\n" + SMUGGLED),
    "two lengths": request(POST, b"Content-Length: 0", LENGTH, body=SMUGGLED),
    "a list of lengths": request(POST, b"Content-Length: 0, %d" % len(SMUGGLED), body=SMUGGLED),
    "a signed length": request(POST, b"Content-Length: +0", body=SMUGGLED),
    "chunked twice": request(POST, b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n" + SMUGGLED),
    "chunked, identity": request(POST, b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + SMUGGLED),
    "x-chunked": request(POST, b"Transfer-Encoding: xchunked", LENGTH, body=SMUGGLED),
    "a vertical tab": request(POST, b"Transfer-Encoding:\x0bchunked", LENGTH, body=SMUGGLED),
    "a blank before the colon": request(POST, b"Transfer-Encoding : chunked", LENGTH, body=SMUGGLED),
    "a folded field": request(POST, b"X: y", b" Transfer-Encoding: chunked", LENGTH, body=SMUGGLED),
    "a folded value": request(POST, b"Transfer-Encoding:", b" chunked", LENGTH, body=SMUGGLED),
    "a bare LF": request(POST, b"X: y\nTransfer-Encoding: chunked", LENGTH, body=SMUGGLED),
    "a bare CR": request(POST, b"X: y\rTransfer-Encoding: chunked", LENGTH, body=SMUGGLED),
    "NUL": request(POST, b"Transfer-Encoding: chunked\x00", LENGTH, body=SMUGGLED),
    "LF ends the head": POST + b"\r\nHost: 127.0.0.1\r\n" + LENGTH + b"\r\n\n" + SMUGGLED,
    "two hosts": request(b"GET /v1/version HTTP/1.1", b"Host: other") + SMUGGLED,
    "another host in the target": request(b"GET http://other/v1/version HTTP/1.1") + SMUGGLED,
    "a fat chunk": request(POST, b"Transfer-Encoding: chunked", body=b"1\r\nxx\r\n0\r\n\r\n" + SMUGGLED),
    "an overflowing chunk": request(POST, b"Transfer-Encoding: chunked", body=b"10000000000000001\r\nx\r\n0\r\n\r\n" + SMUGGLED),
    "a chunk with LF": request(POST, b"Transfer-Encoding: chunked", body=b"1\nx\r\n0\r\n\r\n" + SMUGGLED),
    "a trailer that folds": request(POST, b"Transfer-Encoding: chunked", body=b"0\r\nA: b\r\n c\r\n\r\n" + SMUGGLED),
    "behind the last request": request(b"GET /v1/version HTTP/1.1", b"Connection: close") + SMUGGLED,
}


@pytest.mark.parametrize("case", SMUGGLING)
def test_nothing_is_smuggled(broker, case):
    for cut in (None, len(SMUGGLING[case]) - len(SMUGGLED), 60):
        with Raw(broker) as raw:
            raw.send(SMUGGLING[case][:cut])
            if cut:
                try:
                    raw.send(SMUGGLING[case][cut:])
                except OSError:
                    pass  # it has closed, as it may
            status, fields, body = raw.answer()
            assert status == (200 if case == "behind the last request" else 400), body
            assert fields["connection"] == "close"
            raw.socket.shutdown(socket.SHUT_WR)
            assert raw.ends()
    with web.connect(broker) as http:
        assert http.request("GET", "/v1/queues/smuggled").status == 404


def test_bodies_hide_nothing(broker):
    """What is in a body is in the body."""
    with Raw(broker) as raw:
        raw.send(request(POST, LENGTH, body=SMUGGLED) + VERSION)
        assert raw.answer()[0] in (201, 202)
        assert raw.answer()[0] == 200
        raw.send(request(POST, b"Transfer-Encoding: chunked", body=b"%x\r\n%s\r\n0\r\nContent-Length: 99\r\n\r\n" % (len(SMUGGLED), SMUGGLED)))
        assert raw.answer()[0] in (201, 202)
        raw.send(request(b"GET /v1/queues/jobs/messages?from=end HTTP/1.1") + VERSION)
        assert raw.answer()[0] == 200
        assert raw.answer()[0] == 200
    with web.connect(broker) as http:
        assert http.request("GET", "/v1/queues/smuggled").status == 404


def test_a_pipeline_is_answered_in_order(broker):
    with Raw(broker) as raw:
        for i in range(300):
            body = b"%d" % i
            raw.send(request(POST, b"Content-Length: %d" % len(body), body=body) + request(b"GET /nowhere/%d HTTP/1.1" % i))
        last = 0
        for i in range(300):
            status, _, body = raw.answer()
            assert status in (201, 202)
            assert json.loads(body)["seq"] > last
            last = json.loads(body)["seq"]
            status, _, body = raw.answer()
            assert status == 404 and f"/nowhere/{i}".encode() in body


def test_a_long_poll_holds_back_what_came_behind_it(broker):
    with Raw(broker) as raw, web.connect(broker) as http:
        http.ok("PUT", "/v1/queues/late")
        raw.send(request(b"POST /v1/queues/late/lease?wait=20s HTTP/1.1", b"Content-Length: 0") + VERSION)
        http.ok("POST", "/v1/queues/late/messages", b"now")
        status, _, body = raw.answer()
        assert status == 200 and json.loads(body)["messages"]
        assert raw.answer()[0] == 200


def test_slowloris(broker):
    """Many heads that never end; everybody else is served meanwhile."""
    slow = [Raw(broker) for _ in range(50)]
    begun = time.monotonic()
    ended = set()
    with web.connect(broker) as http:
        for byte in b"GET /v1/version HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 1000:
            for raw in slow:
                if raw not in ended:
                    try:
                        raw.send(bytes([byte]))
                    except OSError:
                        ended.add(raw)
            assert http.request("GET", "/v1/version").status == 200
            if len(ended) == len(slow):
                break
            assert time.monotonic() - begun < 20
    for raw in slow:
        try:
            answer = raw.answer()
        except OSError:
            answer = None
        assert answer is None or answer[0] == 408
        raw.socket.close()


def test_a_head_that_stops(broker):
    with Raw(broker) as raw:
        raw.send(b"GET /v1/version HTTP/1.1\r\nHo")
        status, fields, body = raw.answer()
        assert status == 408 and fields["connection"] == "close" and json.loads(body)["code"] == "REQUEST_TIMEOUT"
        assert raw.ends()


def test_a_body_that_drips(broker):
    with Raw(broker) as raw:
        raw.send(request(POST, b"Content-Length: 100000"))
        status = None
        for _ in range(1000):
            try:
                raw.send(b"x")
            except OSError:
                break
            raw.socket.settimeout(0.02)
            try:
                status = raw.answer()[0]
                break
            except TimeoutError:
                continue
            finally:
                raw.socket.settimeout(web.SECONDS)
        assert status == 408


def test_idle_connections_end_silently(broker):
    with Raw(broker) as raw:
        raw.send(VERSION)
        assert raw.answer()[0] == 200
        assert raw.ends()
    with Raw(broker) as raw:
        assert raw.ends()  # it said nothing at all


def resident(broker):
    with open(f"/proc/{broker.process.pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def test_a_reader_that_stops(broker):
    """It asks for much and reads nothing: it is not read either, and takes a bounded part of the broker's memory."""
    with web.connect(broker) as http:
        http.ok("PUT", "/v1/queues/large")
        http.ok("POST", "/v1/queues/large/messages", b"x" * 100000)
        before = resident(broker)
        with Raw(broker) as raw:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            raw.socket.settimeout(0.5)
            one = request(b"GET /v1/queues/large/messages/1 HTTP/1.1")
            sent = 0
            try:
                for _ in range(2000):
                    raw.send(one * 100)
                    sent += 100
            except TimeoutError:
                pass
            assert sent < 200000, "everything was read"
            for _ in range(20):
                assert http.request("GET", "/v1/version").status == 200
            assert resident(broker) - before < 60 * 1024  # KiB; sanitizers included
            raw.socket.settimeout(web.SECONDS)
            for _ in range(3):
                assert len(raw.answer()[2]) == 100000  # nothing was lost


def test_who_resets_is_gone(broker):
    """A waiting lease whose client has reset the connection gets nothing."""
    with web.connect(broker) as http:
        http.ok("PUT", "/v1/queues/fleeting")
        raw = Raw(broker)
        raw.send(request(b"POST /v1/queues/fleeting/lease?wait=20s HTTP/1.1", b"Content-Length: 0"))
        assert http.request("GET", "/v1/version").status == 200  # a turn or two later, the request has been read
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.socket.close()
        assert http.request("GET", "/v1/version").status == 200
        http.ok("POST", "/v1/queues/fleeting/messages", b"for whom it may concern")
        assert len(http.ok("POST", "/v1/queues/fleeting/lease?wait=20s").json()["messages"]) == 1


def test_expectations(broker):
    with Raw(broker) as raw:
        raw.send(request(POST, b"Content-Length: 5", b"Expect: 100-continue"))
        assert raw.answer()[0] == 100
        raw.send(b"hello")
        assert raw.answer()[0] in (201, 202)
        raw.send(request(POST, b"Content-Length: 999999999999", b"Expect: 100-continue"))
        assert raw.answer()[0] == 413
        assert raw.ends()


def test_curl_in_several_ways(broker):
    url = f"{broker.http}/v1/queues/jobs/messages"

    def curl(*more):
        done = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *more], capture_output=True, timeout=web.SECONDS, check=True)
        return done.stdout.decode()

    body = b"y" * 300000
    for more in (["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"], ["--http1.0"], ["-H", "Connection: close"]):
        file = os.path.join(broker.directory, "body")
        with open(file, "wb") as f:
            f.write(body)
        assert curl("--data-binary", f"@{file}", *more, url) in ("201", "202"), more
    assert curl("-I", f"{broker.http}/v1/version") == "200"
    assert curl("-X", "OPTIONS", url) == "204"
    with web.connect(broker) as http:
        last = http.ok("GET", "/v1/queues/jobs/messages?from=1&max=1").json()["last"]
        assert http.request("GET", f"/v1/queues/jobs/messages/{last}").body == body


def test_limits_of_heads(broker):
    for bad, status in ((b"GET /" + b"x" * 20000, 414), (request(b"GET / HTTP/1.1", b"X: " + b"x" * 20000), 431), (request(b"GET / HTTP/1.1", *[b"X: y"] * 200), 431)):
        with Raw(broker) as raw:
            raw.send(bad)
            assert raw.answer()[0] == status
            assert raw.ends()


def test_other_protocols_are_told_at_once(broker):
    for first in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"BRKD\x01\x00\x00\x00\r\n\r\n", b"\x00" * 8):
        with Raw(broker) as raw:
            raw.send(first)
            status, _, _ = raw.answer()
            assert status == 400
            assert raw.ends()


def test_one_connection_too_many_and_the_end():
    with harness.Broker(http__max_connections="3") as broker:
        raws = [Raw(broker) for _ in range(3)]
        for raw in raws:
            raw.send(VERSION)
            assert raw.answer()[0] == 200
        with Raw(broker) as one_more:
            status, fields, body = one_more.answer()
            assert status == 503 and fields["retry-after"] == "1" and b"http.max_connections" in body
            assert one_more.ends()
        raws[0].socket.close()

        def room():
            with Raw(broker) as raw:
                raw.send(VERSION)
                return raw.answer()[0] == 200

        harness.until(room, what="room for another")
        broker.process.send_signal(signal.SIGTERM)  # with two idle connections
        begun = time.monotonic()
        assert raws[1].ends() and raws[2].ends()
        for raw in raws:
            raw.socket.close()
        assert broker.wait() == 0
        assert time.monotonic() - begun < 10
