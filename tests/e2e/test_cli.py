"""The broker command: every command, its exit codes, its JSON."""

import base64
import json
import os
import signal
import subprocess

import harness
import pytest

OK, FAILED, USAGE, NO_BROKER, TIMED_OUT = 0, 1, 2, 3, 4


def run(broker, code, *words, **options):
    done = broker.cli(*words, **options)
    assert done.returncode == code, (words, done.returncode, done.stdout.decode(), done.stderr.decode())
    if code != OK and code != TIMED_OUT:
        assert done.stderr, "a failure says why"
    return done


@pytest.fixture
def q(broker):
    run(broker, OK, "queue", "create", "q")
    return broker


# ---- pub and sub


def test_argument(q):
    run(q, OK, "pub", "q", "hello world")
    assert run(q, OK, "sub", "q", "-n", "1").stdout == b"hello world\n"
    run(q, TIMED_OUT, "sub", "q", "--drain", "--timeout", "200ms")


def test_lines(q):
    lines = b"one\n\nthree with spaces  \nfour \xff\x00 bytes\nno newline at the end"
    run(q, OK, "pub", "q", stdin=lines)
    done = run(q, OK, "sub", "q", "-n", "5")
    assert done.stdout == lines + b"\n"


def test_nul_separated(q):
    run(q, OK, "pub", "q", "-0", stdin=b"a\nb\0c\0")
    assert run(q, OK, "sub", "q", "-n", "2", "-0").stdout == b"a\nb\0c\0"


def test_whole_and_file(q, tmp_path):
    body = bytes(range(256)) * 50
    (tmp_path / "f").write_bytes(body)
    run(q, OK, "pub", "q", "--whole", stdin=body)
    run(q, OK, "pub", "q", "-f", str(tmp_path / "f"))
    run(q, OK, "pub", "q", "--lines", "-f", str(tmp_path / "f"))
    done = run(q, OK, "sub", "q", "-n", "2", "--delimiter", "")
    assert done.stdout == body * 2
    assert run(q, OK, "sub", "q", "--drain", "--timeout", "500ms").stdout == body if body.endswith(b"\n") else True


def test_key_and_headers(q):
    run(q, OK, "pub", "q", "x", "-k", "user-7", "-H", "type:order", "-H", "note: with: colons")
    m = json.loads(run(q, OK, "sub", "q", "-n", "1", "--format", "json").stdout)
    assert (m["seq"], m["body"], m["key"], m["attempt"]) == (1, "x", "user-7", 1)
    assert m["headers"]["type"] == "order" and m["headers"]["note"].strip() == "with: colons"


def test_json_of_binary(q):
    run(q, OK, "pub", "q", "--whole", stdin=b"\xff\x00\x01")
    m = json.loads(run(q, OK, "sub", "q", "-n", "1", "--format", "json").stdout)
    assert base64.b64decode(m["body_base64"]) == b"\xff\x00\x01" and "body" not in m


def test_json_escapes(q):
    text = 'quote " backslash \\ newline \n tab \t unicode ü € 😀 \x01'
    run(q, OK, "pub", "q", "--whole", stdin=text.encode())
    assert json.loads(run(q, OK, "sub", "q", "-n", "1", "--format", "json").stdout)["body"] == text


def test_many_lines(q):
    lines = b"".join(b"line %d\n" % i for i in range(50000))
    run(q, OK, "pub", "q", "--quiet", stdin=lines)
    assert run(q, OK, "sub", "q", "-n", "50000").stdout == lines
    with q.connect() as c:
        assert c.describe("q")[0]["messages"] == 0


def test_large_message(q):
    body = os.urandom(7 << 20)
    run(q, OK, "pub", "q", "--whole", stdin=body)
    assert run(q, OK, "sub", "q", "-n", "1", "--delimiter", "").stdout == body


def test_create_option(broker):
    assert b"queue create new" in run(broker, FAILED, "pub", "new", "x").stderr
    run(broker, OK, "pub", "new", "x", "--create")
    assert run(broker, OK, "sub", "new", "-n", "1").stdout == b"x\n"


def test_ack_modes(q):
    run(q, OK, "pub", "q", "a")
    assert run(q, OK, "sub", "q", "-n", "1", "--ack", "none").stdout == b"a\n"
    m = json.loads(run(q, OK, "sub", "q", "-n", "1", "--ack", "nack", "--format", "json").stdout)
    assert m["attempt"] == 2
    assert json.loads(run(q, OK, "sub", "q", "-n", "1", "--ack", "on-send", "--format", "json").stdout)["attempt"] == 3
    run(q, TIMED_OUT, "sub", "q", "--drain", "--timeout", "200ms")


def test_sub_follows_until_interrupted(q):
    child = subprocess.Popen(
        [harness.BROKER, "sub", "q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **harness.SANITIZED, "BROKER_URL": q.url}
    )
    with child:
        run(q, OK, "pub", "q", "first")
        assert child.stdout.readline() == b"first\n"
        q.restart()  # it connects again by itself
        run(q, OK, "pub", "q", "second")
        assert child.stdout.readline() == b"second\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(10) in (0, 130)
    with q.connect() as c:
        assert c.describe("q")[0]["messages"] == 0


def test_sub_with_a_closed_pipe_acks_only_what_was_written(q):
    run(q, OK, "pub", "q", stdin=b"".join(b"%d\n" % i for i in range(100000)))
    script = f"{harness.BROKER} sub q | head -n 10"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=60, check=False,
                          env={**os.environ, **harness.SANITIZED, "BROKER_URL": q.url})
    assert done.stdout == b"".join(b"%d\n" % i for i in range(10))
    with q.connect() as c:
        assert c.describe("q")[0]["messages"] > 0
        assert not done.stderr or b"pipe" in done.stderr.lower()


def test_pub_survives_a_restart(q):
    child = subprocess.Popen([harness.BROKER, "pub", "q", "--connect", "10s"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                             env={**os.environ, **harness.SANITIZED, "BROKER_URL": f"unix:{q.socket}"})
    with child:
        try:
            for i in range(3000):
                child.stdin.write(b"%d\n" % i)
                if i % 1000 == 500:
                    child.stdin.flush()
                    q.restart()
            child.stdin.close()
        except BrokenPipeError:
            raise AssertionError(child.stderr.read().decode()) from None
        assert child.wait(60) == 0, child.stderr.read()
    got = run(q, OK, "sub", "q", "--drain", "--timeout", "1s").stdout
    assert got == b"".join(b"%d\n" % i for i in range(3000)), "each line once and in order, through kill -9"


def test_long_format(q):
    run(q, OK, "pub", "q", "two\nlines \x1b[1m \x00"[:-1], "-k", "key", "-H", "h:v", "--topic", "a.b", "--id", "id-1", "--priority", "4", "--ttl", "1h")
    line = run(q, OK, "peek", "q").stdout.decode()
    assert line.count("\n") == 1 and "\x1b" not in line, "nothing that a terminal would act on"
    for words in ("1  20", "topic=a.b", "key=key", "id=id-1", "priority=4", "expires=20", "h:v", "two.lines .[1m"):
        assert words in line, (words, line)
    assert "attempt=1" in run(q, OK, "sub", "q", "-n", "1", "--format", "long").stdout.decode()


def test_fields(q):
    lines = b"a\tid-1\t3\tbody with\ttabs\n\tid-2\t\t\n"
    run(q, OK, "pub", "q", "--fields", "key,id,priority,body", "-k", "fallback", stdin=lines)
    first, second = (json.loads(x) for x in run(q, OK, "sub", "q", "-n", "2", "--format", "json").stdout.splitlines())
    assert (first["key"], first["id"], first["priority"], first["body"]) == ("a", "id-1", 3, "body with\ttabs")
    assert (second["key"], second["id"], second["body"]) == ("fallback", "id-2", "") and "priority" not in second
    done = run(q, FAILED, "pub", "q", "--fields", "key,priority,body", stdin=b"k\t1\tgood\nk\t99\tbad\n")
    assert b"'99' is no priority" in done.stderr and b"message 2" in done.stderr
    assert b"1 tabs" in run(q, FAILED, "pub", "q", "--fields", "key,priority,body", stdin=b"k\t1\n").stderr
    for wrong in ("key", "body,key", "key,key,body", "colour,body", ""):
        run(q, USAGE, "pub", "q", "--fields", wrong, stdin=b"")


# ---- queues and groups


def test_queue_commands(broker):
    run(broker, OK, "queue", "create", "a", "--lease", "45s", "--retention", "log", "--keep-bytes", "64MiB", "--keep-age", "2h")
    run(broker, OK, "queue", "create", "b")
    said = broker.cli_json("queue", "describe", "a")
    queue = said.get("queue", said)
    assert queue["name"] == "a" and queue["lease_ms"] == 45000 and queue["retention"] == "log"
    assert queue["log_max_bytes"] == 64 << 20 and queue["log_max_age_ms"] == 7200000
    run(broker, OK, "queue", "alter", "a", "--lease", "1min")
    assert b"1" in run(broker, OK, "queue", "describe", "a").stdout
    listed = broker.cli_json("queue", "list")
    names = [x["name"] for x in (listed if isinstance(listed, list) else listed["queues"])]
    assert names == ["a", "b"]
    assert b"a" in run(broker, OK, "queue", "list").stdout
    run(broker, OK, "pub", "b", "x")
    run(broker, OK, "queue", "pause", "b")
    run(broker, TIMED_OUT, "sub", "b", "--drain", "--timeout", "200ms")
    run(broker, OK, "queue", "resume", "b")
    purged = broker.cli_json("queue", "purge", "b", "--yes")
    assert purged["purged"] == 1
    run(broker, OK, "queue", "delete", "b", "--yes")
    run(broker, FAILED, "queue", "describe", "b")
    run(broker, FAILED, "queue", "create", "a", "--retention", "work")
    run(broker, FAILED, "queue", "create", ".bad name")


def test_group_commands(q):
    run(q, OK, "pub", "q", stdin=b"a\nb\nc\n")
    run(q, OK, "group", "create", "q", "g")
    assert run(q, OK, "sub", "q", "-g", "g", "-n", "3").stdout == b"a\nb\nc\n"
    listed = q.cli_json("group", "list", "q")
    assert sorted(g["name"] for g in (listed if isinstance(listed, list) else [listed])) == ["default", "g"]
    run(q, OK, "group", "seek", "q", "g", "--to", "2") if b"--to" in run(q, OK, "group", "seek", "--help").stdout else None
    run(q, FAILED, "group", "create", "q", "g")
    run(q, OK, "group", "delete", "q", "g", "--yes")
    run(q, FAILED, "group", "delete", "q", "g", "--yes")


# ---- leases by hand


def test_lease_and_settle(q):
    run(q, OK, "pub", "q", stdin=b"a\nb\nc\n")
    lines = [json.loads(line) for line in run(q, OK, "lease", "q", "-n", "3").stdout.splitlines()]
    assert [m["body"] for m in lines] == ["a", "b", "c"]
    a, b, c = (m["receipt"] for m in lines)
    run(q, OK, "ack", a)
    run(q, OK, "extend", b, "--lease", "1min")
    run(q, OK, "nack", c)
    run(q, FAILED, "ack", a)
    again = json.loads(run(q, OK, "lease", "q").stdout)
    assert again["body"] == "c" and again["attempt"] == 2
    run(q, TIMED_OUT, "lease", "q", "--wait", "200ms")


# ---- the rest


def test_ping_stats_version(broker):
    run(broker, OK, "ping", "-n", "2", "-i", "1ms")
    assert b"connections" in run(broker, OK, "stats").stdout
    assert broker.cli_json("stats")["queues"] == 0
    assert b"0.1.0" in run(broker, OK, "version").stdout
    broker.cli_json("version")
    broker.cli_json("ping")


def test_json_errors(broker):
    done = run(broker, FAILED, "pub", "none", "x", "--json")
    said = json.loads(done.stderr.splitlines()[-1])
    assert "QUEUE_NOT_FOUND" in json.dumps(said)


def test_usage_errors(broker):
    assert b"pub" in run(broker, USAGE, "pbu").stderr
    assert b"queue create" in run(broker, USAGE, "queue", "craete", "x").stderr
    assert b"--lines" in run(broker, USAGE, "pub", "q", "--linse").stderr
    run(broker, USAGE)
    run(broker, USAGE, "pub")
    run(broker, USAGE, "queue", "create", "a", "b")
    run(broker, USAGE, "sub", "q", "-n", "many")
    run(broker, USAGE, "ack", "not-a-receipt")
    for words in [
        ("pub", "q", "x", "--at", "10"),
        ("pub", "q", "x", "--at", "now", "--delay", "1s"),
        ("pub", "q", "x", "--id", ""),
        ("pub", "--lines"),
        ("delete", "q"),
        ("delete", "q", "--seq", "5-3"),
        ("peek", "q", "-H", "no value"),
        ("move", "q"),
        ("scheduled", "cancel", "q"),
        ("scheduled", "cancel", "q", "--all", "--key", "k"),
        ("scheduled", "reschedule", "q", "--seq", "1"),
        ("scheduled", "reschedule", "q", "--delay", "1s"),
        ("queue", "create", "q", "--backoff", "1s"),
        ("queue", "create", "q", "--dedup", "long"),
        ("queue", "create", "q", "--ordered-keys", "perhaps"),
        ("group", "alter", "q", "g"),
        ("group", "create", "q", "g", "--no-filter", "--filter-key", "k"),
        ("pipe", "a", "b"),
        ("restore", "a"),
    ]:
        run(broker, USAGE, *words)
    run(broker, USAGE, "--url", "gopher://x", "ping")


def test_help(broker):
    overview = run(broker, OK, "help").stdout.decode()
    commands = [line.split("  ")[1].strip() for line in overview.splitlines() if line.startswith("  ") and not line.startswith("   ")]
    names = [" ".join(w for w in c.split() if w.islower() and w[0].isalpha()) for c in commands if not c.startswith("-")]
    assert {"pub", "sub", "queue create", "group seek", "lease", "ack", "bench pub", "fsck", "ping", "scheduled list", "dead redrive", "backup"} <= set(names), names
    for name in names:
        if not name.startswith("help"):
            text = run(broker, OK, "help", *name.split()).stdout
            assert b"usage: broker " + name.encode() in text
    for name in ("pub", "queue create"):
        assert run(broker, OK, *name.split(), "--help").stdout == run(broker, OK, "help", *name.split()).stdout


def test_no_broker():
    with harness.Broker(start=False) as b:
        b.port = 1
        run(b, NO_BROKER, "ping", "--timeout", "1s")
        run(b, NO_BROKER, "pub", "q", "x", "--timeout", "1s")
        run(b, NO_BROKER, "ping", "--url", "unix:/nowhere/socket", "--timeout", "1s")


def test_unix_url(broker):
    run(broker, OK, "ping", "--url", f"unix:{broker.socket}")


@pytest.mark.parametrize("kind", ["pub", "sub", "both"])
def test_bench(broker, kind):
    words = ["--count", "2000"] if kind != "both" else ["--count", "2000"]
    said = broker.cli_json("bench", kind, *words)
    assert said
    with broker.connect() as c:
        assert c.stats()["queues"] == 0, "it deletes its queue"


def test_restore_of_a_directory(q, tmp_path):
    """A stopped broker's directory is a backup, too."""
    run(q, OK, "pub", "q", stdin=b"1\n2\n3\n")
    assert q.stop() == 0
    run(q, OK, "restore", q.data, str(tmp_path / "data"))
    assert b"not empty" in run(q, FAILED, "restore", q.data, str(tmp_path / "data")).stderr
    run(q, FAILED, "restore", str(tmp_path), str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    with harness.Broker(directory=str(tmp_path)) as other:
        assert run(other, OK, "sub", "q", "-n", "3").stdout == b"1\n2\n3\n"


def test_restore_tells_damage(q, tmp_path):
    run(q, OK, "pub", "q", stdin=b"".join(b"%d %s\n" % (i, b"x" * 500) for i in range(200)))
    assert q.stop() == 0
    log = q.files("segment-")[0]
    with open(log, "r+b") as f:
        at = f.read().find(b"100 " + b"x" * 500)
        f.seek(at + 200)
        f.write(b"y")
    assert b"damaged" in run(q, FAILED, "restore", q.data, str(tmp_path / "data")).stderr
    run(q, OK, "restore", "--no-check", q.data, str(tmp_path / "unchecked"))


def test_fsck_command(q):
    run(q, OK, "pub", "q", "x")
    assert q.stop() == 0
    run(q, OK, "fsck", q.data)
    json.loads(run(q, OK, "fsck", q.data, "--json").stdout)
    assert q.cli("fsck", q.data + "-not-there").returncode != 0
