"""Leasing and settling over HTTP: forms, long polling, and clients that go away."""

import json
import socket
import threading
import time

import msgpack
import pytest

import harness
import web


@pytest.fixture(scope="module")
def broker():
    with harness.Broker(http__max_wait="20s") as b:
        yield b


def publish(http, queue, *bodies, **fields):
    for body in bodies:
        http.ok("POST", f"/v1/queues/{queue}/messages", body, **fields)


def lease(http, queue, query=""):
    return http.ok("POST", f"/v1/queues/{queue}/lease{query}").json()["messages"]


def group_of(http, queue, group="default"):
    groups = http.ok("GET", f"/v1/queues/{queue}").json()["groups"]
    return next(g for g in groups if g["name"] == group)


# ---- forms ------------------------------------------------------------------------------------------------------------------


def test_nothing_is_an_empty_list(http, queue):
    answer = http.ok("POST", f"/v1/queues/{queue}/lease")
    assert answer.status == 200 and answer.json() == {"messages": []}
    assert answer.headers["Cache-Control"] == "no-store"
    assert http.ok("POST", f"/v1/queues/{queue}/lease", Accept="application/octet-stream").status == 204
    assert http.ok("POST", f"/v1/queues/{queue}/lease?raw").status == 204
    answer = http.ok("POST", f"/v1/queues/{queue}/lease", Accept="application/x-ndjson")
    assert answer.status == 200 and answer.body == b""


def test_the_same_message_in_every_form(http, queue):
    publish(http, queue, *[b"\x00\xff"] * 6, Broker_Header_a="b", Broker_Key="k", Content_Type="x/y")
    http.ok("PATCH", f"/v1/queues/{queue}", {"ordered_keys": False})
    (m,) = lease(http, queue)
    assert (m["seq"], m["attempt"], m["body_base64"], m["key"], m["headers"]) == (1, 1, "AP8=", "k", {"a": "b", "content-type": "x/y"})
    assert m["receipt"].isdigit()
    lines = http.ok("POST", f"/v1/queues/{queue}/lease?max=2", Accept="application/x-ndjson").body.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [2, 3]
    (packed,) = msgpack.unpackb(http.ok("POST", f"/v1/queues/{queue}/lease", Accept="application/msgpack").body)["messages"]
    assert packed["body"] == b"\x00\xff" and packed["seq"] == 4
    raw = http.ok("POST", f"/v1/queues/{queue}/lease?max=9", Accept="application/octet-stream")
    assert raw.body == b"\x00\xff" and raw.headers["Content-Type"] == "x/y"
    assert (raw.headers["Broker-Seq"], raw.headers["Broker-Attempt"], raw.headers["Broker-Key"]) == ("5", "1", "k")
    assert raw.headers["Broker-Header-a"] == "b" and raw.headers["Broker-Receipt"].isdigit()
    assert http.ok("POST", f"/v1/queues/{queue}/lease?raw=true").headers["Broker-Seq"] == "6"
    assert http.refused(406, "POST", f"/v1/queues/{queue}/lease", Accept="text/html")


def test_wrong_queries_are_named(http, queue):
    for query, says in (
        ("max=0", "max is '0'; give a number from 1 to 1024"),
        ("max=x", "max is 'x'"),
        ("wait=5x", "wait is '5x'"),
        ("lease=2d", "lease is '2d'"),
        ("grup=a", "did you mean group"),
        ("max=1&max=2", "max comes twice"),
        ("raw=perhaps", "raw is 'perhaps'"),
    ):
        assert says in http.refused(400, "POST", f"/v1/queues/{queue}/lease?{query}")["detail"]
    assert http.refused(404, "POST", f"/v1/queues/{queue}/lease?group=none")["code"] == "GROUP_NOT_FOUND"
    assert http.refused(404, "POST", "/v1/queues/none/lease")["code"] == "QUEUE_NOT_FOUND"


# ---- settling ---------------------------------------------------------------------------------------------------------------


def test_one_by_one(http, queue):
    publish(http, queue, b"1", b"2", b"3")
    one, two, three = lease(http, queue, "?max=3&lease=1h")
    assert http.request("POST", f"/v1/receipts/{one['receipt']}/ack").status == 204
    problem = http.refused(409, "POST", f"/v1/receipts/{one['receipt']}/ack")
    assert problem["code"] == "STALE_RECEIPT" and one["receipt"] in problem["detail"]
    assert http.request("POST", f"/v1/receipts/{two['receipt']}/extend?lease=2h").status == 204
    assert http.request("POST", f"/v1/receipts/{two['receipt']}/nack?delay=1").status == 204
    assert http.request("POST", f"/v1/receipts/{three['receipt']}/reject").status == 204
    (again,) = lease(http, queue, "?max=5&wait=10s")
    assert (again["body"], again["attempt"]) == ("2", 2)
    (dead,) = harness.until(lambda: lease(http, f"{queue}.dead") if http.request("GET", f"/v1/queues/{queue}.dead").status == 200 else None)
    assert dead["body"] == "3" and dead["headers"]["dead-reason"] == "rejected"
    for path, says in (("abc/ack", "'abc'"), ("1/extend", "lease=30s"), ("1/ack?delay=1", "delay"), ("1/nack?delay=x", "delay is 'x'")):
        assert says in http.refused(400, "POST", f"/v1/receipts/{path}")["detail"]


def test_many_at_once(http, queue):
    publish(http, queue, *[str(i).encode() for i in range(10)])
    got = lease(http, queue, "?max=10")
    receipts = [m["receipt"] for m in got]
    assert http.ok("POST", "/v1/ack", {"receipts": receipts[:4]}).json() == {"settled": 4, "stale_count": 0, "stale": []}
    assert http.ok("POST", "/v1/ack", {"receipts": receipts[3:5]}).json() == {"settled": 1, "stale_count": 1, "stale": [receipts[3]]}
    assert http.ok("POST", "/v1/extend", {"receipts": receipts[5:6], "lease_ms": 60000}).json()["settled"] == 1
    assert http.ok("POST", "/v1/nack", {"receipts": receipts[5:8], "delay_ms": 1}).json()["settled"] == 3
    assert http.ok("POST", "/v1/reject", {"receipts": [int(r) for r in receipts[8:]]}).json()["settled"] == 2
    back = []
    while len(back) < 3:
        back += lease(http, queue, "?max=10&wait=10s")
    assert sorted(m["body"] for m in back) == ["5", "6", "7"] and {m["attempt"] for m in back} == {2}
    for path, body, says in (
        ("ack", {"receipts": "x"}, "no array"),
        ("ack", {"receipts": ["x"]}, "receipt 1"),
        ("ack", {"receipts": []}, "receipts"),
        ("ack", {"recipts": []}, "did you mean receipts"),
        ("ack", [], "object"),
        ("nack", {"receipts": ["1"], "delay_ms": -1}, "delay_ms"),
        ("extend", {"receipts": ["1"]}, "lease_ms"),
        ("ack", b"{", "JSON"),
    ):
        assert says in http.refused(400, "POST", f"/v1/{path}", body)["detail"], (path, body)
    assert http.refused(415, "POST", "/v1/ack", b"x", Content_Type="text/plain")


# ---- long polling -----------------------------------------------------------------------------------------------------------


def waiting(http, queue):
    """How many consumers wait for messages of the queue."""
    return http.ok("GET", f"/v1/queues/{queue}").json()["queue"]["consumers"]


class Waiter(threading.Thread):
    def __init__(self, broker, path, method="POST"):
        super().__init__(daemon=True)
        self.http, self.method, self.path, self.answer, self.at = web.connect(broker), method, path, None, None
        self.start()

    def run(self):
        self.answer = self.http.request(self.method, self.path)
        self.at = time.monotonic()

    def get(self):
        self.join(30)
        assert self.answer is not None, "no answer came"
        return self.answer


def test_a_long_poll_is_answered_at_once_when_something_arrives(broker, http, queue):
    delays = []
    for i in range(5):
        waiter = Waiter(broker, f"/v1/queues/{queue}/lease?wait=20s")
        harness.until(lambda: waiting(http, queue) == 1)
        start = time.monotonic()
        publish(http, queue, b"%d" % i)
        (m,) = waiter.get().json()["messages"]
        delays.append(waiter.at - start)
        assert m["body"] == str(i) and m["attempt"] == 1
        http.ok("POST", f"/v1/receipts/{m['receipt']}/ack")
    assert sorted(delays)[2] < 0.1, delays


def test_a_wait_that_is_over_is_an_empty_answer(http, queue):
    start = time.monotonic()
    assert lease(http, queue, "?wait=300ms") == []
    assert 0.29 < time.monotonic() - start < 5


def test_a_wait_is_cut_to_the_limit(queue):
    with harness.Broker(http__max_wait="200ms") as broker, web.connect(broker) as http:
        http.ok("PUT", "/v1/queues/q")
        start = time.monotonic()
        assert lease(http, "q", "?wait=1h") == []
        assert time.monotonic() - start < 10


def raw_request(broker, text):
    s = socket.create_connection(("127.0.0.1", broker.http_port), 30)
    s.sendall(text.encode())
    return s


def test_a_client_that_has_gone_gets_nothing(broker, http, queue):
    """It leaves while it waits; what is published then goes to the next one, for the first time."""
    for _ in range(5):
        s = raw_request(broker, f"POST /v1/queues/{queue}/lease?wait=20s HTTP/1.1\r\nHost: localhost\r\n\r\n")
        harness.until(lambda: waiting(http, queue) == 1)
        s.close()
        harness.until(lambda: waiting(http, queue) == 0, what="the end of the wait")
        publish(http, queue, b"x")
        (m,) = lease(http, queue)
        assert m["attempt"] == 1
        http.ok("POST", f"/v1/receipts/{m['receipt']}/ack")


def test_a_client_that_does_not_take_its_messages(broker, http, queue):
    """The response is larger than what the sockets hold, the client leaves: the messages are there for others at once."""
    body = bytes(200000)
    publish(http, queue, *[body] * 4)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", broker.http_port))
    s.sendall(f"POST /v1/queues/{queue}/lease?max=1024&lease=1h HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    harness.until(lambda: group_of(http, queue)["leased"] > 0)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    s.close()
    harness.until(lambda: group_of(http, queue)["leased"] == 0, what="the messages' return")
    got = []
    while len(got) < 4:
        got += lease(http, queue, "?max=1024&wait=10s")
    assert {m["attempt"] for m in got} <= {1, 2}


def test_a_queue_that_goes_ends_the_waits(broker, http, queue):
    waiters = [Waiter(broker, f"/v1/queues/{queue}/messages?wait=20s", "GET"), Waiter(broker, f"/v1/queues/{queue}/lease?wait=20s")]
    harness.until(lambda: waiting(http, queue) == 1)
    http.ok("DELETE", f"/v1/queues/{queue}")
    for waiter in waiters:
        answer = waiter.get()
        assert answer.status == 404 and answer.json()["code"] == "QUEUE_NOT_FOUND", answer


def test_a_stop_does_not_wait_for_long_polls():
    with harness.Broker() as broker, web.connect(broker) as http:
        http.ok("PUT", "/v1/queues/q")
        ask = "{} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        s = raw_request(broker, ask.format("GET /v1/queues/q/messages?wait=50s") + ask.format("POST /v1/queues/q/lease?wait=50s"))
        harness.until(lambda: waiting(http, "q") == 1)
        start = time.monotonic()
        assert broker.stop() == 0
        assert time.monotonic() - start < 5
        text = b""
        while got := s.recv(65536):
            text += got
        assert text.count(b"HTTP/1.1 503 ") == 2 and text.count(b'"code":"SHUTTING_DOWN"') == 2 and b"Retry-After: 1" in text


def test_pipelined_behind_a_long_poll(broker, http, queue):
    """Requests of one connection run at the same time and are answered in order."""
    s = raw_request(
        broker,
        f"POST /v1/queues/{queue}/lease?wait=20s HTTP/1.1\r\nHost: localhost\r\n\r\n"
        f"POST /v1/queues/{queue}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi",
    )
    text = b""
    while b'{"seq":1}' not in text.split(b'"messages"')[-1]:
        got = s.recv(65536)
        assert got, text
        text += got
    assert text.index(b'"body":"hi"') < text.rindex(b'{"seq":1}')
    s.close()


def test_many_long_polls(broker, http, queue):
    """Five hundred wait; each message goes to one of them, once."""
    count = 500
    sockets = [
        raw_request(broker, f"POST /v1/queues/{queue}/lease?wait=20s HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(count)
    ]
    harness.until(lambda: waiting(http, queue) == count)
    http.ok("POST", f"/v1/queues/{queue}/messages/batch", [{"body": str(i)} for i in range(count)])
    bodies = []
    for s in sockets:
        s.settimeout(30)
        text = b""
        while not text.endswith(b"]}"):
            got = s.recv(65536)
            assert got, text
            text += got
        (m,) = json.loads(text.split(b"\r\n\r\n", 1)[1])["messages"]
        assert m["attempt"] == 1
        bodies.append(int(m["body"]))
        s.close()
    assert sorted(bodies) == list(range(count))
