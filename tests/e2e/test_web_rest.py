"""Publishing over HTTP: one message with its metadata in fields, many in a body, by topic, and transactions."""

import json
import os
import subprocess
import time

import msgpack
import pytest

import harness
import web


@pytest.fixture(scope="module")
def broker():
    with harness.Broker(limits__max_message="256KiB") as b:
        yield b


def messages(http, queue):
    return http.ok("GET", f"/v1/queues/{queue}/messages").json()["messages"]


# ---- one --------------------------------------------------------------------------------------------------------------------


def test_one_message_is_stored_and_located(http, queue):
    answer = http.request("POST", f"/v1/queues/{queue}/messages", b"\x00\x01 raw \xff", Content_Type="image/x-test; a=b")
    assert answer.status == 201
    assert answer.json() == {"seq": 1}
    assert answer.headers["Location"] == f"/v1/queues/{queue}/messages/1"
    got = http.request("GET", answer.headers["Location"])
    assert got.status == 200 and got.body == b"\x00\x01 raw \xff"
    assert got.headers["Content-Type"] == "image/x-test; a=b"
    assert got.headers["Broker-Seq"] == "1"
    # Whatever somebody publishes is not a page of this server's.
    assert got.headers["X-Content-Type-Options"] == "nosniff" and "sandbox" in got.headers["Content-Security-Policy"]


def test_curls_own_content_type_is_not_the_messages(http, queue):
    http.ok("POST", f"/v1/queues/{queue}/messages", b"x", Content_Type="application/x-www-form-urlencoded")
    assert "headers" not in messages(http, queue)[0]
    assert http.ok("GET", f"/v1/queues/{queue}/messages/1").headers["Content-Type"] == "application/octet-stream"


def test_every_field_of_a_message_there_and_back(http, queue):
    fields = {
        "Broker-Key": web.quote("key/7 é%"),
        "Broker-Priority": "7",
        "Broker-Delay": "1h",
        "Broker-Ttl": "2d",
        "Broker-Topic": "orders.eu",
        "Broker-Sync": "always",
        "Idempotency-Key": '"quoted-1"',
        "Broker-Header-tenant": "acme corp",
        "Broker-Header-na%4De": web.quote('grün "x" 100%'),
        "Broker-Header-empty": "",
    }
    before = time.time() * 1000
    http.ok("POST", f"/v1/queues/{queue}/messages", b"body", **fields)
    (m,) = messages(http, queue)
    assert (m["key"], m["priority"], m["topic"], m["id"]) == ("key/7 é%", 7, "orders.eu", "quoted-1")
    assert m["headers"] == {"tenant": "acme corp", "naMe": 'grün "x" 100%', "empty": ""}
    assert 3590000 < m["due_ms"] - before < 3610000
    assert abs(m["expire_ms"] - before - 2 * 86400000) < 10000
    got = http.ok("GET", f"/v1/queues/{queue}/messages/1").headers
    assert web.urllib.parse.unquote(got["Broker-Key"]) == "key/7 é%"
    assert (got["Broker-Priority"], got["Broker-Topic"], got["Broker-Id"]) == ("7", "orders.eu", "quoted-1")
    assert got["Broker-Header-tenant"] == "acme corp"
    assert web.urllib.parse.unquote(got["Broker-Header-na%4De"]) == 'grün "x" 100%'
    assert got["Broker-Header-empty"] == ""
    assert got["Broker-Due"].endswith("Z") and got["Broker-Expires"] > got["Broker-Due"]


def test_a_time_of_day_or_unix_milliseconds(http, queue):
    at = int(time.time() * 1000) + 3600000
    http.ok("POST", f"/v1/queues/{queue}/messages", b"", Broker_At=str(at))
    http.ok("POST", f"/v1/queues/{queue}/messages", b"", Broker_At="2031-05-07T09:30:00.250+02:00")
    first, second = messages(http, queue)
    assert first["due_ms"] == at
    assert second["due_ms"] == 1935905400250


def test_idempotency(http, queue):
    path = f"/v1/queues/{queue}/messages"
    assert http.request("POST", path, b"a", Idempotency_Key="k1").status == 201
    again = http.request("POST", path, b"a", Idempotency_Key="k1")
    assert again.status == 200 and again.json() == {"seq": 1, "duplicate": True}
    assert again.headers["Location"].endswith("/messages/1")
    assert len(messages(http, queue)) == 1


def test_less_than_synced_is_accepted(http, queue):
    answer = http.request("POST", f"/v1/queues/{queue}/messages", b"", Broker_Sync="none")
    assert answer.status == 202 and answer.json() == {"seq": 1}
    http.ok("PATCH", f"/v1/queues/{queue}", {"sync": "none"})
    assert http.request("POST", f"/v1/queues/{queue}/messages", b"").status in (201, 202)  # 201 if it is there by then
    assert http.request("POST", f"/v1/queues/{queue}/messages", b"", Broker_Sync="always").status == 201


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"Broker-Priorty": "1"}, ["'Broker-Priorty'", "did you mean Broker-Priority"]),
        ({"Broker-Seq": "1"}, ["'Broker-Seq'"]),
        ({"Broker-Priority": "10"}, ["Broker-Priority is '10'", "0 to 9"]),
        ({"Broker-Delay": "5 s"}, ["Broker-Delay is '5 s'", "30s"]),
        ({"Broker-Delay": "40000d"}, ["Broker-Delay is '40000d'", "100 years"]),
        ({"Broker-At": "2031-02-30T00:00:00Z"}, ["Broker-At is '2031-02-30T00:00:00Z'"]),
        ({"Broker-At": "9000000000000", "Broker-Delay": "1"}, ["Broker-Delay and Broker-At"]),
        ({"Broker-Topic": "a..b"}, ["Broker-Topic is 'a..b'"]),
        ({"Broker-Sync": "maybe"}, ["Broker-Sync is 'maybe'", "always, interval or none"]),
        ({"Idempotency-Key": ""}, ["Idempotency-Key has 0 bytes"]),
        ({"Idempotency-Key": "x" * 256}, ["Idempotency-Key has 256 bytes", "1 to 255"]),
        ({"Idempotency-Key": "a", "Broker-Id": "a"}, ["Idempotency-Key and Broker-Id"]),
        ({"Broker-Header-a": "%ff"}, ["Broker-Header-a", "UTF-8"]),
        ({"Broker-Header-": "x"}, ["no name"]),
        ({"Broker-Header-content-type": "a/b", "Content-Type": "c/d"}, ["content-type", "twice"]),
    ],
)
def test_wrong_fields_are_named(http, broker, fields, says):
    http.ok("PUT", "/v1/queues/wrong")
    problem = http.refused(400, "POST", "/v1/queues/wrong/messages", b"", **fields)
    assert problem["code"] == "INVALID_ARGUMENT"
    for words in says:
        assert words in problem["detail"], problem
    assert messages(http, "wrong") == []


def test_other_refusals(http, queue):
    problem = http.refused(404, "POST", "/v1/queues/not-there/messages", b"x")
    assert problem["code"] == "QUEUE_NOT_FOUND" and "not-there" in problem["detail"]
    problem = http.refused(400, "POST", f"/v1/queues/{queue}/messages?creat=true", b"x")
    assert "'creat'" in problem["detail"]
    problem = http.refused(413, "POST", f"/v1/queues/{queue}/messages", b"x" * 300000)
    assert problem["code"] == "TOO_LARGE"
    http.ok("PUT", "/v1/queues/full", {"max_messages": 1})
    http.ok("POST", "/v1/queues/full/messages", b"x")
    answer = http.request("POST", "/v1/queues/full/messages", b"x")
    assert answer.status == 429 and answer.json()["code"] == "QUEUE_FULL", answer


def test_pipelined_publishes_are_answered_in_order(broker, http, queue):
    one = f"POST /v1/queues/{queue}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n"
    with web.socket.create_connection(("127.0.0.1", broker.http_port), 30) as s:
        s.sendall(b"".join(one.encode() + b"%03d" % i for i in range(50)))
        text = b""
        while text.count(b'{"seq":') < 50:
            got = s.recv(65536)
            assert got, text
            text += got
    seqs = [int(part.split(b"}")[0]) for part in text.split(b'{"seq":')[1:]]
    assert seqs == list(range(1, 51))
    assert [m["body"] for m in messages(http, queue)] == ["%03d" % i for i in range(50)]


def test_what_was_answered_is_there_after_a_kill():
    with harness.Broker() as broker:
        with web.connect(broker) as http:
            http.ok("PUT", "/v1/queues/q")
            for i in range(20):
                assert http.request("POST", "/v1/queues/q/messages", b"%d" % i).status == 201
            assert http.request("POST", "/v1/queues/q/messages/batch", [{"body": "20"}, {"body": "21"}]).status == 201
            first = http.ok("POST", "/v1/queues/q/lease").json()["messages"][0]
            http.ok("POST", f"/v1/receipts/{first['receipt']}/ack")
        broker.restart()
        with web.connect(broker) as http:
            left = http.ok("POST", "/v1/queues/q/lease?max=100").json()["messages"]
            assert sorted(int(m["body"]) for m in left) == list(range(1, 22))
            assert http.refused(409, "POST", f"/v1/receipts/{first['receipt']}/ack")["code"] == "STALE_RECEIPT"


# ---- many -------------------------------------------------------------------------------------------------------------------


def test_a_bad_item_fails_alone(http, queue):
    items = [
        {"body": "one", "headers": {"a": "b"}},
        {"body": "two", "priority": 99},
        {"body_json": {"x": [1, 2]}},
        "no object",
        {"body_base64": "AAH/", "key": "k"},
        {"bdy": "x"},
    ]
    answer = http.request("POST", f"/v1/queues/{queue}/messages/batch", items)
    assert answer.status == 200
    result = answer.json()
    assert (result["stored"], result["failed"], result["duplicates"]) == (3, 3, 0)
    rs = result["results"]
    assert [r.get("seq") for r in rs] == [1, None, 2, None, 3, None]
    assert rs[1]["error"]["status"] == 400 and "priority" in rs[1]["error"]["detail"]
    assert "bdy" in rs[5]["error"]["detail"]
    got = messages(http, queue)
    assert [m.get("body", m.get("body_base64")) for m in got] == ["one", '{"x":[1,2]}', "AAH/"]
    assert got[1]["headers"] == {"content-type": "application/json"}


def test_lines(http, queue):
    body = b'{"body":"a"}\r\n\n  \n{"body":"b"\n{"body":"c"}'
    result = http.ok("POST", f"/v1/queues/{queue}/messages/batch", body, Content_Type="application/x-ndjson").json()
    assert [r.get("seq") for r in result["results"]] == [1, None, 2]
    assert "JSON" in result["results"][1]["error"]["detail"]


def test_msgpack(http, queue):
    items = [{"body": b"\x00\xff", "headers": {"n": "v"}}, {"body": 7}, {"body": "text", "id": "i"}, {"body": "text", "id": "i"}]
    path = f"/v1/queues/{queue}/messages/batch"
    result = http.ok("POST", path, msgpack.packb(items), Content_Type="application/msgpack").json()
    assert [r.get("seq") for r in result["results"]] == [1, None, 2, 2]
    assert result["results"][3] == {"seq": 2, "duplicate": True}
    for body in (b"", b"\x81\xa1a\x01", msgpack.packb(items)[:-1], msgpack.packb(items) + b"\x01", b"\xdd\xff\xff\xff\xff"):
        assert http.refused(400, "POST", path, body, Content_Type="application/msgpack")["code"] == "INVALID_ARGUMENT"
    assert len(messages(http, queue)) == 2


def test_batches_that_are_none(http, queue):
    path = f"/v1/queues/{queue}/messages/batch"
    assert "array" in http.refused(400, "POST", path, {"body": "x"})["detail"]
    assert "JSON" in http.refused(400, "POST", path, b"[{]", Content_Type="application/json")["detail"]
    assert "text/csv" in http.refused(415, "POST", path, b"a,b", Content_Type="text/csv")["detail"]
    assert "single message" in http.refused(400, "POST", path, [], Broker_Key="k")["detail"]
    too_many = b"[" + b",".join([b"{}"] * 10001) + b"]"
    assert "10000" in http.refused(413, "POST", path, too_many, Content_Type="application/json")["detail"]
    assert http.refused(404, "POST", "/v1/queues/nowhere/messages/batch", [{"body": "x"}])["code"] == "QUEUE_NOT_FOUND"
    assert http.ok("POST", path, []).json() == {"results": [], "stored": 0, "duplicates": 0, "failed": 0}
    assert messages(http, queue) == []


def test_a_large_batch_is_in_order(http, queue):
    items = [{"body": str(i)} for i in range(5000)]
    answer = http.request("POST", f"/v1/queues/{queue}/messages/batch", items)
    assert answer.status == 201
    assert [r["seq"] for r in answer.json()["results"]] == list(range(1, 5001))


# ---- by topic ---------------------------------------------------------------------------------------------------------------


def test_by_topic(http, queue):
    http.ok("PUT", f"/v1/queues/{queue}-2")
    for name in (queue, f"{queue}-2"):
        http.ok("PUT", f"/v1/queues/{name}/bindings/t1.*")
    answer = http.request("POST", "/v1/topics/t1.x/messages", b"hello", Broker_Key="k")
    assert answer.status == 201 and answer.json() == {"queues": 2}
    result = http.ok("POST", "/v1/topics/t1.y/messages/batch", [{"body": "a"}, {"body": "b", "topic": "other"}]).json()
    assert result["results"][0] == {"queues": 2} and "other" in result["results"][1]["error"]["detail"]
    packed = msgpack.packb([{"body": b"c"}])
    assert http.ok("POST", "/v1/topics/t1.z/messages/batch", packed, Content_Type="application/msgpack").json()["stored"] == 1
    for name in (queue, f"{queue}-2"):
        assert [(m["topic"], m["body"]) for m in messages(http, name)] == [("t1.x", "hello"), ("t1.y", "a"), ("t1.z", "c")]
    assert http.refused(404, "POST", "/v1/topics/nobody.here/messages", b"")["code"] == "UNROUTABLE"
    answer = http.request("POST", "/v1/topics/nobody.here/messages?unroutable=ok", b"")
    assert answer.status == 200 and answer.json() == {"queues": 0}
    assert "'yes'" in http.refused(400, "POST", "/v1/topics/nobody.here/messages?unroutable=yes", b"")["detail"]
    assert "a..b" in http.refused(400, "POST", "/v1/topics/a..b/messages", b"")["detail"]
    assert "path" in http.refused(400, "POST", "/v1/topics/t1.x/messages", b"", Broker_Topic="t1.x")["detail"]


# ---- transactions -----------------------------------------------------------------------------------------------------------


def lease(http, queue, **more):
    query = "&".join(f"{k}={v}" for k, v in more.items())
    return http.ok("POST", f"/v1/queues/{queue}/lease?{query}").json()["messages"]


def test_a_transaction_moves_a_message_on(http, queue):
    http.ok("PUT", f"/v1/queues/{queue}-out")
    http.ok("PUT", f"/v1/queues/{queue}-out/bindings/tx.done")
    http.ok("POST", f"/v1/queues/{queue}/messages/batch", [{"body": str(i)} for i in range(4)])
    got = lease(http, queue, max=4)
    result = http.ok(
        "POST",
        "/v1/transactions",
        {
            "publish": [{"queue": f"{queue}-out", "body": "a"}, {"queue": f"{queue}-out", "body": "b"}, {"topic": "tx.done", "body": "c"}],
            "ack": [got[0]["receipt"]],
            "nack": [{"receipt": got[1]["receipt"], "delay_ms": 1}],
            "reject": [got[2]["receipt"]],
        },
    ).json()
    assert result == {"seqs": [1, 2, 1]}
    assert [m["body"] for m in messages(http, f"{queue}-out")] == ["a", "b", "c"]
    (again,) = lease(http, queue, wait="10s", max=4)
    assert (again["body"], again["attempt"]) == ("1", 2)
    assert harness.until(lambda: http.request("GET", f"/v1/queues/{queue}.dead/messages").status == 200, what="the dead letters")


def test_a_transaction_is_all_or_nothing(http, queue):
    http.ok("POST", f"/v1/queues/{queue}/messages", b"x")
    (m,) = lease(http, queue)
    for wrong in (
        {"queue": "nowhere", "body": "x"},
        {"queue": queue, "body": "x", "priority": 10},
        {"body": "x"},
        {"queue": 7, "body": "x"},
        7,
    ):
        body = {"publish": [{"queue": queue, "body": "no"}, wrong], "ack": [m["receipt"]]}
        answer = http.request("POST", "/v1/transactions", body)
        assert answer.status in (400, 404), answer
    assert "publish 2" in answer.json()["detail"]
    for wrong, says in (({"acks": []}, "did you mean ack"), ({}, "empty"), ({"ack": ["x"]}, "receipt 1"), ({"nack": [{}]}, "nack 1")):
        assert says in http.refused(400, "POST", "/v1/transactions", wrong)["detail"]
    assert http.refused(409, "POST", "/v1/transactions", {"publish": [{"queue": queue, "body": "no"}], "ack": ["1"]})["code"] == "STALE_RECEIPT"
    assert len(messages(http, queue)) == 1
    http.ok("POST", "/v1/transactions", {"ack": [m["receipt"]]})


# ---- curl -------------------------------------------------------------------------------------------------------------------


def test_curl(broker, http, queue, tmp_path):
    body = os.urandom(100000)
    (tmp_path / "body").write_bytes(body)
    url = f"{broker.http}/v1/queues/{queue}"
    curl = ["curl", "-sS", "--fail-with-body"]
    run = lambda *words: subprocess.run([*curl, *words], check=True, capture_output=True, timeout=30).stdout
    assert json.loads(run(f"{url}/messages", "--data-binary", f"@{tmp_path}/body", "-H", "Broker-Key: a")) == {"seq": 1}
    assert run(f"{url}/messages/1") == body
    assert json.loads(run("-X", "POST", f"{url}/lease"))["messages"][0]["key"] == "a"
