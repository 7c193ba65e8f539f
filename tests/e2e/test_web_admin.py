"""Administration over HTTP: every call that the command has, its answers and its refusals."""

import json
import os
import socket

import harness
import pytest
import web
from commands import Commands


@pytest.fixture
def h(broker):
    with web.connect(broker) as connection:
        yield connection


def describe(h, queue="q"):
    return h.ok("GET", f"/v1/queues/{queue}").json()


def publish(h, queue, *bodies, **fields):
    for body in bodies:
        h.ok("POST", f"/v1/queues/{queue}/messages", str(body).encode(), **fields)


# ---- queues


def test_create_queue(h):
    answer = h.request("PUT", "/v1/queues/q", {"lease_ms": 5000, "dead_letter": "graveyard", "overflow": "drop_oldest"})
    assert answer.status == 201 and answer.headers["Location"] == "/v1/queues/q", answer
    made = answer.json()
    assert made["queue"]["lease_ms"] == 5000 and made["queue"]["dead_letter"] == "graveyard"
    assert made["queue"]["overflow"] == "drop_oldest" and made["queue"]["retention"] == "work"
    assert [g["name"] for g in made["groups"]] == ["default"] and made["bindings"] == []
    again = h.request("PUT", "/v1/queues/q", {"lease_ms": 5000, "dead_letter": "graveyard", "overflow": "drop_oldest"})
    assert again.status == 200 and "Location" not in again.headers
    other = h.refused(409, "PUT", "/v1/queues/q", {"lease_ms": 6000})
    assert other["code"] == "QUEUE_EXISTS" and other["type"] == "/errors/queue_exists"
    assert describe(h)["queue"]["lease_ms"] == 5000


def test_create_with_an_empty_body(h):
    assert h.request("PUT", "/v1/queues/q").status == 201
    assert h.request("PUT", "/v1/queues/q", {}).status == 200
    assert h.request("PUT", "/v1/queues/q", b"").status == 200


def test_it_is_the_same_queue_for_the_command(broker, h):
    h.ok("PUT", "/v1/queues/q", {"max_attempts": 3, "backoff": "fixed", "backoff_ms": 1000})
    said = Commands(broker).describe("q")
    assert said["max_attempts"] == 3 and said["backoff"] == "fixed" and said["backoff_ms"] == 1000


@pytest.mark.parametrize(
    "body,words",
    [
        ({"leese_ms": 1}, ["leese_ms", "lease_ms"]),
        ({"xyzzyxyzzy": 1}, ["xyzzyxyzzy"]),
        ({"queue": "other"}, ["queue", "path"]),
        ({"lease_ms": "5s"}, ["lease_ms"]),
        ({"lease_ms": 0}, ["lease_ms", "0"]),
        ({"lease_ms": -1}, ["lease_ms"]),
        ({"retention": "forever"}, ["retention", "forever", "work", "log"]),
        ({"backoff_ms": 5}, ["backoff_ms", "backoff"]),
        ({"compact": 1}, ["compact"]),
        ({"dead_letter": "no spaces"}, ["dead_letter", "no spaces"]),
    ],
)
def test_wrong_settings(h, body, words):
    said = h.refused(400, "PUT", "/v1/queues/q", body)
    assert said["code"] in ("INVALID_ARGUMENT", "MALFORMED")
    for word in words:
        assert word in said["detail"], said
    assert h.refused(404, "GET", "/v1/queues/q")["code"] == "QUEUE_NOT_FOUND"


@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b'{"lease_ms":5,"lease_ms":6}', b"\xff", b'{"a":1}x', b"[" * 5000])
def test_bodies_that_are_no_object(h, body):
    assert h.refused(400, "PUT", "/v1/queues/q", body, Content_Type="application/json")["detail"]
    h.refused(404, "GET", "/v1/queues/q")


def test_a_body_of_another_type(h):
    said = h.refused(415, "PUT", "/v1/queues/q", b"<lease>5</lease>", Content_Type="text/xml")
    assert said["type"] == "/errors/unsupported_media_type"
    # What curl -d says by itself is taken for JSON.
    assert h.request("PUT", "/v1/queues/q", b'{"lease_ms":7}', Content_Type="application/x-www-form-urlencoded").status == 201
    assert h.request("PATCH", "/v1/queues/q", b'{"lease_ms":8}', Content_Type="application/json; charset=utf-8").status == 200


def test_alter_queue(h):
    h.refused(404, "PATCH", "/v1/queues/q", {"lease_ms": 5})
    h.ok("PUT", "/v1/queues/q", {"max_attempts": 5})
    assert h.ok("PATCH", "/v1/queues/q", {"lease_ms": 1234}).json()["queue"]["lease_ms"] == 1234
    assert describe(h)["queue"]["max_attempts"] == 5, "what is not named stays"
    assert h.refused(409, "PATCH", "/v1/queues/q", {"compact": True})["code"] == "REFUSED"
    assert "max_attemts" in h.refused(400, "PATCH", "/v1/queues/q", {"max_attemts": 5})["detail"]


def test_delete_queue(h):
    h.ok("PUT", "/v1/queues/q")
    answer = h.request("DELETE", "/v1/queues/q")
    assert answer.status == 204 and answer.body == b""
    h.refused(404, "DELETE", "/v1/queues/q")
    h.refused(404, "GET", "/v1/queues/q")


def test_names(h):
    assert "not valid" in h.refused(400, "PUT", "/v1/queues/no%20blanks")["detail"]
    assert "256" in h.refused(400, "PUT", "/v1/queues/" + "a" * 256)["detail"]
    assert h.request("PUT", "/v1/queues/" + "a" * 255).status == 201
    h.refused(400, "PUT", "/v1/queues/%00")
    h.refused(400, "PUT", "/v1/queues/%ff%fe")
    h.refused(400, "GET", "/v1/queues/.hidden")
    assert h.request("PUT", "/v1/queues/per%63ent").json()["queue"]["name"] == "percent"


def test_list_queues(h):
    names = [f"q{i:02}" for i in range(25)]
    for name in names:
        h.ok("PUT", f"/v1/queues/{name}")
    h.ok("PUT", "/v1/queues/other")
    got, after = [], ""
    while True:
        page = h.ok("GET", f"/v1/queues?prefix=q&limit=10&after={after}").json()
        got += [q["name"] for q in page["queues"]]
        if not page["more"]:
            break
        assert len(page["queues"]) == 10
        after = got[-1]
    assert got == names
    assert len(h.ok("GET", "/v1/queues").json()["queues"]) == 26
    assert h.ok("GET", "/v1/queues?prefix=nothing").json() == {"queues": [], "more": False}


@pytest.mark.parametrize("query,words", [("limit=0", "limit"), ("limit=x", "limit"), ("limt=5", "limit"), ("limit=1&limit=2", "limit"), ("limit=1001", "limit")])
def test_wrong_queries(h, query, words):
    said = h.refused(400, "GET", f"/v1/queues?{query}")
    assert words in said["detail"]


def test_pause_resume_purge(h):
    h.ok("PUT", "/v1/queues/q")
    publish(h, "q", 1, 2, 3)
    assert h.request("POST", "/v1/queues/q/pause").status == 204
    assert describe(h)["queue"]["paused"] is True
    assert h.request("POST", "/v1/queues/q/resume").status == 204
    assert describe(h)["queue"]["paused"] is False
    assert h.ok("POST", "/v1/queues/q/purge").json() == {"purged": 3}
    assert describe(h)["queue"]["messages"] == 0
    for call in ("pause", "resume", "purge"):
        h.refused(404, "POST", f"/v1/queues/nothing/{call}")


def test_what_is_answered_is_durable(broker, h):
    h.ok("PUT", "/v1/queues/q", {"lease_ms": 777})
    h.ok("PUT", "/v1/queues/q/groups/g", {"filter": {"topic": "a.>"}})
    h.ok("PUT", "/v1/queues/q/bindings/a.%3E")
    h.ok("POST", "/v1/queues/q/pause")
    broker.restart()
    with web.connect(broker) as again:
        said = describe(again)
    assert said["queue"]["lease_ms"] == 777 and said["queue"]["paused"] and said["bindings"] == ["a.>"]
    assert {g["name"]: g["filter"] for g in said["groups"]} == {"default": {}, "g": {"topic": "a.>"}}


# ---- groups


def test_groups(h):
    h.refused(404, "PUT", "/v1/queues/q/groups/g")
    h.ok("PUT", "/v1/queues/q")
    publish(h, "q", 1, 2, 3)
    settings = {"start": "end", "filter": {"topic": "a.*", "key": "k", "headers": {"x": "1", "y": "2"}}, "single_active": True}
    answer = h.request("PUT", "/v1/queues/q/groups/g", settings)
    assert answer.status == 201 and answer.headers["Location"] == "/v1/queues/q/groups/g"
    group = answer.json()
    assert group["name"] == "g" and group["cursor_seq"] == 4 and group["single_active"] is True
    assert group["filter"] == settings["filter"]
    settings["filter"]["headers"] = {"y": "2", "x": "1"}
    assert h.request("PUT", "/v1/queues/q/groups/g", {**settings, "start": "beginning"}).status == 200
    assert h.ok("GET", "/v1/queues/q/groups/g").json()["cursor_seq"] == 4, "its position stays"
    other = h.refused(409, "PUT", "/v1/queues/q/groups/g", {"filter": {"topic": "b.*"}})
    assert other["code"] == "GROUP_EXISTS"
    altered = h.ok("PATCH", "/v1/queues/q/groups/g", {"filter": {}}).json()
    assert altered["filter"] == {} and altered["single_active"] is True
    moved = h.ok("POST", "/v1/queues/q/groups/g/seek", {"start": "seq", "value": 2}).json()
    assert moved["cursor_seq"] == 2 and moved["lag"] == 2
    assert [g["name"] for g in h.ok("GET", "/v1/queues/q/groups").json()["groups"]] == ["default", "g"]
    assert h.request("DELETE", "/v1/queues/q/groups/g").status == 204
    assert h.refused(404, "GET", "/v1/queues/q/groups/g")["code"] == "GROUP_NOT_FOUND"
    assert h.refused(404, "DELETE", "/v1/queues/q/groups/g")["code"] == "GROUP_NOT_FOUND"
    assert h.refused(404, "GET", "/v1/queues/nothing/groups/g")["code"] == "QUEUE_NOT_FOUND"


@pytest.mark.parametrize(
    "method,path,body,words",
    [
        ("PUT", "groups/g", {"start": "middle"}, "middle"),
        ("PUT", "groups/g", {"start": "seq"}, "value"),
        ("PUT", "groups/g", {"filtr": {}}, "filter"),
        ("PUT", "groups/g", {"filter": {"topic": "a..b"}}, "a..b"),
        ("PUT", "groups/g", {"filter": []}, "filter"),
        ("PUT", "groups/g", {"group": "h"}, "path"),
        ("PATCH", "groups/default", {"start": "end"}, "start"),
        ("POST", "groups/default/seek", {"start": "seq", "value": 0}, "value"),
        ("POST", "groups/default/seek", {"to": "end"}, "to"),
    ],
)
def test_wrong_groups(h, method, path, body, words):
    h.ok("PUT", "/v1/queues/q")
    assert words in h.refused(400, method, f"/v1/queues/q/{path}", body)["detail"]


# ---- bindings


def test_bindings(h):
    h.refused(404, "PUT", "/v1/queues/q/bindings/a")
    h.ok("PUT", "/v1/queues/q")
    for pattern in ("orders.%3E", "orders.*.created", "plain", "%3e"):
        assert h.request("PUT", f"/v1/queues/q/bindings/{pattern}").status == 204
        assert h.request("PUT", f"/v1/queues/q/bindings/{pattern}").status == 204, "again"
    assert h.ok("GET", "/v1/queues/q/bindings").json() == {"bindings": [">", "orders.*.created", "orders.>", "plain"]}
    for pattern in ("orders.%3E", "plain", "%3E", "nothing"):
        assert h.request("DELETE", f"/v1/queues/q/bindings/{pattern}").status == 204
    assert h.ok("GET", "/v1/queues/q/bindings").json() == {"bindings": ["orders.*.created"]}
    assert "a..b" in h.refused(400, "PUT", "/v1/queues/q/bindings/a..b")["detail"]


# ---- looking and mending


def test_scan(h):
    h.ok("PUT", "/v1/queues/q")
    h.ok("PUT", "/v1/queues/other")
    publish(h, "q", *range(4), Broker_Key="a")
    publish(h, "q", *range(6), Broker_Key="b")
    scan = "/v1/queues/q/scan"
    assert h.ok("POST", scan, {"action": "count"}).json() == {"matched": 10, "skipped": 0, "next_seq": 0}
    assert h.ok("POST", scan, {"action": "count", "filter": {"key": "a"}}).json()["matched"] == 4
    assert h.ok("POST", scan + "?dry_run=true", {"action": "delete", "filter": {"key": "a"}}).json()["matched"] == 4
    assert h.ok("POST", scan + "?dry_run=true", {"action": "move", "target": "other"}).json()["matched"] == 10
    assert describe(h)["queue"]["messages"] == 10, "nothing was done"
    assert h.ok("POST", scan, {"action": "move", "target": "other", "filter": {"key": "a"}}).json()["matched"] == 4
    assert describe(h, "other")["queue"]["messages"] == 4
    step = h.ok("POST", scan, {"action": "delete", "max_messages": 2}).json()
    assert step == {"matched": 2, "skipped": 0, "next_seq": 7}
    assert h.ok("POST", scan, {"action": "delete", "from_seq": 7}).json() == {"matched": 4, "skipped": 0, "next_seq": 0}
    assert describe(h)["queue"]["messages"] == 0
    assert "action" in h.refused(400, "POST", scan, {})["detail"]
    assert "delet" in h.refused(400, "POST", scan, {"action": "delet"})["detail"]
    assert "max_mesages" in h.refused(400, "POST", scan, {"action": "count", "max_mesages": 1})["detail"]
    assert "target" in h.refused(400, "POST", scan, {"action": "count", "target": "other"})["detail"]
    assert h.refused(404, "POST", scan, {"action": "move", "target": "nothing"})["code"] == "QUEUE_NOT_FOUND"
    h.refused(404, "POST", "/v1/queues/nothing/scan", {"action": "count"})


def test_scan_all_goes_on_until_it_is_done(broker, h):
    h.ok("PUT", "/v1/queues/q")
    Commands(broker).pub("q", *range(1000))
    scan = "/v1/queues/q/scan?all=true"
    body = {"action": "count", "max_scanned": 64}
    assert 0 < h.ok("POST", "/v1/queues/q/scan", body).json()["matched"] < 1000
    assert h.ok("POST", scan, body).json() == {"matched": 1000, "skipped": 0, "next_seq": 0}
    limited = h.ok("POST", scan, {**body, "max_messages": 300}).json()
    assert limited["matched"] == 300 and limited["next_seq"] == 301
    assert h.ok("POST", scan, {"action": "delete", "max_scanned": 100}).json()["matched"] == 1000
    assert h.ok("POST", scan, body).json() == {"matched": 0, "skipped": 0, "next_seq": 0}
    publish(h, "q", "x")
    assert h.ok("POST", scan, {"action": "count", "from_seq": 5000}).json()["matched"] == 0


def test_a_scan_ends_with_its_client(broker, h):
    """A long walk whose client has gone does not go on behind its step; the broker keeps nothing of it."""
    h.ok("PUT", "/v1/queues/q")
    Commands(broker).pub("q", *range(2000))
    body = json.dumps({"action": "delete", "max_scanned": 1}).encode()
    for _ in range(3):
        s = socket.create_connection(("127.0.0.1", broker.http_port))
        s.sendall(b"POST /v1/queues/q/scan?all=true HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        harness.until(lambda: describe(h)["queue"]["messages"] < 2000, what="its start")
        s.close()
    left = harness.until(lambda: (lambda a, b: a == b and a)(describe(h)["queue"]["messages"], describe(h)["queue"]["messages"]), what="its end")
    assert 0 < left < 2000


def test_delete_one_message(h):
    h.ok("PUT", "/v1/queues/q")
    publish(h, "q", 1, 2, 3)
    assert h.request("DELETE", "/v1/queues/q/messages/2").status == 204
    assert h.refused(404, "DELETE", "/v1/queues/q/messages/2")["code"] == "MESSAGE_NOT_FOUND"
    assert h.refused(404, "DELETE", "/v1/queues/q/messages/9")["code"] == "MESSAGE_NOT_FOUND"
    assert h.refused(404, "DELETE", "/v1/queues/nothing/messages/1")["code"] == "QUEUE_NOT_FOUND"
    assert h.refused(404, "DELETE", "/v1/queues/q/messages/1?state=scheduled")["code"] == "MESSAGE_NOT_FOUND"
    for seq in ("0", "x", "-1", "1.5", "99999999999999999999"):
        assert "seq" in h.refused(400, "DELETE", f"/v1/queues/q/messages/{seq}")["detail"]
    assert describe(h)["queue"]["messages"] == 2


def test_scheduled(h):
    h.ok("PUT", "/v1/queues/q")
    publish(h, "q", "a", "b", Broker_Delay="1h")
    publish(h, "q", "now")
    got = h.ok("GET", "/v1/queues/q/scheduled").json()
    assert [m["body"] for m in got["messages"]] == ["a", "b"] and got["next"] == 0
    assert all(m["due_ms"] > m["time_ms"] for m in got["messages"])
    assert h.ok("POST", "/v1/queues/q/scan", {"action": "count", "state": "scheduled"}).json()["matched"] == 2
    assert h.request("DELETE", "/v1/queues/q/messages/1?state=scheduled").status == 204
    assert h.request("PATCH", "/v1/queues/q/messages/2", {"delay_ms": 0}).status == 204
    assert h.refused(404, "PATCH", "/v1/queues/q/messages/2", {"delay_ms": 0})["code"] == "MESSAGE_NOT_FOUND"
    assert h.refused(404, "PATCH", "/v1/queues/q/messages/3", {"due_ms": 1})["code"] == "MESSAGE_NOT_FOUND"
    assert h.ok("GET", "/v1/queues/q/scheduled").json()["messages"] == []
    assert "delay_ms" in h.refused(400, "PATCH", "/v1/queues/q/messages/2", {})["detail"]
    assert "delay_ms" in h.refused(400, "PATCH", "/v1/queues/q/messages/2", {"delay": 5})["detail"]
    h.refused(400, "PATCH", "/v1/queues/q/messages/0", {"delay_ms": 5})


def reject(h, queue, count):
    messages = h.ok("POST", f"/v1/queues/{queue}/lease?max={count}&wait=10s").json()["messages"]
    assert len(messages) == count
    h.ok("POST", "/v1/reject", {"receipts": [m["receipt"] for m in messages]})


def test_dead_letters(h):
    h.ok("PUT", "/v1/queues/a", {"dead_letter": "graveyard"})
    h.ok("PUT", "/v1/queues/b", {"dead_letter": "graveyard"})
    h.ok("PUT", "/v1/queues/plain")
    assert h.ok("GET", "/v1/queues/a/dead").json() == {"messages": [], "next": 0}, "there are none yet"
    assert h.ok("POST", "/v1/queues/a/dead/redrive").json() == {"matched": 0, "skipped": 0, "next_seq": 0}
    publish(h, "a", 1, 2, 3)
    publish(h, "b", 4)
    publish(h, "plain", 5)
    for queue, count in (("a", 3), ("b", 1), ("plain", 1)):
        reject(h, queue, count)
    harness.until(lambda: len(h.ok("GET", "/v1/queues/plain/dead").json()["messages"]) == 1, what="the dead letter")
    harness.until(lambda: len(h.ok("GET", "/v1/queues/graveyard/peek").json()["messages"]) == 4, what="the dead letters")
    dead = h.ok("GET", "/v1/queues/a/dead").json()["messages"]
    assert [m["body"] for m in dead] == ["1", "2", "3"]
    assert all(m["headers"]["dead-reason"] == "rejected" for m in dead)
    redrive = "/v1/queues/a/dead/redrive"
    assert h.ok("POST", redrive + "?dry_run=true").json()["matched"] == 3
    assert h.ok("POST", redrive, {"from_seq": dead[2]["seq"], "to_seq": dead[2]["seq"]}).json()["matched"] == 1
    assert h.ok("POST", redrive + "?all=true").json() == {"matched": 2, "skipped": 0, "next_seq": 0}
    assert describe(h, "a")["queue"]["messages"] == 3 and describe(h, "graveyard")["queue"]["messages"] == 1
    assert h.ok("POST", "/v1/queues/b/dead/redrive", {"target": "plain"}).json()["matched"] == 1
    assert h.ok("POST", "/v1/queues/plain/dead/redrive").json()["matched"] == 1
    assert describe(h, "plain")["queue"]["messages"] == 2
    assert h.refused(404, "POST", "/v1/queues/nothing/dead/redrive")["code"] == "QUEUE_NOT_FOUND"
    assert "targt" in h.refused(400, "POST", redrive, {"targt": "plain"})["detail"]


# ---- the broker itself


def test_ping(h):
    assert h.ok("GET", "/v1/ping").json() == {}


def test_errors_are_explained(h):
    with open(os.path.join(harness.ROOT, "libbroker", "include", "broker", "broker.h"), encoding="utf-8") as f:
        import re

        table = re.findall(r"^    X\((\w+), \d+, (\d+), (\d),", f.read(), re.M)
    assert len(table) > 30
    for name, status, retry in table:
        if name == "OK":
            continue
        answer = h.ok("GET", f"/errors/{name.lower()}")
        text = answer.body.decode()
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert text.startswith(f"{name} (HTTP {status}): ") and len(text) > 120
        assert ("may succeed later" in text) == (retry == "1"), text
    for slug in ("nothing", "", "QUEUE_FULL", "ok"):
        assert h.request("GET", f"/errors/{slug}").status == 404


def test_problems_name_a_page_that_is_there(h):
    problem = h.refused(404, "GET", "/v1/queues/nothing")
    assert h.ok("GET", problem["type"]).body.startswith(b"QUEUE_NOT_FOUND")
    for method, path, status in (("GET", "/v1/nothing", 404), ("DELETE", "/v1/queues", 405), ("PUT", "/v1/queues/q", 415)):
        problem = h.refused(status, method, path, *([b"x"] if status == 415 else []), **({"Content_Type": "text/x"} if status == 415 else {}))
        assert h.ok("GET", problem["type"]).body, problem
