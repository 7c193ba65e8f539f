"""Limits of a queue, and settings that are altered later."""


def test_reject(c):
    c.create(max_messages=3)
    c.pub("q", "1", "2", "3")
    said = c.refused("QUEUE_FULL", "pub", "q", "4")
    assert said["retryable"]
    assert c.bodies("q") == ["1"]
    c.until(lambda: c.broker.cli("pub", "q", "4").returncode == 0, "room again")
    assert c.bodies("q", 3) == ["2", "3", "4"]


def test_drop_oldest(c):
    c.create(max_messages=3, overflow="drop-oldest")
    c.pub("q", *range(1, 11))
    assert [m["body"] for m in c.peek("q")] == ["8", "9", "10"]
    q = c.describe()
    assert q["messages"] == 3 and q["dropped"] == 7
    assert c.bodies("q", 3) == ["8", "9", "10"]


def test_bytes(c):
    c.create(max_bytes="10KiB")
    c.pub("q", "a" * 4000, "b" * 4000)
    c.refused("QUEUE_FULL", "pub", "q", "c" * 4000)
    c.take("q", 2)
    c.until(lambda: c.broker.cli("pub", "q", "c" * 4000).returncode == 0, "room again")


def test_bytes_drop_oldest(c):
    c.create(max_bytes="10KiB", overflow="drop-oldest")
    for letter in "abcd":
        c.pub("q", letter * 4000)
    assert [m["body"][0] for m in c.peek("q")] == ["c", "d"]


def test_message_size(c):
    c.create(max_message="1KiB")
    c.pub("q", "x" * 500)
    c.refused("TOO_LARGE", "pub", "q", "x" * 2000)


def test_limits_survive_a_restart(c):
    c.create(max_messages=2)
    c.pub("q", "1", "2")
    c.broker.restart()
    c.refused("QUEUE_FULL", "pub", "q", "3")
    c.ok("queue", "alter", "q", "--max-messages", "3")
    c.pub("q", "3")
    c.ok("queue", "alter", "q", "--overflow", "drop-oldest")
    c.pub("q", "4")
    assert [m["body"] for m in c.peek("q")] == ["2", "3", "4"]


ALL = {
    "lease": ("45s", "lease_ms", 45000),
    "max_attempts": (7, "max_attempts", 7),
    "backoff": ("exponential:1s..10min,jitter=20%", "backoff", "exponential"),
    "dead_letter": ("graveyard", "dead_letter", "graveyard"),
    "ttl": ("1d", "ttl_ms", 86400000),
    "dead_letter_expired": ("yes", "dead_letter_expired", True),
    "delete_unused": ("30d", "unused_ms", 30 * 86400000),
    "dedup": ("5min,1000", "dedup_ms", 300000),
    "max_message": ("64KiB", "max_message_bytes", 65536),
    "max_messages": ("1M", "max_messages", 1000000),
    "max_bytes": ("1GiB", "max_bytes", 1 << 30),
    "overflow": ("drop-oldest", "overflow", "drop-oldest"),
    "ordered_keys": ("no", "ordered_keys", False),
    "fair_keys": ("yes", "fair_keys", True),
}


def check_all(c, name):
    q = c.describe(name)
    for option, (_, field, expected) in ALL.items():
        assert q[field] == expected, option
    assert (q["backoff_ms"], q["backoff_max_ms"], q["backoff_jitter_percent"]) == (1000, 600000, 20)
    assert q["dedup_count"] == 1000


def test_every_setting_at_creation_and_later(c):
    c.create("born", **{option: value for option, (value, _, _) in ALL.items()})
    c.create("altered")
    for option, (value, _, _) in ALL.items():
        c.ok("queue", "alter", "altered", f"--{option.replace('_', '-')}", value)
    check_all(c, "born")
    c.broker.restart()
    check_all(c, "born")
    check_all(c, "altered")
    shown = c.ok("queue", "describe", "born")
    for words in ("exponential:1s..10min,jitter=20%", "graveyard", "drop-oldest", "5min", "1GiB"):
        assert words in shown, words


def test_what_cannot_be_says_why(c):
    c.create("work")
    for words in (["--compact", "yes"], ["--retention", "log", "--compact", "yes", "--overflow", "reject", "--lease", "1s", "--backoff", "fixed:1s", "--dead-letter", "work"]):
        done = c.broker.cli("queue", "alter", "work", *words)
        assert done.returncode == 1 and len(done.stderr.strip().splitlines()[0]) > 30, done.stderr
    q = c.describe("work")
    assert q["compact"] is False and q["retention"] == "work", "refused as a whole"
