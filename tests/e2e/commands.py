"""The broker command as tests of what queues can do use it: short words for publishing, taking, looking."""

import json
import os
import queue
import subprocess
import threading
import time

import harness

OK, FAILED, USAGE, NO_BROKER, TIMED_OUT = 0, 1, 2, 3, 4
SECONDS = 30  # deadline of everything that must come


class Commands:
    """Commands against one broker; what is not expected to fail must succeed."""

    def __init__(self, broker):
        self.broker = broker

    def run(self, code, *words, stdin=b""):
        words = [str(w) for w in words]
        done = self.broker.cli(*words, stdin=stdin)
        assert done.returncode == code, (words, done.returncode, done.stdout.decode(), done.stderr.decode())
        return done

    def ok(self, *words, stdin=b""):
        return self.run(OK, *words, stdin=stdin).stdout.decode()

    def json(self, *words, stdin=b""):
        return self.broker.cli_json(*[str(w) for w in words], stdin=stdin)

    def refused(self, name, *words, stdin=b""):
        """It fails with this error of the table; the whole error."""
        done = self.run(FAILED, "--json", *words, stdin=stdin)
        said = json.loads(done.stderr.splitlines()[-1])
        assert said["error"] == name, said
        return said

    def create(self, name="q", **settings):
        words = []
        for option, value in settings.items():
            words += [f"--{option.replace('_', '-')}", value]
        self.ok("queue", "create", name, *words)

    def pub(self, name, *bodies, fields=None, **options):
        """Each body a message, in one command; fields: names, and then a body is a tuple. What was said, as JSON."""
        words = ["pub", name, "--lines"]
        if fields:
            words += ["--fields", fields]
            bodies = ["\t".join(str(f) for f in b) for b in bodies]
        for option, value in options.items():
            words += [f"--{option.replace('_', '-')}", value]
        return self.json(*words, stdin="".join(f"{b}\n" for b in bodies).encode())

    def take(self, name, count=1, *words, ack="auto"):
        """Exactly so many messages, as they come, settled."""
        out = self.run(OK, "sub", name, "-n", count, "--ack", ack, "--format", "json", "--timeout", f"{SECONDS}s", *words).stdout
        got = [json.loads(line) for line in out.splitlines()]
        assert len(got) == count, got
        return got

    def bodies(self, name, count=1, *words):
        return [m["body"] for m in self.take(name, count, *words)]

    def lease(self, name, count=1, *words):
        """Up to so many messages that are there now, leased; a list of messages."""
        done = self.broker.cli("lease", name, "-n", str(count), "--json", *[str(w) for w in words])
        assert done.returncode in (OK, TIMED_OUT), done.stderr.decode()
        return json.loads(done.stdout) if done.stdout.strip() else []

    def empty(self, name, *words):
        """Nothing can be handed out now."""
        got = self.lease(name, 1, *words)
        assert got == [], got

    def peek(self, name, *words):
        done = self.broker.cli("peek", name, "--all", "--format", "json", *[str(w) for w in words])
        assert done.returncode in (OK, TIMED_OUT), done.stderr.decode()
        return [json.loads(line) for line in done.stdout.splitlines()]

    def dead(self, name, *words):
        done = self.run(OK, "dead", "list", name, "--all", "--format", "json", *words)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def describe(self, name="q"):
        return self.json("queue", "describe", name)

    def group(self, name="q", group="default"):
        return next(g for g in self.describe(name)["groups"] if g["name"] == group)

    def until(self, condition, what):
        return harness.until(condition, SECONDS, what)

    def follow(self, name, *words):
        return Follower(self.broker, "sub", name, "--format", "json", *words)


class Follower:
    """A consumer that goes on: its messages with the time at which each was read. A context: it ends with it."""

    def __init__(self, broker, *words):
        self.lines = queue.Queue()
        self.child = subprocess.Popen(
            [harness.BROKER, *[str(w) for w in words]],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **harness.SANITIZED, "BROKER_URL": broker.url},
            preexec_fn=harness.die_with_parent,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.put((json.loads(line), time.time()))

    def next(self, seconds=SECONDS):
        """The next message; its time of arrival is in "came"."""
        try:
            message, came = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"no message within {seconds} s") from None
        return {**message, "came": came}

    def count(self):
        return self.lines.qsize()

    def stop(self):
        self.child.kill()
        self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
