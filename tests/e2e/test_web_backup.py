"""GET /v1/backup: a tar archive that is a data directory of a running broker."""

import io
import json
import os
import socket
import subprocess
import tarfile

import harness
import protocol
import pytest
import web
from commands import Commands


@pytest.fixture
def h(broker):
    with web.connect(broker) as connection:
        yield connection


def content(c, name):
    return [(m["seq"], m["body"], m.get("key"), m.get("priority"), m.get("due")) for m in c.peek(name)]


def unpack(archive, directory):
    """By the tar program; the names."""
    data = os.path.join(directory, "data")
    os.makedirs(data, mode=0o700)
    run = subprocess.run(["tar", "-xf", "-", "-C", data], input=archive, capture_output=True, check=False)
    assert run.returncode == 0 and run.stderr == b"", run
    return data


def test_a_copy_starts(broker, h, tmp_path):
    c = Commands(broker)
    c.create(max_attempts=5)
    c.create("log", retention="log")
    c.pub("q", *range(3000))
    c.pub("q", ("1h", "3", "later"), fields="delay,priority,body")
    c.pub("log", *range(100))
    c.take("q", 1000)
    answer = h.ok("GET", "/v1/backup")
    assert answer.headers["Content-Type"] == "application/x-tar"
    assert answer.headers["Transfer-Encoding"] == "chunked" and "Content-Length" not in answer.headers
    assert ".tar" in answer.headers["Content-Disposition"]
    data = unpack(answer.body, tmp_path)
    assert all(os.stat(os.path.join(data, f)).st_mode & 0o77 == 0 for f in os.listdir(data))
    c.pub("q", "behind it")
    status, said = broker.fsck(data=data)
    assert status == 0, said
    with harness.Broker(directory=str(tmp_path)) as other:
        copy = Commands(other)
        before = [m for m in content(c, "q") if m[1] != "behind it"]
        assert content(copy, "q") == before and len(before) == 2001
        assert content(copy, "log") == content(c, "log")
        assert copy.describe("q")["max_attempts"] == 5 and copy.describe("q")["scheduled"] == 1
        copy.pub("q", "goes on")
    assert Commands(broker).describe("q")["messages"] == 2002, "the original goes on"


def test_the_archive_is_as_others_write_them(broker, h):
    Commands(broker).create()
    archive = h.ok("GET", "/v1/backup").body
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errorlevel=2) as tar:
        members = tar.getmembers()
        assert members and all(m.isreg() and m.mode == 0o600 and m.uid == m.gid == 0 for m in members)
        assert all("/" not in m.name for m in members) and len({m.name for m in members}) == len(members)
        assert members[-1].name.startswith("checkpoint"), "a copy that was cut short does not start"
        end = max(m.offset_data + (m.size + 511) // 512 * 512 for m in members)
    assert archive[end:] == bytes(1024)
    with broker.connect() as native:
        files = native.ask(protocol.BACKUP_BEGIN, {})["files"]
        native.ask(protocol.BACKUP_END)
    kind = lambda name, size: (name.split("-")[0], size)
    assert [kind(m.name, m.size) for m in members][:-1] == [kind(f["name"], f["size"]) for f in files][: len(members) - 1]


def begin(broker, receive=65536):
    """A backup whose client reads its head and then waits."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    s.settimeout(30)
    s.connect(("127.0.0.1", broker.http_port))
    s.sendall(b"GET /v1/backup HTTP/1.1\r\nHost: x\r\n\r\n")
    head = s.recv(12)
    assert head == b"HTTP/1.1 200", head
    return s


def test_one_at_a_time_and_it_ends_with_its_client(broker, h):
    Commands(broker).create()
    with begin(broker):
        said = h.request("GET", "/v1/backup")
        assert said.status == 429 and said.json()["code"] == "LIMIT_REACHED" and int(said.headers["Retry-After"]) >= 1
    harness.until(lambda: h.request("GET", "/v1/backup").status == 200, what="the end of the first one")
    assert h.request("GET", "/v1/backup").status == 200


def test_a_client_that_reads_slowly_costs_no_memory(broker, h):
    c = Commands(broker)
    c.create()
    noise = os.urandom(4 * harness.MIB)
    for _ in range(8):
        h.ok("POST", "/v1/queues/q/messages", noise)
    before = broker.rss()
    with begin(broker) as s:
        for _ in range(20):
            assert h.ok("GET", "/v1/ping")
        assert broker.rss() - before < 8 * harness.MIB, "it is read as fast as it is sent"
        received, end = 0, b""
        while not end.endswith(b"\r\n0\r\n\r\n"):
            chunk = s.recv(1 << 20)
            assert chunk, "it broke"
            received, end = received + len(chunk), (end + chunk)[-16:]
    assert received > 32 * harness.MIB


def test_it_is_as_the_command_makes_it(broker, h, tmp_path):
    c = Commands(broker)
    c.create()
    c.pub("q", *range(10))
    c.ok("backup", tmp_path / "by-command")
    data = unpack(h.ok("GET", "/v1/backup").body, tmp_path)
    assert {f.split("-")[0] for f in os.listdir(data)} == {f.split("-")[0] for f in os.listdir(tmp_path / "by-command")}
    c.ok("restore", data, tmp_path / "restored")
    assert json.loads(h.ok("GET", "/v1/queues/q").body)["queue"]["messages"] == 10
