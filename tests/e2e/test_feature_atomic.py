"""Several publishes, and publishes with acks, in one step; broker pipe."""

import os
import subprocess

import harness
from commands import FAILED, OK


def test_to_several_queues(c):
    for name in "abc":
        c.create(name)
    c.ok("pub", "a", "x", "--also", "b", "--also", "c", "-k", "key")
    for name in "abc":
        (m,) = c.take(name)
        assert m["body"] == "x" and m["key"] == "key"


def test_all_queues_or_none(c):
    c.create("a")
    c.create("full", max_messages=1)
    c.pub("full", "0")
    c.refused("QUEUE_NOT_FOUND", "pub", "a", "x", "--also", "missing")
    c.refused("QUEUE_FULL", "pub", "a", "x", "--also", "full")
    c.broker.restart()
    assert c.describe("a")["messages"] == 0 and c.describe("full")["messages"] == 1


def test_all_lines_or_none(c):
    c.create(max_messages=5)
    said = c.json("pub", "q", "--atomic", stdin=b"1\n2\n3\n")
    assert (said["published"], said["first_seq"], said["last_seq"]) == (3, 1, 3)
    c.run(FAILED, "pub", "q", "--atomic", stdin=b"4\n5\n6\n")
    assert [m["body"] for m in c.peek("q")] == ["1", "2", "3"], "not even the first two"
    c.json("pub", "q", "--atomic", stdin=b"4\n5\n")
    assert c.bodies("q", 5) == ["1", "2", "3", "4", "5"]


def test_by_topic_in_a_transaction(c):
    for name in "ab":
        c.create(name)
        c.ok("bind", name, "t")
    c.create("log")
    assert c.json("pub", "--topic", "t", "x", "--also", "log")["copies"] == 2
    for name in ("a", "b", "log"):
        assert c.bodies(name) == ["x"]


def pipe(c, *words, code=OK):
    done = c.run(code, "pipe", "--drain", "--timeout", "500ms", "--json", *words)
    import json

    return json.loads(done.stdout)


def test_pipe(c):
    c.create("in")
    c.create("out")
    c.pub("in", ("k1", "t.a", "5", "hello"), ("k2", "", "", "world"), fields="key,topic,priority,body", header="h:1")
    said = pipe(c, "in", "out", "--", "tr", "a-z", "A-Z")
    assert said == {"taken": 2, "published": 2, "failed": 0, "stale": 0}
    got = c.take("out", 2)
    assert [(m["body"], m["key"], m["headers"]["h"]) for m in got] == [("HELLO", "k1", "1"), ("WORLD", "k2", "1")]
    assert got[0]["topic"] == "t.a" and got[0]["priority"] == 5
    assert c.describe("in")["messages"] == 0


def test_pipe_knows_the_message(c):
    c.create("in")
    c.create("out")
    c.ok("pub", "in", "x", "-k", "key", "--topic", "a.b", "--id", "7")
    pipe(c, "--bare", "in", "out", "--", "sh", "-c", 'printf "%s %s %s %s %s %s" $BROKER_QUEUE $BROKER_SEQ $BROKER_ATTEMPT $BROKER_KEY $BROKER_TOPIC $BROKER_ID')
    (m,) = c.take("out")
    assert m["body"] == "in 1 1 key a.b 7" and "key" not in m and "topic" not in m


def test_pipe_lines_nothing_and_nowhere(c):
    for name in ("in", "out"):
        c.create(name)
    c.pub("in", "a b c", "none")
    assert pipe(c, "--lines", "in", "out", "--", "sh", "-c", "read x; [ \"$x\" = none ] || echo $x | tr ' ' '\\n'")["published"] == 3
    assert c.bodies("out", 3) == ["a", "b", "c"]
    c.pub("in", "x")
    assert pipe(c, "in", "-", "--", "cat")["published"] == 0
    assert c.describe("in")["messages"] == 0


def test_pipe_of_a_failing_command(c):
    c.create("in", max_attempts=3)
    c.create("out")
    c.pub("in", "good", "bad")
    script = 'read x; [ "$x" = good ] && echo done'
    assert pipe(c, "in", "out", "--", "sh", "-c", script)["failed"] == 3
    assert c.bodies("out") == ["done\n"]
    assert [(m["body"], m["headers"]["dead-attempts"]) for m in c.dead("in")] == [("bad", "3")]
    c.pub("in", "bad")
    assert pipe(c, "--on-fail", "reject", "in", "out", "--", "false")["failed"] == 1
    assert [m["headers"]["dead-reason"] for m in c.dead("in")] == ["max_attempts", "rejected"]
    c.pub("in", "bad")
    c.run(FAILED, "pipe", "--on-fail", "stop", "in", "out", "--", "false")
    c.run(FAILED, "pipe", "in", "out", "--", "/no/such/program")
    assert c.describe("in")["messages"] == 1 and c.describe("out")["messages"] == 0


def test_pipe_to_a_missing_queue_keeps_the_message(c):
    c.create("in")
    c.pub("in", "x")
    assert "missing" in c.refused("QUEUE_NOT_FOUND", "pipe", "in", "missing", "--", "cat")["text"]
    assert c.bodies("in") == ["x"]


def test_pipe_through_kills_loses_and_doubles_nothing(c):
    c.create("in")
    c.create("out")
    count = 150
    c.pub("in", *range(count))
    child = subprocess.Popen(
        [harness.BROKER, "pipe", "in", "out", "-q", "--drain", "--timeout", "3s", "--", "cat"],
        env={**os.environ, **harness.SANITIZED, "BROKER_URL": c.broker.url},
        stdout=subprocess.DEVNULL,
        preexec_fn=harness.die_with_parent,
    )
    for part in (20, 70, 120):
        c.until(lambda: c.describe("out")["last_seq"] >= part or child.poll() is not None, f"{part} results")
        c.broker.restart()
    assert child.wait(40) == 0
    assert sorted(map(int, c.bodies("out", count))) == list(range(count))
    assert c.describe("out")["messages"] == 0 and c.describe("in")["messages"] == 0
