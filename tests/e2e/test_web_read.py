"""Reading by cursor: polling with entity tags, long polling, one message by its number, peeking."""

import json
import socket
import time

import msgpack
import pytest

import harness
from test_web_lease import Waiter


@pytest.fixture(scope="module")
def broker():
    with harness.Broker(**harness.SMALL) as b:
        yield b


@pytest.fixture
def log(http, request):
    name = request.node.name[:200]
    http.ok("PUT", f"/v1/queues/{name}", {"retention": "log"})
    return name


def publish(http, queue, count, **more):
    http.ok("POST", f"/v1/queues/{queue}/messages/batch", [{"body": str(i + 1), **more} for i in range(count)])


def read(http, queue, query="", **fields):
    return http.ok("GET", f"/v1/queues/{queue}/messages{query}", **fields)


def seqs(answer):
    return [m["seq"] for m in answer.json()["messages"]]


def test_a_cursor_goes_through_all_of_it(http, log):
    publish(http, log, 250)
    got, at = [], "beginning"
    while True:
        answer = read(http, log, f"?from={at}&max=100").json()
        got += answer["messages"]
        at = answer["next"]
        if not answer["messages"]:
            break
    assert [m["seq"] for m in got] == list(range(1, 251))
    assert [m["body"] for m in got] == [str(i) for i in range(1, 251)]
    assert (answer["next"], answer["first"], answer["last"]) == (251, 1, 250)
    assert "receipt" not in got[0] and "attempt" not in got[0]
    assert seqs(read(http, log, "?from=end")) == []
    assert read(http, log, "?from=end").json()["next"] == 251
    assert len(seqs(read(http, log))) == 100
    assert http.ok("GET", f"/v1/queues/{log}").json()["queue"]["messages"] == 250


def test_an_empty_queue(http, log):
    answer = read(http, log)
    assert answer.json() == {"messages": [], "next": 1, "first": 1, "last": 0}
    assert read(http, log, "?raw").status == 204
    assert http.refused(404, "GET", "/v1/queues/none/messages")["code"] == "QUEUE_NOT_FOUND"


def test_entity_tags(http, log):
    publish(http, log, 3)
    first = read(http, log, "?from=1&max=2")
    tag = first.headers["ETag"]
    assert tag.startswith('"') and tag.endswith('"') and first.headers["Cache-Control"] == "no-cache"
    assert "Accept" in first.headers["Vary"]

    def ask(tags, query="?from=1&max=2", **fields):
        return http.request("GET", f"/v1/queues/{log}/messages{query}", If_None_Match=tags, **fields)

    for tags in (tag, f"W/{tag}", f'"x", {tag}', f'"a,b" ,W/"q",  W/{tag} , "z"', "*", " * "):
        answer = ask(tags)
        assert answer.status == 304 and answer.body == b"", (tags, answer)
        assert answer.headers["ETag"] == tag and answer.headers["Cache-Control"] == "no-cache"
    for tags in ('"x"', tag[:-1], tag.strip('"'), f'"x{tag[1:]}', "", "W/", f"w/{tag}", '"b'):
        assert ask(tags).status == 200, tags
    # Every other answer has another tag: other messages, another form, another end of the queue.
    others = [read(http, log, q).headers["ETag"] for q in ("?from=1&max=1", "?from=2&max=1", "?from=1&max=3", "?from=end")]
    others += [read(http, log, "?from=1&max=2", Accept=a).headers["ETag"] for a in ("application/msgpack", "application/x-ndjson")]
    publish(http, log, 1)
    others.append(ask(tag).headers["ETag"])
    assert tag not in others and len(set(others)) == len(others)
    # A queue that was made again under the same name.
    http.ok("DELETE", f"/v1/queues/{log}")
    http.ok("PUT", f"/v1/queues/{log}", {"retention": "log"})
    publish(http, log, 3)
    assert ask(tag).status == 200


def test_polling_with_a_tag_until_something_comes(http, log):
    publish(http, log, 1)
    at = read(http, log).json()["next"]
    nothing = read(http, log, f"?from={at}")
    for _ in range(3):
        assert http.request("GET", f"/v1/queues/{log}/messages?from={at}", If_None_Match=nothing.headers["ETag"]).status == 304
    publish(http, log, 1)
    answer = http.request("GET", f"/v1/queues/{log}/messages?from={at}", If_None_Match=nothing.headers["ETag"])
    assert answer.status == 200 and seqs(answer) == [2]


def test_long_polling(broker, http, log):
    publish(http, log, 1)
    delays = []
    for i in range(5):
        waiter = Waiter(broker, f"/v1/queues/{log}/messages?from={2 + i}&wait=20s", "GET")
        time.sleep(0.05)  # it may also come too early to wait: then there is nothing to measure, but the answer is the same
        assert waiter.answer is None
        start = time.monotonic()
        publish(http, log, 1)
        assert seqs(waiter.get()) == [2 + i]
        delays.append(waiter.at - start)
    assert sorted(delays)[2] < 0.1, delays
    start = time.monotonic()
    assert seqs(read(http, log, "?from=end&wait=200ms")) == []
    assert 0.19 < time.monotonic() - start < 5


def test_a_head_does_not_wait(broker, http, log):
    start = time.monotonic()
    answer = http.request("HEAD", f"/v1/queues/{log}/messages?from=end&wait=20s")
    assert answer.status == 200 and answer.body == b"" and time.monotonic() - start < 10
    assert answer.headers["ETag"] == read(http, log, "?from=end").headers["ETag"]


def test_filters(http, log):
    path = f"/v1/queues/{log}/messages"
    http.ok("POST", path, b"1", Broker_Key="a b", Broker_Topic="x.y", Broker_Header_n="v:w")
    http.ok("POST", path, b"2", Broker_Key="c", Broker_Topic="x.z", Broker_Header_n="v:w", Broker_Header_m="1")
    http.ok("POST", path, b"3")
    assert seqs(read(http, log, "?key=a+b")) == [1]
    assert seqs(read(http, log, "?topic=x.*")) == [1, 2]
    assert seqs(read(http, log, "?header=n:v%3Aw")) == [1, 2]
    assert seqs(read(http, log, "?header=n:v%3Aw&header=m:1")) == [2]
    answer = read(http, log, "?key=none").json()
    assert answer["messages"] == [] and answer["next"] == 4
    for query, says in (("header=x", "header is 'x'"), ("topic=a..b", "a..b"), ("key=%00", "NUL"), ("form=1", "did you mean from")):
        assert says in http.refused(400, "GET", f"{path}?{query}")["detail"]


def test_from_a_time(http, log):
    publish(http, log, 2)
    assert seqs(read(http, log, "?from_time=2020-01-01T00:00:00Z")) == [1, 2]
    assert seqs(read(http, log, f"?from_time={int(time.time() * 1000) + 3600000}")) == []
    for query, says in (("from_time=yesterday", "'yesterday'"), ("from=1&from_time=1", "one of them"), ("from=-1", "'-1'"), ("from=0", "'0'")):
        assert says in http.refused(400, "GET", f"/v1/queues/{log}/messages?{query}")["detail"]


def test_forms(http, log):
    http.ok("POST", f"/v1/queues/{log}/messages", b"\x00\xff", Content_Type="x/y", Broker_Priority="3")
    publish(http, log, 2)
    lines = read(http, log, Accept="application/x-ndjson")
    assert [json.loads(line)["seq"] for line in lines.body.splitlines()] == [1, 2, 3]
    assert (lines.headers["Broker-Next"], lines.headers["Broker-First"], lines.headers["Broker-Last"]) == ("4", "1", "3")
    packed = msgpack.unpackb(read(http, log, Accept="application/msgpack").body)
    assert packed["messages"][0]["body"] == b"\x00\xff" and packed["next"] == 4
    raw = read(http, log, "?raw")
    assert raw.body == b"\x00\xff" and raw.headers["Content-Type"] == "x/y"
    assert raw.headers["Broker-Next"] == "2" and raw.headers["Broker-Priority"] == "3"


def test_one_message(http, log):
    publish(http, log, 2)
    answer = http.ok("GET", f"/v1/queues/{log}/messages/2")
    assert answer.body == b"2" and answer.headers["Broker-Seq"] == "2" and answer.headers["Broker-Time"].endswith("Z")
    tag = answer.headers["ETag"]
    publish(http, log, 1)
    assert http.request("GET", f"/v1/queues/{log}/messages/2", If_None_Match=f"W/{tag}").status == 304
    assert http.ok("GET", f"/v1/queues/{log}/messages/1").headers["ETag"] != tag
    assert http.ok("GET", f"/v1/queues/{log}/messages/2", Accept="text/html, */*;q=0.1").body == b"2"
    assert http.ok("GET", f"/v1/queues/{log}/messages/2", Accept="application/json").json()["messages"][0]["body"] == "2"
    assert http.refused(404, "GET", f"/v1/queues/{log}/messages/9")["code"] == "MESSAGE_NOT_FOUND"
    assert "'x'" in http.refused(400, "GET", f"/v1/queues/{log}/messages/x")["detail"]


def test_a_cursor_that_was_trimmed(broker, http, log):
    http.ok("PATCH", f"/v1/queues/{log}", {"log_max_messages": 100})
    body = [{"body": "x" * 1000}] * 500
    for _ in range(20):
        http.ok("POST", f"/v1/queues/{log}/messages/batch", body)
    first = harness.until(lambda: http.ok("GET", f"/v1/queues/{log}").json()["queue"]["first_seq"] - 1, what="the trim") + 1
    problem = http.refused(410, "GET", f"/v1/queues/{log}/messages?from=1")
    assert problem["type"].endswith("cursor_trimmed") and problem["first"] >= first and problem["last"] == 10000
    for query in ("?max=1", "?from=beginning&max=1"):  # what is left, which may get less meanwhile
        left = read(http, log, query).json()
        assert left["messages"][0]["seq"] == left["first"] >= problem["first"]
    assert http.refused(404, "GET", f"/v1/queues/{log}/messages/1")


def test_a_cursor_of_another_life(http, log):
    publish(http, log, 3)
    problem = http.refused(410, "GET", f"/v1/queues/{log}/messages?from=50&wait=20s")
    assert problem["type"].endswith("cursor_beyond") and problem["last"] == 3


def test_peek(http, log):
    publish(http, log, 3)
    http.ok("POST", f"/v1/queues/{log}/messages", b"later", Broker_Delay="1h")
    answer = http.ok("GET", f"/v1/queues/{log}/peek?max=2").json()
    assert [m["seq"] for m in answer["messages"]] == [1, 2] and answer["next"] == 3
    answer = http.ok("GET", f"/v1/queues/{log}/peek?from={answer['next']}").json()
    assert [m["seq"] for m in answer["messages"]] == [3, 4] and answer["next"] == 0
    scheduled = http.ok("GET", f"/v1/queues/{log}/peek?state=scheduled").json()["messages"]
    assert [m["body"] for m in scheduled] == ["later"] and scheduled[0]["due_ms"] > time.time() * 1000
    assert [m["seq"] for m in http.ok("GET", f"/v1/queues/{log}/peek?from=2&to=2").json()["messages"]] == [2]
    assert "'lost'" in http.refused(400, "GET", f"/v1/queues/{log}/peek?state=lost")["detail"]


def test_what_waiting_costs(broker, http, log):
    """A thousand long polls: under 2 KiB each beyond their sockets, in a build without sanitizers."""
    sockets = []

    def wait_more(count):
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", broker.http_port), 30)
            s.sendall(f"GET /v1/queues/{log}/messages?from=end&wait=20s HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            sockets.append(s)
        harness.until(lambda: connections() >= len(sockets))

    def connections():
        return http.ok("GET", "/v1/stats").json()["connections"]["http"]

    before = broker.rss()
    wait_more(500)
    grown = broker.rss() - before
    publish(http, log, 1)
    for s in sockets:
        s.settimeout(30)
        assert b'"seq":1' in s.recv(65536)
        s.close()
    if "debug" not in harness.BUILD:
        assert grown < 500 * 2048 + (512 << 10), grown
