"""Queues as event streams: resuming, resets, several queues, slow readers, groups, many idle streams."""

import random
import resource
import socket
import subprocess
import threading
import time

import harness
import pytest
import web


def put(http, name, **settings):
    http.ok("PUT", f"/v1/queues/{name}", settings or None)


def put_group(http, queue, group):
    http.ok("PUT", f"/v1/queues/{queue}/groups/{group}")


def publish(http, queue, *bodies):
    """Several at once; the seqs."""
    answer = http.ok("POST", f"/v1/queues/{queue}/messages/batch", [{"body": b} for b in bodies]).json()
    return [r["seq"] for r in answer["results"]]


def begun(stream):
    """Wait until it has said where it begins; that."""
    while stream.last_id is None:
        name, _, value = stream.line().partition(": ")
        if name == "id":
            stream.last_id = value
    return stream.last_id


def bodies(stream, count):
    return [stream.next().json()["body"] for _ in range(count)]


# ---- the beginning -------------------------------------------------------------------------------------------------------


def test_a_stream_begins_where_it_is_told(broker, http):
    put(http, "q")
    publish(http, "q", "m1", "m2", "m3")
    with web.events(broker, "/v1/queues/q/events?from=beginning") as s:
        assert s.status == 200 and s.headers["Content-Type"] == "text/event-stream"
        assert bodies(s, 3) == ["m1", "m2", "m3"]
        assert s.retry == 2000
    with web.events(broker, "/v1/queues/q/events?from=3") as s:
        assert bodies(s, 1) == ["m3"]
    with web.events(broker, "/v1/queues/q/events") as s:
        begun(s)
        publish(http, "q", "m4")
        assert bodies(s, 1) == ["m4"]


def test_what_is_missing_is_told_before_the_stream(broker, http):
    put(http, "there")
    for path in ("/v1/queues/nowhere/events", "/v1/events?queue=there&queue=nowhere", "/v1/queues/nowhere/events?group=g"):
        assert http.refused(404, "GET", path)["code"] == "QUEUE_NOT_FOUND"
    assert http.refused(404, "GET", "/v1/queues/there/events?group=g")["code"] == "GROUP_NOT_FOUND"
    assert "frm" in http.refused(400, "GET", "/v1/queues/there/events?frm=1")["detail"]
    assert http.refused(400, "GET", "/v1/queues/there/events?last_event_id=me")["code"] == "INVALID_ARGUMENT"


def test_curl_reads_it(broker, http):
    put(http, "q")
    publish(http, "q", "line one\nline two", "x")
    run = subprocess.run(
        ["curl", "-sN", "-m", "2", f"{broker.http}/v1/queues/q/events?from=beginning&format=body"], capture_output=True, check=False
    )
    text = run.stdout.decode()
    assert "\ndata: line one\ndata: line two\nid: " in text and "\ndata: x\nid: " in text, text


def test_filters(broker, http):
    put(http, "q")
    messages = [{"body": str(i), "topic": f"t.{i % 3}", "key": f"k{i % 2}", "headers": {"n": str(i % 5)}} for i in range(60)]
    http.ok("POST", "/v1/queues/q/messages/batch", messages)
    with web.events(broker, "/v1/queues/q/events?from=beginning&topic=t.1&key=k0&header=n:4") as s:
        assert bodies(s, 2) == ["4", "34"]
    with web.events(broker, f"/v1/queues/q/events?from=beginning&topic={web.quote('t.*')}&key=k1&event=topic") as s:
        event = s.next()
        assert event.event == "t.1" and event.json()["body"] == "1"


# ---- coming back ---------------------------------------------------------------------------------------------------------


def test_coming_back_at_any_time_loses_and_doubles_nothing(broker, http):
    """Over reconnects at random points, while two queues are published to, and over a restart of the broker in the midst."""
    total, chance = 3000, random.Random(7)
    put(http, "a")
    put(http, "b")
    failed = []

    def publisher(queue):
        try:
            for at in range(0, total, 50):
                with web.connect(broker) as h:
                    publish(h, queue, *[f"{queue}{i}" for i in range(at, at + 50)])
        except Exception as e:  # what a thread raises is lost otherwise
            failed.append(e)

    threads = [threading.Thread(target=publisher, args=(q,)) for q in "ab"]
    for t in threads:
        t.start()
    got, last, streams = {"a": [], "b": []}, None, 0
    while sum(len(v) for v in got.values()) < 2 * total:
        path = "/v1/events?queue=a&queue=b&from=beginning" if streams % 2 else "/v1/events?queue=b&queue=a&from=beginning"
        streams += 1
        with web.events(broker, path, last_event_id=last) as s:
            for _ in range(chance.randrange(1, 400)):
                if sum(len(v) for v in got.values()) == 2 * total:
                    break
                event = s.next()
                assert event.event == "message", event
                message = event.json()
                got[message["queue"]].append(message["seq"])
                last = event.id
        if streams == 8:
            for t in threads:
                t.join()
            assert not failed
            broker.restart()
    assert got == {"a": list(range(1, total + 1)), "b": list(range(1, total + 1))}
    assert streams > 12


def test_a_stream_that_breaks_before_its_first_event_comes_back_to_where_it_began(broker, http):
    put(http, "q")
    publish(http, "q", "old")
    with web.events(broker, "/v1/queues/q/events") as s:
        last = begun(s)
    publish(http, "q", "meanwhile")
    with web.events(broker, "/v1/queues/q/events", last_event_id=last) as s:
        assert bodies(s, 1) == ["meanwhile"]


def test_resets(broker, http):
    put(http, "q")
    put(http, "log", retention="log", log_max_messages=1000)
    publish(http, "q", "x", "y")
    with web.events(broker, "/v1/queues/q/events?from=beginning") as s:
        s.next()
        last = s.next().id
    http.ok("DELETE", "/v1/queues/q")
    put(http, "q")
    publish(http, "q", "another")
    with web.events(broker, "/v1/queues/q/events", last_event_id=last) as s:
        event = s.next()
        assert event.event == "reset" and event.json()["reason"] == "other_queue" and event.json()["from"] == 1, event
        assert bodies(s, 1) == ["another"]
    with web.events(broker, "/v1/queues/q/events?from=50") as s:
        event = s.next()
        assert event.event == "reset" and event.json()["reason"] == "beyond_end", event
        assert bodies(s, 1) == ["another"]


def test_a_trimmed_log(tmp_path):
    with harness.Broker(**harness.SMALL) as broker, web.connect(broker) as http:
        put(http, "log", retention="log", log_max_bytes=1 << 20)
        publish(http, "log", "first")
        with web.events(broker, "/v1/queues/log/events?from=beginning") as s:
            last = s.next().id
        body = "x" * 100_000
        for _ in range(60):
            publish(http, "log", body)
        first = harness.until(lambda: (n := http.ok("GET", "/v1/queues/log").json()["queue"]["first_seq"]) > 2 and n)
        with web.events(broker, "/v1/queues/log/events", last_event_id=last) as s:
            event = s.next()
            assert event.event == "reset" and event.json()["reason"] == "trimmed", event
            assert event.json()["from"] >= first
            assert s.next().json()["seq"] == event.json()["from"]


# ---- the end -------------------------------------------------------------------------------------------------------------


def test_a_deleted_queue(broker, http):
    put(http, "a")
    put(http, "b")
    with web.events(broker, "/v1/events?queue=a&queue=b") as both, web.events(broker, "/v1/queues/b/events") as one:
        for s in (both, one):
            begun(s)
        http.ok("DELETE", "/v1/queues/b")
        for s in (both, one):
            event = s.next()
            assert event.event == "end" and event.json()["reason"] == "queue_deleted" and event.json()["queue"] == "b"
        with pytest.raises(EOFError):
            one.next()
        publish(http, "a", "on")
        assert bodies(both, 1) == ["on"]


def test_a_shutdown_is_told(broker, http):
    put(http, "q")
    put_group(http, "q", "g")
    with web.events(broker, "/v1/queues/q/events") as s, web.events(broker, "/v1/queues/q/events?group=g") as g:
        begun(s)
        assert broker.stop() == 0
        for stream in (s, g):
            event = stream.next()
            assert event.event == "end" and event.json()["reason"] == "shutting_down"
            with pytest.raises(EOFError):
                stream.next()


# ---- those who are silent, slow or many ----------------------------------------------------------------------------------


def test_heartbeats():
    with harness.Broker(http__event_heartbeat="200ms") as broker, web.connect(broker) as http:
        put(http, "q")
        with web.events(broker, "/v1/queues/q/events") as s:
            began, beats = time.monotonic(), 0
            while beats < 4:
                beats += s.line() == ":"
            assert 0.5 < time.monotonic() - began < 20


def test_a_slow_reader_is_cut_and_the_others_go_on():
    with harness.Broker(tcp__stall_timeout="1s", http__output="64KiB") as broker, web.connect(broker) as http:
        put(http, "q")
        slow = socket.create_connection(("127.0.0.1", broker.http_port))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /v1/queues/q/events HTTP/1.1\r\nHost: x\r\n\r\n")
        with web.events(broker, "/v1/queues/q/events") as s:
            begun(s)
            harness.until(lambda: http.ok("GET", "/v1/stats").json()["connections"]["sse"] == 2)
            body, count = "x" * 10_000, 0
            before = broker.rss()

            def cut():
                nonlocal count
                publish(http, "q", *[body] * 20)
                assert all(len(b) == len(body) for b in bodies(s, 20))
                count += 20
                return http.ok("GET", "/v1/stats").json()["connections"]["sse"] == 1

            harness.until(cut, 30, "the slow one's end")
            assert broker.rss() - before < 150 << 20
            assert "it takes nothing of its output" in broker.log()
            publish(http, "q", "still there")
            assert bodies(s, 1) == ["still there"]
        slow.close()


def test_thousands_of_idle_streams_cost_little():
    count = 1000 if "release" not in harness.BUILD else 10000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * count + 200:
        pytest.skip(f"only {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count + 200), hard))
    with harness.Broker(http__max_connections="20000", http__event_heartbeat="1h") as broker, web.connect(broker) as http:
        put(http, "q")
        open_now = lambda: http.ok("GET", "/v1/stats").json()["connections"]["sse"]
        streams, figures = [], []
        for upto in (count // 10, count):
            while len(streams) < upto:
                s = socket.create_connection(("127.0.0.1", broker.http_port))
                s.sendall(b"GET /v1/queues/q/events HTTP/1.1\r\nHost: x\r\n\r\n")
                streams.append(s)
            harness.until(lambda: open_now() == len(streams))
            figures.append(broker.rss())
        each = (figures[1] - figures[0]) / (count - count // 10)
        print(f"{each:.0f} bytes an idle stream")
        assert each < (4096 if "release" in harness.BUILD else 40960), each  # the sanitizers' share is large
        publish(http, "q", "for all")
        for s in streams:
            s.settimeout(20)
            text = b""
            while b"for all" not in text:
                text += s.recv(65536)
            s.close()
        harness.until(lambda: open_now() == 0)


# ---- groups --------------------------------------------------------------------------------------------------------------


def test_a_groups_consumer(broker, http):
    put(http, "jobs")
    put_group(http, "jobs", "w")
    publish(http, "jobs", *[f"j{i}" for i in range(30)])
    with web.events(broker, "/v1/queues/jobs/events?group=w&max_unsettled=5") as s:
        done = []
        for _ in range(30):
            event = s.next()
            message = event.json()
            assert event.id is None and message["attempt"] == 1
            done.append(message["body"])
            leased = http.ok("GET", "/v1/queues/jobs/groups/w").json()
            assert leased.get("group", leased)["leased"] <= 5
            http.ok("POST", f"/v1/receipts/{message['receipt']}/ack")
        assert sorted(done) == sorted(f"j{i}" for i in range(30))


def test_credit_is_by_what_is_outstanding(broker, http):
    put(http, "jobs")
    put_group(http, "jobs", "w")
    publish(http, "jobs", "a", "b", "c")
    with web.events(broker, "/v1/queues/jobs/events?group=w&max_unsettled=2") as s:
        first, _ = s.next().json(), s.next().json()
        with pytest.raises(socket.timeout):
            s.next(0.3)
        http.ok("POST", f"/v1/receipts/{first['receipt']}/ack")
        assert bodies(s, 1) == ["c"]


def test_leases_go_back_when_the_stream_ends(broker, http):
    put(http, "jobs")
    put_group(http, "jobs", "w")
    publish(http, "jobs", "mine")
    with web.events(broker, "/v1/queues/jobs/events?group=w") as s:
        receipt = s.next().json()["receipt"]
    with web.events(broker, "/v1/queues/jobs/events?group=w") as s:
        again = s.next().json()
        assert again["body"] == "mine" and again["attempt"] == 2
        assert http.refused(409, "POST", f"/v1/receipts/{receipt}/ack")["code"] == "STALE_RECEIPT"


def test_settled_as_it_is_sent(broker, http):
    put(http, "jobs")
    put_group(http, "jobs", "w")
    publish(http, "jobs", "a", "b")
    with web.events(broker, "/v1/queues/jobs/events?group=w&ack=on_send&format=body") as s:
        assert [s.next().data, s.next().data] == ["a", "b"]
    with web.events(broker, "/v1/queues/jobs/events?group=w") as s:
        publish(http, "jobs", "c")
        assert bodies(s, 1) == ["c"]
