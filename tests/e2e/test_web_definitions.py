"""Definitions over HTTP: the document is the one that `broker export` writes and `broker import` reads."""

import json

import harness
import pytest
import web
from commands import Commands


@pytest.fixture
def h(broker):
    with web.connect(broker) as connection:
        yield connection


def define(c):
    c.create("orders", max_attempts=5, backoff="exponential:1s..10min,jitter=20%", ttl="1d", dead_letter="graveyard")
    c.create("log", retention="log", compact="yes", keep_age="30d")
    c.create("full", max_messages=10, overflow="drop-oldest", dedup="1h,50")
    c.create("plain")
    c.ok("group", "create", "orders", "eu", "--filter-topic", "orders.eu.>", "--filter-header", "type=order", "--filter-key", 'k"\\é')
    c.ok("group", "alter", "orders", "default", "--single-active", "yes")
    c.ok("bind", "orders", "orders.>")
    c.ok("bind", "log", ">")
    c.ok("queue", "pause", "plain")


def export(h, query=""):
    return h.ok("GET", "/v1/definitions" + query).json()


def load(h, document, query="", failed=0):
    said = h.ok("POST", "/v1/definitions" + query, document).json()
    assert said["failed"] == failed, said
    return said


def test_both_ways_write_the_same(broker, h):
    c = Commands(broker)
    assert export(h) == json.loads(c.ok("export")) == {"format": "brokerd definitions", "version": 1, "queues": []}
    define(c)
    assert export(h) == json.loads(c.ok("export"))
    assert [q["name"] for q in export(h)["queues"]] == ["full", "log", "orders", "plain"]
    assert [q["name"] for q in export(h, "?prefix=o")["queues"]] == ["orders"]
    lines = h.ok("GET", "/v1/definitions").body.decode().splitlines()
    assert len(lines) == 6, "a queue a line"


def test_exported_by_the_command_and_imported_here(broker):
    c = Commands(broker)
    define(c)
    document = json.loads(c.ok("export"))
    with harness.Broker() as other, web.connect(other) as h:
        dry = load(h, document, "?dry_run=true")
        assert dry["dry_run"] is True and export(h)["queues"] == []
        said = load(h, document)
        assert said["dry_run"] is False
        assert {**said, "dry_run": True} == dry, "the dry run tells what is done"
        assert said["created"] == 4 + 1 + 2 and said["altered"] == 1 and said["differing"] == 0
        assert export(h) == document
        assert load(h, document) == {"created": 0, "altered": 0, "differing": 0, "failed": 0, "dry_run": False, "results": []}
        assert Commands(other).json("import", stdin=json.dumps(document).encode())["created"] == 0
        assert h.ok("GET", "/v1/queues/plain").json()["queue"]["paused"] is True


def test_exported_here_and_imported_by_the_command(broker, h):
    define(Commands(broker))
    document = h.ok("GET", "/v1/definitions").body
    with harness.Broker() as other:
        copy = Commands(other)
        copy.ok("import", stdin=document)
        assert json.loads(copy.ok("export")) == json.loads(document)


def test_results_name_each_item(h):
    document = {
        "format": "brokerd definitions",
        "version": 1,
        "queues": [
            {"name": "a", "paused": True, "settings": {"lease_ms": 5}, "groups": [{"name": "default", "single_active": True}, {"name": "g"}], "bindings": ["x.>", "y"]},
            {"name": "b"},
        ],
    }
    assert load(h, document)["results"] == [
        {"queue": "a", "done": "created"},
        {"queue": "a", "done": "paused"},
        {"queue": "a", "group": "default", "done": "altered"},
        {"queue": "a", "group": "g", "done": "created"},
        {"queue": "a", "binding": "x.>", "done": "bound"},
        {"queue": "a", "binding": "y", "done": "bound"},
        {"queue": "b", "done": "created"},
    ]
    h.ok("PATCH", "/v1/queues/a", {"lease_ms": 6, "ttl_ms": 1000})
    h.ok("PATCH", "/v1/queues/a/groups/g", {"filter": {"key": "k"}})
    h.ok("DELETE", "/v1/queues/a/bindings/y")
    differing = [{"queue": "a", "settings": ["lease_ms"], "done": "left"}, {"queue": "a", "group": "g", "done": "left"}]
    bound = [{"queue": "a", "binding": "y", "done": "bound"}]
    said = load(h, document, "?dry_run=true")
    assert said["results"] == differing + bound and (said["differing"], said["created"], said["altered"]) == (2, 1, 0)
    said = load(h, document, "?alter=true&dry_run=true")
    assert said["altered"] == 2 and h.ok("GET", "/v1/queues/a").json()["queue"]["lease_ms"] == 6
    said = load(h, document, "?alter=true")
    assert said["results"] == [{**r, "done": "altered"} for r in differing] + bound
    after = h.ok("GET", "/v1/queues/a").json()
    assert after["queue"]["lease_ms"] == 5 and after["queue"]["ttl_ms"] == 1000, "what it leaves out is not touched"
    assert {g["name"]: g["filter"] for g in after["groups"]} == {"default": {}, "g": {}}
    assert after["bindings"] == ["x.>", "y"]


def test_the_four_of_a_backoff_are_altered_together(h):
    document = {"format": "brokerd definitions", "version": 1, "queues": [{"name": "a", "settings": {"backoff": "fixed", "backoff_ms": 100, "backoff_jitter_percent": 7}}]}
    load(h, document)
    document["queues"][0]["settings"]["backoff_ms"] = 200
    load(h, document, "?alter=true")
    queue = h.ok("GET", "/v1/queues/a").json()["queue"]
    assert (queue["backoff"], queue["backoff_ms"], queue["backoff_jitter_percent"]) == ("fixed", 200, 7)


def test_one_item_fails_and_the_others_are_done(h):
    document = {
        "format": "brokerd definitions",
        "version": 1,
        "queues": [
            {"name": "no blanks", "groups": [{"name": "g"}]},
            {"name": "a", "settings": {"lease_ms": 0}, "bindings": ["x"]},
            {"name": "b", "groups": [{"name": "g", "filter_topic": "a..b"}, {"name": "h"}], "bindings": ["c..d", "e"]},
            {"name": "c"},
        ],
    }
    said = load(h, document, failed=4)
    failed = [(r["queue"], r.get("group"), r.get("binding"), r["error"]["code"]) for r in said["results"] if "error" in r]
    wrong = "INVALID_ARGUMENT"
    assert failed == [("no blanks", None, None, wrong), ("a", None, None, wrong), ("b", "g", None, wrong), ("b", None, "c..d", wrong)]
    assert all(r["error"]["status"] == 400 and r["error"]["type"] == "/errors/invalid_argument" for r in said["results"] if "error" in r)
    assert [q["name"] for q in export(h)["queues"]] == ["b", "c"]
    b = h.ok("GET", "/v1/queues/b").json()
    assert [g["name"] for g in b["groups"]] == ["default", "h"] and b["bindings"] == ["e"]


@pytest.mark.parametrize(
    "change,words",
    [
        ({"format": "something else"}, "format"),
        ({"version": 2}, "version"),
        ({"queues": {}}, "queues"),
        ({"more": 1}, "more"),
        ({"queues": [{"name": "a"}, {"settings": {}}]}, "number 2"),
        ({"queues": [{"name": "a"}, 5]}, "number 2"),
        ({"queues": [{"name": "a"}, {"name": "b", "setings": {}}]}, "settings"),
        ({"queues": [{"name": "a"}, {"name": "b", "settings": {"leese_ms": 5}}]}, "leese_ms"),
        ({"queues": [{"name": "a"}, {"name": "b", "settings": {"lease_ms": "5s"}}]}, "lease_ms"),
        ({"queues": [{"name": "a"}, {"name": "b", "settings": {"retention": "ever"}}]}, "ever"),
        ({"queues": [{"name": "a"}, {"name": "b", "settings": 1}]}, "settings"),
        ({"queues": [{"name": "a"}, {"name": "b", "paused": 1}]}, "paused"),
        ({"queues": [{"name": "a"}, {"name": "b", "groups": 1}]}, "groups"),
        ({"queues": [{"name": "a"}, {"name": "b", "groups": [{"name": "g", "filter": 1}]}]}, "filter"),
        ({"queues": [{"name": "a"}, {"name": "b", "groups": [{"name": "g", "filter_headers": {"a": 1}}]}]}, "headers"),
        ({"queues": [{"name": "a"}, {"name": "b", "groups": [{}]}]}, "name"),
        ({"queues": [{"name": "a"}, {"name": "b", "bindings": [1]}]}, "binding"),
        ({"queues": [{"name": "a"}, {"name": "b", "bindings": "x"}]}, "bindings"),
    ],
)
def test_a_wrong_document_is_refused_as_a_whole(h, change, words):
    said = h.refused(400, "POST", "/v1/definitions", {"format": "brokerd definitions", "version": 1, "queues": [], **change})
    assert words in said["detail"], said
    assert export(h)["queues"] == [], "nothing was done"


def test_bodies_that_are_no_document(h):
    for body in (b"", b"{", b"[]"):
        h.refused(400, "POST", "/v1/definitions", body, Content_Type="application/json")
    h.refused(415, "POST", "/v1/definitions", b"{}", Content_Type="text/plain")
    assert "dry_rn" in h.refused(400, "POST", "/v1/definitions?dry_rn=true", {})["detail"]
    assert "alter" in h.refused(400, "POST", "/v1/definitions?alter=maybe", {})["detail"]


def many(count):
    return {"format": "brokerd definitions", "version": 1, "queues": [{"name": f"q{i:05}"} for i in range(count)]}


def test_many_queues(broker, h):
    """More than a page, more than an output buffer; others are served meanwhile."""
    count = 700
    with web.connect(broker) as other:
        assert load(h, many(count), "?dry_run=true")["created"] == count
        assert load(h, many(count))["created"] == count
        assert other.ok("GET", "/v1/ping").json() == {}
    document = h.ok("GET", "/v1/definitions").body
    assert len(document) > 256 * 1024
    assert [q["name"] for q in json.loads(document)["queues"]] == [f"q{i:05}" for i in range(count)]
    assert json.loads(document) == json.loads(Commands(broker).ok("export"))


def test_a_client_that_goes_in_the_middle(broker, h):
    load(h, many(700))
    import socket

    for body, path in ((b"", b"GET"), (json.dumps(many(2000)).encode(), b"POST")):
        s = socket.create_connection(("127.0.0.1", broker.http_port))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(path + b" /v1/definitions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        if path == b"GET":
            s.recv(100)
        s.close()
    assert h.ok("GET", "/v1/ping").json() == {}
    # What was begun is done in whole items; the rest is not.
    names = [q["name"] for q in export(h)["queues"]]
    assert names == [f"q{i:05}" for i in range(len(names))] and len(names) >= 700
