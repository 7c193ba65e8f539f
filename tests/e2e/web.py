"""Clients of the web's ways, by hand: HTTP, event streams, WebSocket. Blocking, with deadlines; standard library and msgpack only."""

import base64
import hashlib
import http.client
import json
import os
import socket
import struct
import time
import urllib.parse

import msgpack

SECONDS = 30  # deadline of everything that must come


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:500]!r}"


class Http:
    """One keep-alive connection. A body that is no bytes goes out as JSON."""

    def __init__(self, address, host=None):
        self.address, self.host = address, host
        self.connection = http.client.HTTPConnection(*address, timeout=SECONDS)

    def request(self, method, path, body=None, **headers):
        """headers: Content_Type="text/plain"."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        if self.host:
            headers.setdefault("Host", self.host)
        self.connection.request(method, path, body, headers)
        return Answer(self.connection.getresponse())

    def ok(self, method, path, body=None, **headers):
        answer = self.request(method, path, body, **headers)
        assert 200 <= answer.status < 300, (method, path, answer)
        return answer

    def refused(self, status, method, path, body=None, **headers):
        """It fails with this status; the problem."""
        answer = self.request(method, path, body, **headers)
        assert answer.status == status, (method, path, answer)
        assert answer.headers["Content-Type"] == "application/problem+json", answer
        return answer.json()

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def connect(broker, **more):
    return Http(("127.0.0.1", broker.http_port), **more)


class Event:
    def __init__(self):
        self.event, self.data, self.id, self.retry = "message", None, None, None

    def json(self):
        return json.loads(self.data)

    def __repr__(self):
        return f"Event({self.event!r}, id={self.id!r}, {self.data!r})"


class Events:
    """An event stream, parsed as WHATWG HTML 9.2.6 says. Comments are counted."""

    def __init__(self, address, path, last_event_id=None, **headers):
        self.socket = socket.create_connection(address, SECONDS)
        lines = [f"GET {path} HTTP/1.1", f"Host: {address[0]}:{address[1]}", "Accept: text/event-stream"]
        if last_event_id is not None:
            lines.append(f"Last-Event-ID: {last_event_id}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.rest, self.comments, self.retry, self.last_id = b"", 0, None, None
        head = self._until(b"\r\n\r\n").decode()
        self.status = int(head.split()[1])
        self.headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        self.chunked = any(k.lower() == "transfer-encoding" for k in self.headers)
        self.text = b""

    def _more(self):
        got = self.socket.recv(65536)
        if not got:
            raise EOFError("the stream has ended")
        self.rest += got

    def _until(self, mark):
        while mark not in self.rest:
            self._more()
        head, self.rest = self.rest.split(mark, 1)
        return head

    def _fill(self):
        """More of the stream's text: through a proxy it may come chunked."""
        if not self.chunked:
            if not self.rest:
                self._more()
            self.text, self.rest = self.text + self.rest, b""
            return
        size = int(self._until(b"\r\n").split(b";")[0], 16)
        if size == 0:
            raise EOFError("the stream has ended")
        while len(self.rest) < size + 2:
            self._more()
        self.text, self.rest = self.text + self.rest[:size], self.rest[size + 2 :]

    def line(self):
        while b"\n" not in self.text:
            self._fill()
        line, self.text = self.text.split(b"\n", 1)
        return line.rstrip(b"\r").decode()

    def next(self, seconds=SECONDS):
        """The next event; socket.timeout if none comes."""
        self.socket.settimeout(seconds)
        event, data = Event(), []
        while True:
            line = self.line()
            if not line:
                if data or event.event != "message":
                    event.data = "\n".join(data)
                    event.id = self.last_id
                    return event
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "":
                self.comments += 1
            elif name == "data":
                data.append(value)
            elif name == "event":
                event.event = value
            elif name == "id":
                self.last_id = value
            elif name == "retry":
                self.retry = int(value)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def events(broker, path, last_event_id=None, **headers):
    return Events(("127.0.0.1", broker.http_port), path, last_event_id, **headers)


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Closed(Exception):
    """The peer has closed the WebSocket: code and reason."""

    def __init__(self, code, reason):
        super().__init__(f"closed with {code} {reason!r}")
        self.code, self.reason = code, reason


class WebSocket:
    """A WebSocket whose messages are objects: JSON text frames, or msgpack in binary ones."""

    def __init__(self, address, path="/v1/ws", protocol="brokerd.v1.json", **headers):
        self.socket = socket.create_connection(address, SECONDS)
        self.msgpack = protocol is not None and protocol.endswith("msgpack")
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {address[0]}:{address[1]}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        if protocol:
            lines.append(f"Sec-WebSocket-Protocol: {protocol}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.rest, self.ids, self.waiting = b"", 0, []
        while b"\r\n\r\n" not in self.rest:
            self._more()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        status, *fields = head.decode().split("\r\n")
        assert status.split()[1] == "101", (head, self.rest)
        self.headers = {k.lower(): v for k, v in (f.split(": ", 1) for f in fields)}
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        assert self.headers["sec-websocket-accept"] == accept

    def _more(self):
        got = self.socket.recv(65536)
        if not got:
            raise EOFError("the connection has ended")
        self.rest += got

    def _take(self, n):
        while len(self.rest) < n:
            self._more()
        taken, self.rest = self.rest[:n], self.rest[n:]
        return taken

    def send_frame(self, opcode, payload, fin=True, mask=b"\x11\x22\x33\x44"):
        n = len(payload)
        length = bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack(">H", n) if n < 65536 else b"\xff" + struct.pack(">Q", n)
        masked = bytes(b ^ mask[i & 3] for i, b in enumerate(payload)) if n < 4096 else (
            int.from_bytes(payload, "big") ^ int.from_bytes((mask * (n // 4 + 1))[:n], "big")).to_bytes(n, "big")
        self.socket.sendall(bytes([(0x80 if fin else 0) | opcode]) + length + mask + masked)

    def frame(self):
        first, second = self._take(2)
        n = second & 0x7F
        if n == 126:
            n = struct.unpack(">H", self._take(2))[0]
        elif n == 127:
            n = struct.unpack(">Q", self._take(8))[0]
        return first & 0x0F, self._take(n)

    def send(self, message):
        if self.msgpack:
            self.send_frame(BINARY, msgpack.packb(message))
        else:
            self.send_frame(TEXT, json.dumps(message).encode())

    def _next(self):
        while True:
            opcode, payload = self.frame()
            if opcode == PING:
                self.send_frame(PONG, payload)
            elif opcode == CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                raise Closed(code, payload[2:].decode())
            elif opcode in (TEXT, BINARY):
                assert (opcode == BINARY) == self.msgpack
                return msgpack.unpackb(payload) if self.msgpack else json.loads(payload)

    def next(self, seconds=SECONDS, **fields):
        """The next message that has these fields; others wait for later calls."""
        deadline = time.monotonic() + seconds
        for i, message in enumerate(self.waiting):
            if fields.items() <= message.items():
                return self.waiting.pop(i)
        while True:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            message = self._next()
            if fields.items() <= message.items():
                return message
            self.waiting.append(message)

    def call(self, op, **fields):
        """Send a request, wait for its answer, whatever it is."""
        self.ids += 1
        number = self.ids
        self.send({"op": op, "id": number, **fields})
        return self.next(id=number)

    def ok(self, op, **fields):
        answer = self.call(op, **fields)
        assert answer["op"] == "ok", answer
        return answer

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def websocket(broker, protocol="brokerd.v1.json", **headers):
    return WebSocket(("127.0.0.1", broker.http_port), protocol=protocol, **headers)


def quote(text):
    return urllib.parse.quote(text, safe="")
