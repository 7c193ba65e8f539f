"""CloudEvents 1.0 over HTTP: binary, structured and batched, in and out."""

import base64
import json

import pytest

import harness

BINARY = {"ce-specversion": "1.0", "ce-id": "A-1", "ce-source": "/shop/7", "ce-type": "com.example.order"}
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


@pytest.fixture(scope="module")
def broker():
    with harness.Broker() as b:
        yield b


def event(**more):
    return {"specversion": "1.0", "id": "A-1", "source": "/shop/7", "type": "com.example.order", **more}


def test_binary_in_every_form_out(http, queue):
    fields = {**BINARY, "ce-subject": "Gr%C3%BCn%20x", "ce-mine": "%E2%82%AC", "Content-Type": "application/json"}
    http.ok("POST", f"/v1/queues/{queue}/messages", b'{"n": 1}', **fields)
    got = http.ok("GET", f"/v1/queues/{queue}/messages", Accept=STRUCTURED)
    assert got.headers["Content-Type"] == STRUCTURED
    own = {"brokerseq": "1"}
    wanted = event(subject="Grün x", mine="€", datacontenttype="application/json", data={"n": 1}, **own)
    assert got.json() == wanted
    assert http.ok("GET", f"/v1/queues/{queue}/messages", Accept=BATCH).json() == [wanted]
    raw = http.ok("GET", f"/v1/queues/{queue}/messages/1")
    assert raw.body == b'{"n": 1}' and raw.headers["Content-Type"] == "application/json"
    assert {k: raw.headers[k] for k in BINARY} == BINARY
    assert raw.headers["ce-subject"] == "Gr%C3%BCn%20x" and raw.headers["ce-mine"] == "%E2%82%AC"
    (plain,) = http.ok("GET", f"/v1/queues/{queue}/messages").json()["messages"]
    assert plain["headers"]["ce-type"] == "com.example.order" and plain["headers"]["ce-subject"] == "Grün x"


@pytest.mark.parametrize(
    "data, body, back",
    [
        ({"data": {"a": [1, None]}}, b'{"a":[1,null]}', {"data": {"a": [1, None]}, "datacontenttype": "application/json"}),
        ({"data": "text"}, b'"text"', {"data": "text", "datacontenttype": "application/json"}),
        ({"data": "text", "datacontenttype": "text/plain"}, b"text", {"data": "text", "datacontenttype": "text/plain"}),
        ({"data": {"x": 1}, "datacontenttype": "a/b+json"}, b'{"x":1}', {"data": {"x": 1}, "datacontenttype": "a/b+json"}),
        ({"data_base64": "AP8=", "datacontenttype": "a/b"}, b"\x00\xff", {"data_base64": "AP8=", "datacontenttype": "a/b"}),
        ({"data_base64": ""}, b"", {}),
        ({}, b"", {}),
        ({"data": None}, b"null", {"data": None, "datacontenttype": "application/json"}),
    ],
)
def test_structured(http, queue, data, body, back):
    answer = http.request("POST", f"/v1/queues/{queue}/messages", json.dumps(event(n=3, yes=True, none=None, **data)).encode(), Content_Type=STRUCTURED + "; charset=utf-8")
    assert answer.status == 201, answer
    assert http.ok("GET", f"/v1/queues/{queue}/messages/1").body == body
    got = http.ok("POST", f"/v1/queues/{queue}/lease", Accept=STRUCTURED).json()
    assert got.pop("brokerreceipt").isdigit() and got.pop("brokerattempt") == 1 and got.pop("brokerseq") == "1"
    assert got == event(n="3", yes="true", **back)


def test_the_same_event_twice_is_one_message(http, queue):
    path = f"/v1/queues/{queue}/messages"
    assert http.ok("POST", path, b"", **BINARY).status == 201
    again = http.ok("POST", path, json.dumps(event()).encode(), Content_Type=STRUCTURED)
    assert again.status == 200 and again.json() == {"seq": 1, "duplicate": True}
    # An event is named by its source and its id together.
    assert http.ok("POST", path, b"", **{**BINARY, "ce-source": "/shop/8"}).status == 201
    assert http.ok("POST", path, b"", **BINARY, Idempotency_Key="other").status == 201
    assert http.ok("POST", path, b"", **{**BINARY, "ce-source": "/" + "x" * 300}).status == 201
    assert len(http.ok("GET", path).json()["messages"]) == 4


def test_a_partition_key_is_the_messages(http, queue):
    path = f"/v1/queues/{queue}/messages"
    http.ok("POST", path, b"", **BINARY, ce_partitionkey="p%201")
    http.ok("POST", path, json.dumps(event(id="2", partitionkey="q")).encode(), Content_Type=STRUCTURED)
    http.ok("POST", path, b"", **{**BINARY, "ce-id": "3"}, ce_partitionkey="r", Broker_Key="own")
    assert [m["key"] for m in http.ok("GET", path).json()["messages"]] == ["p 1", "q", "own"]


def test_batches(http, queue):
    events = [event(id=str(i), data=i) for i in range(3)] + [{"id": "x"}, 7]
    for path in (f"/v1/queues/{queue}/messages/batch", f"/v1/queues/{queue}/messages"):
        result = http.ok("POST", path, json.dumps(events).encode(), Content_Type=BATCH).json()
        assert [r.get("seq") for r in result["results"]] == [1, 2, 3, None, None]
        assert "specversion" in result["results"][3]["error"]["detail"]
    got = http.ok("POST", f"/v1/queues/{queue}/lease?max=10", Accept=BATCH).json()
    assert [(e["id"], e["data"]) for e in got] == [("0", 0), ("1", 1), ("2", 2)]
    assert len({e["brokerreceipt"] for e in got}) == 3
    assert http.ok("POST", f"/v1/queues/{queue}/lease?max=10", Accept=BATCH).json() == []
    assert http.ok("POST", f"/v1/queues/{queue}/lease", Accept=STRUCTURED).status == 204


def test_messages_that_are_no_events(http, queue):
    path = f"/v1/queues/{queue}/messages"
    http.ok("POST", path, b"\x00\xff", Broker_Key="k", Broker_Topic="a.b", Broker_Header_x="y")
    http.ok("POST", path, b"text", Content_Type="text/plain", Idempotency_Key="i-1")
    http.ok("POST", path, b"{no json", Content_Type="application/json")
    first, second, third = http.ok("GET", path, Accept=BATCH).json()
    assert first.pop("time").endswith("Z")
    assert first == {
        **{"specversion": "1.0", "id": "1", "source": f"/v1/queues/{queue}", "type": "brokerd.message", "subject": "a.b"},
        **{"partitionkey": "k", "brokerseq": "1", "datacontenttype": "application/octet-stream", "data_base64": "AP8="},
    }
    assert second["id"] == "i-1" and second["data"] == "text" and second["datacontenttype"] == "text/plain"
    assert base64.b64decode(third["data_base64"]) == b"{no json"


def test_wrong_events_are_refused(http, queue):
    path = f"/v1/queues/{queue}/messages"
    for missing in BINARY:
        fields = {k: v for k, v in BINARY.items() if k != missing}
        assert missing in http.refused(400, "POST", path, b"", **fields)["detail"]
    assert "0.3" in http.refused(400, "POST", path, b"", **{**BINARY, "ce-specversion": "0.3"})["detail"]
    for wrong, says in (
        ({"id": ""}, '"id"'),
        ({"id": 7}, '"id"'),
        ({"specversion": "2.0"}, "2.0"),
        ({"Upper": "x"}, '"Upper"'),
        ({"list": []}, '"list"'),
        ({"data": 1, "data_base64": "AA=="}, "data_base64"),
        ({"data_base64": "A"}, "base64"),
        ({"data_base64": "A!=="}, "base64"),
        ({f"a{i}": "x" for i in range(200)}, "attributes"),
    ):
        answer = http.request("POST", path, json.dumps(event(**wrong)).encode(), Content_Type=STRUCTURED)
        assert answer.status in (400, 413) and says in answer.json()["detail"], answer
    assert "JSON" in http.refused(400, "POST", path, b"{", Content_Type=STRUCTURED)["detail"]
    assert http.ok("GET", path).json()["messages"] == []
