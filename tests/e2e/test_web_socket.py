"""WebSocket: what a client can ask for, in both subprotocols (docs/WEBSOCKET.md)."""

import json
import time

import pytest
import web
from harness import Broker, until

PROTOCOLS = ["brokerd.v1.json", "brokerd.v1.msgpack"]


@pytest.fixture(scope="module")
def broker():
    with Broker(websocket__max_message="64KiB", limits__subscriptions="5") as b:
        yield b


@pytest.fixture(params=PROTOCOLS)
def ws(request, broker):
    with web.websocket(broker, protocol=request.param) as w:
        yield w


@pytest.fixture
def queue(request, broker, ws):
    name = request.node.name.translate(str.maketrans("[]", "..")).rstrip(".")
    ask(ws, "queue_create", queue=name)
    return name


def ask(ws, request, **args):
    return ws.ok("request", name=request, args=args)["result"]


def refused(ws, code, op, says="", **fields):
    answer = ws.call(op, **fields)
    assert answer["op"] == "error" and answer["code"] == code, answer
    assert says in answer["text"], answer
    return answer


def receipts(messages):
    return [m["receipt"] for m in messages]


# ---- publishing ---------------------------------------------------------------------------------------------------------


def test_publish_one_and_many(ws, queue):
    assert ws.ok("publish", queue=queue, message={"body": "one"})["seq"] == 1
    many = ws.ok("publish", queue=queue, messages=[{"body": "a", "id": "i"}, {"body": "b", "id": "i"}, {}])
    assert many["results"] == [{"seq": 2}, {"seq": 2, "duplicate": True}, {"seq": 3}]
    again = ws.ok("publish", queue=queue, message={"body": "a", "id": "i"})
    assert again["seq"] == 2 and again["duplicate"]


def test_every_field_comes_back(ws, queue):
    sent = {"body": "text", "key": "k", "id": "number 1", "priority": 3, "topic": "a.b", "headers": {"h": "v", "ü": "ö"}}
    ws.ok("publish", queue=queue, message=sent)
    got = ask(ws, "lease", queue=queue)["messages"][0]
    assert {k: got[k] for k in sent} == sent
    assert got["attempt"] == 1 and got["seq"] == 1
    assert isinstance(got["receipt"], int if ws.msgpack else str)


def test_bytes_that_are_no_text(ws, queue):
    body = bytes(range(256))
    if ws.msgpack:
        ws.ok("publish", queue=queue, message={"body": body, "key": b"\xff"})
    else:
        import base64

        ws.ok("publish", queue=queue, message={"body_base64": base64.b64encode(body).decode(), "key_base64": "/w=="})
    got = ask(ws, "lease", queue=queue)["messages"][0]
    if ws.msgpack:
        assert got["body"] == body and got["key"] == b"\xff"
    else:
        assert base64.b64decode(got["body_base64"]) == body and got["key_base64"] == "/w=="


def test_json_as_a_body(ws, queue):
    value = {"a": [1, None, "x", 1.5, True]}
    ws.ok("publish", queue=queue, message={"body_json": value})
    got = ask(ws, "lease", queue=queue)["messages"][0]
    assert json.loads(got["body"]) == value
    assert got["headers"] == {"content-type": "application/json"}


def test_publish_by_topic(ws, queue):
    topic = f"t{int(ws.msgpack)}.created"
    refused(ws, "UNROUTABLE", "publish", topic=topic, message={"body": "x"})
    assert ws.ok("publish", topic=topic, message={"body": "x"}, unroutable="ok")["queues"] == 0
    ask(ws, "bind", queue=queue, pattern=topic.split(".")[0] + ".*")
    assert ws.ok("publish", topic=topic, message={"body": "x"})["queues"] == 1
    got = ask(ws, "lease", queue=queue)["messages"][0]
    assert got["topic"] == topic


def test_publish_says_what_is_wrong(ws, queue):
    refused(ws, "QUEUE_NOT_FOUND", "publish", "nowhere", queue="nowhere", message={})
    refused(ws, "INVALID_ARGUMENT", "publish", "either", message={})
    refused(ws, "INVALID_ARGUMENT", "publish", "either", queue=queue, topic="a", message={})
    refused(ws, "INVALID_ARGUMENT", "publish", "messages", queue=queue)
    refused(ws, "INVALID_ARGUMENT", "publish", "messages", queue=queue, message={}, messages=[{}])
    refused(ws, "INVALID_ARGUMENT", "publish", "boddy", queue=queue, message={"boddy": "x"})
    refused(ws, "INVALID_ARGUMENT", "publish", "messages[1]", queue=queue, messages=[{}, {"priority": 10}])
    refused(ws, "INVALID_ARGUMENT", "publish", "did you mean \"message\"", queue=queue, mesage={})
    refused(ws, "INVALID_ARGUMENT", "publish", "always", queue=queue, message={}, sync="often")
    assert ask(ws, "queue_describe", queue=queue)["queue"]["published"] == 0


def test_per_item_errors(ws, queue):
    ask(ws, "queue_alter", queue=queue, max_messages=2)
    results = ws.ok("publish", queue=queue, messages=[{}, {}, {}])["results"]
    assert [r.get("seq") for r in results[:2]] == [1, 2]
    assert results[2]["code"] == "QUEUE_FULL" and results[2]["status"] == 429
    assert refused(ws, "QUEUE_FULL", "publish", queue=queue, message={})["status"] == 429


def test_without_an_id_only_errors_are_told(ws, queue):
    ws.send({"op": "publish", "queue": queue, "message": {}})
    ws.send({"op": "publish", "queue": "nowhere", "message": {}})
    error = ws.next()
    assert error["op"] == "error" and "id" not in error and error["code"] == "QUEUE_NOT_FOUND"
    ws.send({"op": "publish", "queue": "nowhere", "messages": [{}, {}]})
    assert ws.next()["op"] == "error"
    ws.ok("ping")
    assert not ws.waiting


# ---- groups ------------------------------------------------------------------------------------------------------------


def test_subscribe_with_credit(ws, queue):
    ws.ok("subscribe", sub=7, queue=queue, credit=2)
    ws.ok("publish", queue=queue, messages=[{"body": str(i)} for i in range(5)])
    first = [ws.next(op="message", sub=7) for _ in range(2)]
    assert [m["body"] for m in first] == ["0", "1"]
    ws.ok("ping")
    assert not ws.waiting  # no more than it has credit for
    ws.send({"op": "credit", "sub": 7, "messages": 2})
    second = [ws.next(op="message", sub=7) for _ in range(2)]
    assert [m["body"] for m in second] == ["2", "3"]
    answer = ws.ok("ack", receipts=receipts(first + second))
    assert answer["settled"] == 4 and answer["stale"] == [] and answer["stale_count"] == 0
    stale = ws.ok("ack", receipts=receipts(first))
    assert stale["settled"] == 0 and stale["stale"] == receipts(first)


def test_nack_reject_extend(ws, queue):
    ws.ok("publish", queue=queue, messages=[{"body": "a"}])
    ws.ok("subscribe", sub=1, queue=queue, credit=100)
    m = ws.next(op="message")
    ws.ok("extend", receipt=m["receipt"], lease_ms=60000)
    ws.ok("nack", receipt=m["receipt"])
    again = ws.next(op="message")
    assert again["attempt"] == 2 and again["receipt"] != m["receipt"]
    begin = time.monotonic()
    ws.ok("nack", receipts=[again["receipt"]], delay_ms=200)
    third = ws.next(op="message")
    assert third["attempt"] == 3 and time.monotonic() - begin > 0.15
    ws.ok("reject", receipts=[third["receipt"]])
    dead = until(lambda: ask(ws, "peek", queue=queue + ".dead")["messages"])
    assert dead[0]["headers"]["dead-reason"] == "rejected"
    refused(ws, "INVALID_ARGUMENT", "extend", "lease_ms", receipt=m["receipt"])
    refused(ws, "INVALID_ARGUMENT", "ack", "receipt", receipts=["x"])
    refused(ws, "INVALID_ARGUMENT", "ack", "receipt")


def test_what_is_leased_returns_with_the_connection(broker, ws, queue):
    ws.ok("publish", queue=queue, message={"body": "a"})
    with web.websocket(broker) as other:
        other.ok("subscribe", sub=1, queue=queue, credit=1)
        assert other.next(op="message")["attempt"] == 1
    got = until(lambda: ask(ws, "lease", queue=queue)["messages"])
    assert got[0]["attempt"] == 2


def test_settled_as_it_is_sent(ws, queue):
    ws.ok("publish", queue=queue, message={"body": "a"})
    ws.ok("subscribe", sub=1, queue=queue, credit=10, ack="on_send")
    m = ws.next(op="message")
    assert "receipt" not in m
    until(lambda: ask(ws, "queue_describe", queue=queue)["groups"][0]["lag"] == 0)


def test_groups_share_and_max_unsettled(ws, queue):
    ask(ws, "group_create", queue=queue, group="other")
    ws.ok("publish", queue=queue, messages=[{"body": str(i)} for i in range(4)])
    ws.ok("subscribe", sub=1, queue=queue, credit=100, max_unsettled=2)
    ws.ok("subscribe", sub=2, queue=queue, group="other", credit=100)
    assert [ws.next(op="message", sub=2)["body"] for _ in range(4)] == list("0123")
    one = [ws.next(op="message", sub=1) for _ in range(2)]
    ws.ok("ping")
    assert not ws.waiting
    ws.ok("ack", receipts=receipts(one))
    assert [ws.next(op="message", sub=1)["body"] for _ in range(2)] == ["2", "3"]


def test_unsubscribe(ws, queue):
    ws.ok("subscribe", sub=1, queue=queue, credit=100)
    ws.ok("publish", queue=queue, message={"body": "a"})
    ws.next(op="message")
    ws.ok("unsubscribe", sub=1)
    ws.ok("publish", queue=queue, message={"body": "b"})
    got = [ask(ws, "lease", queue=queue)["messages"][0]["body"] for _ in range(2)]
    assert got == ["a", "b"] and not ws.waiting
    refused(ws, "SUBSCRIPTION_NOT_FOUND", "unsubscribe", sub=1)
    ws.ok("subscribe", sub=1, queue=queue, credit=0)


def test_subscriptions_end_with_their_queue(ws, queue):
    ws.ok("subscribe", sub=1, queue=queue, credit=100)
    ws.ok("subscribe", sub=2, queue=queue, **{"from": "end"})
    ask(ws, "queue_delete", queue=queue)
    ended = [ws.next(op="ended") for _ in range(2)]
    assert sorted(e["sub"] for e in ended) == [1, 2]
    assert {e["code"] for e in ended} == {"QUEUE_NOT_FOUND"} and all(e["text"] for e in ended)
    refused(ws, "SUBSCRIPTION_NOT_FOUND", "unsubscribe", sub=2)


def test_subscribe_says_what_is_wrong(ws, queue):
    refused(ws, "INVALID_ARGUMENT", "subscribe", "sub", queue=queue, credit=1)
    refused(ws, "INVALID_ARGUMENT", "subscribe", "sub", queue=queue, sub=0, credit=1)
    refused(ws, "INVALID_ARGUMENT", "subscribe", "credit", queue=queue, sub=1)
    refused(ws, "INVALID_ARGUMENT", "subscribe", "group", queue=queue, sub=1, group="default", **{"from": "end"})
    refused(ws, "INVALID_ARGUMENT", "subscribe", "beginning", queue=queue, sub=1, **{"from": "middle"})
    refused(ws, "INVALID_ARGUMENT", "subscribe", "manual", queue=queue, sub=1, credit=1, ack="never")
    refused(ws, "INVALID_ARGUMENT", "subscribe", "crdit", queue=queue, sub=1, crdit=1)
    refused(ws, "QUEUE_NOT_FOUND", "subscribe", "nowhere", queue="nowhere", sub=1, credit=1)
    refused(ws, "QUEUE_NOT_FOUND", "subscribe", "nowhere", queue="nowhere", sub=1, **{"from": "end"})
    refused(ws, "GROUP_NOT_FOUND", "subscribe", "g", queue=queue, group="g", sub=1, credit=1)
    ws.ok("subscribe", sub=1, queue=queue, credit=1)
    refused(ws, "SUBSCRIPTION_EXISTS", "subscribe", queue=queue, sub=1, credit=1)
    refused(ws, "SUBSCRIPTION_EXISTS", "subscribe", queue=queue, sub=1, **{"from": "end"})


def test_subscriptions_are_limited(ws, queue):
    for sub in range(1, 6):
        ws.ok("subscribe", sub=sub, queue=queue, **({"credit": 1} if sub % 2 else {"from": "end"}))
    refused(ws, "LIMIT_REACHED", "subscribe", "5", sub=6, queue=queue, **{"from": "end"})


# ---- by position -----------------------------------------------------------------------------------------------------------


def positions(ws, sub, n):
    return [ws.next(op="message", sub=sub)["seq"] for _ in range(n)]


def test_from_a_position(ws, queue):
    ws.ok("publish", queue=queue, messages=[{"body": str(i)} for i in range(300)])
    answer = ws.ok("subscribe", sub=1, queue=queue, **{"from": "beginning"})
    assert (answer["next"], answer["first"], answer["last"]) == (1, 1, 300)
    assert positions(ws, 1, 300) == list(range(1, 301))
    assert ws.ok("subscribe", sub=2, queue=queue, **{"from": 299})["next"] == 299
    assert positions(ws, 2, 2) == [299, 300]
    assert ws.ok("subscribe", sub=3, queue=queue, **{"from": "end"})["next"] == 301
    ws.ok("publish", queue=queue, messages=[{"body": "new"}] * 3)
    for sub in (1, 2, 3):
        assert positions(ws, sub, 3) == [301, 302, 303]
    ws.ok("unsubscribe", sub=2)
    ws.ok("publish", queue=queue, message={})
    assert positions(ws, 1, 1) == positions(ws, 3, 1) == [304]
    ws.ok("ping")
    assert not ws.waiting


def test_from_a_time(ws, queue):
    ws.ok("publish", queue=queue, message={"body": "old"})
    time.sleep(0.02)
    now = int(time.time() * 1000)
    ws.ok("publish", queue=queue, message={"body": "new"})
    ws.ok("subscribe", sub=1, queue=queue, from_time_ms=now)
    assert ws.next(op="message")["body"] == "new"


def test_positions_with_credit(ws, queue):
    ws.ok("publish", queue=queue, messages=[{"body": "x" * 100} for _ in range(10)])
    ws.ok("subscribe", sub=1, queue=queue, credit=0, **{"from": "beginning"})
    ws.ok("ping")
    assert not ws.waiting
    ws.ok("credit", sub=1, messages=3)
    assert positions(ws, 1, 3) == [1, 2, 3]
    ws.ok("ping")
    assert not ws.waiting
    ws.ok("credit", sub=1, messages=100)
    assert positions(ws, 1, 7) == list(range(4, 11))
    ws.ok("subscribe", sub=2, queue=queue, credit_bytes=200, **{"from": "beginning"})
    assert positions(ws, 2, 2) == [1, 2]
    ws.ok("ping")
    assert not ws.waiting
    ws.ok("credit", sub=2, bytes=1000)
    assert positions(ws, 2, 7) == list(range(3, 10))


def test_positions_with_a_filter(ws, queue):
    ws.ok("publish", queue=queue, messages=[{"headers": {"n": str(i % 3)}, "key": "k" + str(i % 2)} for i in range(9)])
    ws.ok("subscribe", sub=1, queue=queue, filter={"headers": {"n": "1"}}, **{"from": "beginning"})
    assert positions(ws, 1, 3) == [2, 5, 8]
    ws.ok("publish", queue=queue, messages=[{"headers": {"n": "2"}}, {"headers": {"n": "1"}}])
    assert positions(ws, 1, 1) == [11]
    ws.ok("subscribe", sub=2, queue=queue, filter={"headers": {"n": "1"}, "key": "k0"}, **{"from": "beginning"})
    assert positions(ws, 2, 1) == [5]
    refused(ws, "INVALID_ARGUMENT", "subscribe", "kee", sub=3, queue=queue, filter={"kee": "x"}, **{"from": "end"})


def test_reset_when_the_log_has_let_go(ws, broker):
    queue = f"trimmed-{int(ws.msgpack)}"
    ask(ws, "queue_create", queue=queue, retention="log")
    ws.ok("publish", queue=queue, messages=[{}] * 5)
    ask(ws, "queue_purge", queue=queue)
    ws.ok("publish", queue=queue, messages=[{}] * 2)
    ws.ok("subscribe", sub=1, queue=queue, **{"from": 99})
    reset = ws.next(op="reset")
    assert reset["sub"] == 1 and reset["reason"] == "beyond" and reset["last"] == 7
    assert positions(ws, 1, 2) == [6, 7]


# ---- requests ----------------------------------------------------------------------------------------------------------------


def test_requests_by_name(ws, queue):
    ask(ws, "group_create", queue=queue, group="g", start="end")
    ask(ws, "bind", queue=queue, pattern="a.>")
    described = ask(ws, "queue_describe", queue=queue)
    assert described["queue"]["name"] == queue and described["bindings"] == ["a.>"]
    assert {g["name"] for g in described["groups"]} == {"default", "g"}
    assert queue in [q["name"] for q in ask(ws, "queue_list", prefix=queue)["queues"]]
    ws.ok("publish", queue=queue, messages=[{"body": str(i)} for i in range(4)])
    peeked = ask(ws, "peek", queue=queue, max_messages=3)
    assert [m["body"] for m in peeked["messages"]] == ["0", "1", "2"] and peeked["next_seq"] == 4
    read = ask(ws, "read", queue=queue, from_seq=3)
    assert [m["seq"] for m in read["messages"]] == [3, 4]
    assert (read["next"], read["first"], read["last"]) == (5, 1, 4)
    counted = ask(ws, "scan", queue=queue, action="delete", to_seq=1)
    assert counted["matched"] == 1
    assert ask(ws, "queue_purge", queue=queue)["purged"] == 3
    ask(ws, "queue_pause", queue=queue)
    assert ask(ws, "queue_describe", queue=queue)["queue"]["paused"] is True
    ask(ws, "queue_delete", queue=queue)


def test_long_polls_do_not_hold_up_the_rest(ws, queue):
    ws.send({"op": "request", "id": 77, "name": "lease", "args": {"queue": queue, "wait_ms": 20000}})
    ws.send({"op": "request", "id": 78, "name": "read", "args": {"queue": queue, "from_seq": 1, "wait_ms": 20000}})
    ws.ok("publish", queue=queue, message={"body": "came"})
    assert ws.next(id=77)["result"]["messages"][0]["body"] == "came"
    assert ws.next(id=78)["result"]["messages"][0]["seq"] == 1


def test_requests_say_what_is_wrong(ws, queue):
    refused(ws, "UNKNOWN_COMMAND", "request", "did you mean \"queue_describe\"", name="queue_descibe", args={})
    refused(ws, "INVALID_ARGUMENT", "request", "queue", name="queue_describe", args={})
    refused(ws, "INVALID_ARGUMENT", "request", "quue", name="queue_describe", args={"queue": queue, "quue": 1})
    refused(ws, "INVALID_ARGUMENT", "request", "op of its own", name="subscribe", args={})
    refused(ws, "INVALID_ARGUMENT", "request", "name", args={})
    refused(ws, "INVALID_ARGUMENT", "request", "args", name="queue_list", args=[])
    ws.send({"op": "request", "name": "queue_list"})
    assert "id" in ws.next(op="error")["text"]


def test_transactions(ws, queue):
    ws.ok("publish", queue=queue, messages=[{"body": "in"}] * 3)
    got = ask(ws, "lease", queue=queue, max=3)["messages"]
    answer = ws.ok("transact", publish=[{"queue": queue, "body": "out 1"}, {"queue": queue, "body": "out 2"}],
                   ack=receipts(got[:1]), nack=[{"receipt": got[1]["receipt"], "delay_ms": 60000}], reject=receipts(got[2:]))
    assert answer["seqs"] == [4, 5]
    left = [ask(ws, "lease", queue=queue)["messages"][0]["body"] for _ in range(2)]
    assert left == ["out 1", "out 2"]
    assert refused(ws, "STALE_RECEIPT", "transact", publish=[{"queue": queue, "body": "no"}], ack=receipts(got[:1]))
    refused(ws, "INVALID_ARGUMENT", "transact", "publish[1]", publish=[{"queue": queue}, {"body": "x"}])
    refused(ws, "INVALID_ARGUMENT", "transact", "empty")
    refused(ws, "INVALID_ARGUMENT", "transact", "nack[0]", nack=[{"receipt": "x"}])
    assert ask(ws, "queue_describe", queue=queue)["queue"]["last_seq"] == 5


# ---- what cannot be read -----------------------------------------------------------------------------------------------------


def test_what_is_no_request_is_answered_and_the_connection_stays(broker):
    with web.websocket(broker) as ws:
        for text in (b"", b"{", b"nonsense", b"[]", b"1", b"null", b'{"op":"ping","op":"ping"}', b'{"op":"ping"} x', b"[" * 1000,
                     b'{"id":1}', b'{"op":1}', b'{"op":"pink","id":5}', b'{"op":"ping","id":-1}', b'{"op":"ping","id":"x"}',
                     b'{"op":"ping","id":9007199254740992}', b'{"op":"ping","id":1.5}', b'{"op":"ping","\\u0000":1}'):
            ws.send_frame(web.TEXT, text)
            answer = ws.next()
            assert answer["op"] == "error", (text, answer)
            assert answer.get("id") == (5 if b'"id":5' in text else 1 if b'"id":1}' in text else None), (text, answer)
        ws.send_frame(web.TEXT, b'{"op":"pink"}')
        assert 'did you mean "ping"' in ws.next()["text"]
        ws.send_frame(web.TEXT, b'{"op":"ping","id":9007199254740991}')
        assert ws.next() == {"op": "ok", "id": 9007199254740991}


def test_what_is_no_msgpack_is_answered_and_the_connection_stays(broker):
    with web.websocket(broker, protocol="brokerd.v1.msgpack") as ws:
        for packed in (b"", b"\xc1", b"\x81", b"\x80\x80", b"\x90", b"\x81\x01\x01", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
                       b"\x91" * 100 + b"\x90", b"\xdb\xff\xff\xff\xff", b"\x82\xa2op\xa4pin", b"\x81\xa2op" + b"\x91" * 50 + b"\x90"):
            ws.send_frame(web.BINARY, packed)
            answer = ws.next()
            assert answer["op"] == "error" and "id" not in answer, (packed, answer)
        assert ws.ok("ping")


def test_ids_are_told_as_they_were_sent(ws, queue):
    for number in (0, 1, 2**31, 2**32, 2**32 + 7, 2**53 - 1):
        ws.send({"op": "request", "id": number, "name": "queue_describe", "args": {"queue": queue}})
        assert ws.next(op="ok")["id"] == number


def test_many_requests_at_once(ws, queue):
    n = 3000  # more than may be outstanding: it is not read meanwhile
    for i in range(n):
        ws.send({"op": "publish", "id": 10000 + i, "queue": queue, "message": {"body": str(i)}})
    assert [ws.next(op="ok")["id"] for _ in range(n)] == list(range(10000, 10000 + n))
    assert ask(ws, "queue_describe", queue=queue)["queue"]["last_seq"] == n
