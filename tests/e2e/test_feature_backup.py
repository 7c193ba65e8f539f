"""Backup and restore of a running broker; definitions as a file."""

import json
import os
import subprocess

import harness
from commands import FAILED, OK, Commands


def content(c, name):
    return [(m["seq"], m["body"], m.get("key"), m.get("priority"), m.get("due")) for m in c.peek(name)]


def test_backup_while_it_works(c, tmp_path):
    c.create(max_attempts=5)
    c.create("log", retention="log")
    c.pub("q", *range(5000))
    c.pub("q", ("1h", "3", "later"), fields="delay,priority,body")
    c.pub("log", *range(100))
    c.take("q", 1000)
    c.ok("nack", c.lease("q")[0]["receipt"], "--delay", "1h")
    before = content(c, "q")
    publisher = subprocess.Popen(
        ["bash", "-c", f"seq 1 200000 | {harness.BROKER} pub -q log"], env={**os.environ, **harness.SANITIZED, "BROKER_URL": c.broker.url}
    )
    with publisher:
        c.until(lambda: c.describe("log")["last_seq"] > 1000, "the publisher's start")
        said = c.json("backup", tmp_path / "backup")
        assert said["done"].startswith("backup") and said["bytes"] > 0
        sure = c.describe("log")["last_seq"]
        publisher.kill()
    c.run(OK, "fsck", tmp_path / "backup")
    c.run(OK, "restore", tmp_path / "backup", tmp_path / "data")
    assert os.stat(tmp_path / "data").st_mode & 0o77 == 0
    with harness.Broker(directory=str(tmp_path)) as other:
        copy = Commands(other)
        assert content(copy, "q") == before
        assert copy.describe("q")["max_attempts"] == 5 and copy.describe("q")["scheduled"] == 1
        assert copy.group("q")["delayed"] == 1
        n = copy.describe("log")["last_seq"]
        assert 1000 < n <= sure
        assert [m["body"] for m in copy.peek("log", "--from-seq", "101")] == [str(i) for i in range(1, n - 99)]
        copy.pub("q", "goes on")
        assert copy.bodies("q")[0] == "1001"
    assert [m for m in content(c, "q")] == before, "the original goes on"


def test_a_backup_is_not_written_over(c, tmp_path):
    c.create()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("precious")
    c.run(FAILED, "backup", tmp_path / "there")
    assert os.listdir(tmp_path / "there") == ["file"]
    c.run(FAILED, "backup", tmp_path / "no" / "such" / "place")


def test_restore_refuses(c, tmp_path):
    c.create()
    c.ok("backup", tmp_path / "backup")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("precious")
    assert b"not empty" in c.run(FAILED, "restore", tmp_path / "backup", tmp_path / "data").stderr
    assert os.listdir(tmp_path / "data") == ["file"]
    (tmp_path / "empty").mkdir()
    assert b"no backup" in c.run(FAILED, "restore", tmp_path / "empty", tmp_path / "new").stderr
    assert not (tmp_path / "new").exists()


def test_restore_tells_damage(c, tmp_path):
    c.create()
    c.pub("q", *["x" * 500] * 200)
    c.ok("backup", tmp_path / "backup")
    log = max((tmp_path / "backup").glob("segment-*"))
    data = bytearray(log.read_bytes())
    at = data.find(b"x" * 500)
    data[at + 100] ^= 1
    log.write_bytes(data)
    assert b"damaged" in c.run(FAILED, "restore", tmp_path / "backup", tmp_path / "data").stderr


# ---- definitions


def define(c):
    c.create("orders", max_attempts=5, backoff="exponential:1s..10min,jitter=20%", ttl="1d", dead_letter="graveyard")
    c.create("log", retention="log", compact="yes", keep_age="30d")
    c.create("plain")
    c.ok("group", "create", "orders", "eu", "--filter-topic", "orders.eu.>", "--filter-header", "type=order")
    c.ok("group", "alter", "orders", "default", "--single-active", "yes")
    c.ok("bind", "orders", "orders.>")
    c.ok("bind", "log", ">")
    c.ok("queue", "pause", "plain")


def test_export_and_import(c, tmp_path):
    define(c)
    c.ok("export", tmp_path / "definitions.json")
    text = (tmp_path / "definitions.json").read_text()
    assert len(text.splitlines()) > 50, "for people"
    document = json.loads(text)
    assert document == json.loads(c.ok("export"))
    assert [q["name"] for q in document["queues"]] == ["log", "orders", "plain"]
    with harness.Broker() as other:
        copy = Commands(other)
        dry = copy.json("import", tmp_path / "definitions.json", "--dry-run")
        assert dry["created"] > 0 and copy.json("queue", "list") == []
        assert "would create queue 'orders'" in copy.ok("import", tmp_path / "definitions.json", "--dry-run")
        copy.ok("import", tmp_path / "definitions.json")
        assert json.loads(copy.ok("export")) == document
        again = copy.json("import", tmp_path / "definitions.json")
        assert again == {"created": 0, "altered": 0, "differing": 0, "dry_run": False}
        copy.ok("pub", "--topic", "orders.eu.created", "x", "-H", "type:order")
        assert copy.bodies("orders", 1, "-g", "eu") == ["x"]


def test_import_leaves_what_differs_unless_told(c, tmp_path):
    define(c)
    c.ok("export", tmp_path / "d.json")
    c.ok("queue", "alter", "orders", "--ttl", "2d", "--lease", "1min")
    c.ok("group", "alter", "orders", "eu", "--no-filter")
    c.pub("orders", "kept")
    said = c.ok("import", tmp_path / "d.json")
    assert "ttl_ms" in said and "lease_ms" in said and "--alter" in said
    assert c.describe("orders")["ttl_ms"] == 2 * 86400000
    assert c.json("import", tmp_path / "d.json", "--alter", "--dry-run")["altered"] == 2
    assert c.describe("orders")["ttl_ms"] == 2 * 86400000
    c.ok("import", tmp_path / "d.json", "--alter")
    assert c.describe("orders")["ttl_ms"] == 86400000 and c.describe("orders")["lease_ms"] == 30000
    assert json.loads(c.ok("export")) == json.loads((tmp_path / "d.json").read_text())
    assert c.describe("orders")["messages"] == 1


def test_import_refuses_what_is_wrong_as_a_whole(c):
    good = {"format": "brokerd definitions", "version": 1, "queues": [{"name": "a"}, {"name": "b", "settings": {"lease_ms": 5}}]}
    for change, words in [
        ({"format": "something else"}, "format"),
        ({"version": 2}, "version"),
        ({"queues": {}}, "queues"),
        ({"queues": [{"name": "a"}, {"settings": {}}]}, "name"),
        ({"queues": [{"name": "a"}, {"name": "b", "settings": {"leese_ms": 5}}]}, "leese_ms"),
        ({"queues": [{"name": "a"}, {"name": "b", "settings": {"lease_ms": "5s"}}]}, "lease_ms"),
        ({"queues": [{"name": "a"}, {"name": "b", "settings": {"retention": "ever"}}]}, "ever"),
        ({"queues": [{"name": "a"}, {"name": "b", "groups": [{"name": "g", "filter": 1}]}]}, "filter"),
        ({"queues": [{"name": "a"}, {"name": "b", "bindings": [1]}]}, "binding"),
    ]:
        done = c.run(FAILED, "import", stdin=json.dumps({**good, **change}).encode())
        assert words in done.stderr.decode(), (change, done.stderr)
    assert b"line 2" in c.run(FAILED, "import", stdin=b"{\n!}").stderr
    assert c.json("queue", "list") == [], "nothing was done"
    c.ok("import", stdin=json.dumps(good).encode())
    assert c.describe("b")["lease_ms"] == 5
