"""Retry: nack with delay, backoff, attempts through restarts, and leases that run out."""

import time

from commands import USAGE


def nack(c, m, *words):
    c.ok("nack", m["receipt"], *words)


def test_nack_with_delay(c):
    c.create()
    c.pub("q", "a", "b")
    first = c.lease("q")[0]
    begin = time.time()
    nack(c, first, "--delay", "4s")
    assert c.bodies("q") == ["b"], "the next one does not wait"
    again = c.take("q")[0]
    assert again["body"] == "a" and again["attempt"] == 2 and time.time() - begin >= 4


def test_fixed_backoff(c):
    c.create(backoff="fixed:2s")
    c.pub("q", "a")
    for attempt in (1, 2):
        m = c.lease("q", 1, "--wait", "10s")[0]
        assert m["attempt"] == attempt
        if attempt > 1:
            assert time.time() - begin >= 2
        begin = time.time()
        nack(c, m)
        assert c.group()["delayed"] == 1
    begin = time.time()
    m = c.lease("q", 1, "--wait", "10s")[0]
    nack(c, m, "--delay", "1ms")
    assert c.lease("q", 1, "--wait", "10s")[0]["attempt"] == 4 and time.time() - begin < 10, "a delay of its own counts"


def test_exponential_backoff(c):
    c.create(backoff="exponential:200ms..500ms")
    c.pub("q", "a")
    waits = []
    m = c.lease("q")[0]
    for _ in range(3):
        begin = time.time()
        nack(c, m)
        m = c.lease("q", 1, "--wait", "10s")[0]
        waits.append(time.time() - begin)
    assert waits[0] >= 0.2 and waits[1] >= 0.4 and waits[2] >= 0.5, waits
    assert m["attempt"] == 4


def test_backoff_can_be_altered(c):
    c.create(backoff="fixed:1h")
    c.pub("q", "a", "b")
    a, b = c.lease("q", 2)
    nack(c, a)
    c.empty("q")
    c.ok("queue", "alter", "q", "--backoff", "none")
    nack(c, b)
    assert c.lease("q")[0]["body"] == "b", "without backoff it comes at once"
    assert c.describe()["backoff"] == "none"
    for wrong in ("fixed", "exponential:2s..1s", "5s", "fixed:1s,jitter=200%"):
        c.run(USAGE, "queue", "alter", "q", "--backoff", wrong)


def test_attempts_survive_restarts(c):
    c.create()
    c.pub("q", "a")
    for attempt in (1, 2, 3):
        m = c.lease("q", 1, "--wait", "10s")[0]
        assert m["attempt"] == attempt
        nack(c, m)
        c.broker.restart()
    assert c.take("q")[0]["attempt"] == 4


def test_a_delayed_retry_survives_a_restart(c):
    c.create()
    c.pub("q", "a")
    nack(c, c.lease("q")[0], "--delay", "1h")
    c.broker.restart()
    c.empty("q")
    assert c.group()["delayed"] == 1


def test_a_lease_that_runs_out_gives_the_credit_back(c):
    """The consumer never settles; with room for one message at a time it still gets each, again and again."""
    c.create()
    c.pub("q", "a", "b", "c")
    with c.follow("q", "--ack", "none", "--max-unsettled", "1", "--lease", "200ms") as consumer:
        got = [consumer.next() for _ in range(7)]
    assert {m["body"] for m in got} == {"a", "b", "c"} or max(m["attempt"] for m in got) >= 3
    assert max(m["attempt"] for m in got) >= 2
    c.pub("q", "d")
    assert "d" in {m["body"] for m in c.take("q", 4)}


def test_max_unsettled(c):
    c.create()
    c.pub("q", *range(10))
    with c.follow("q", "--ack", "none", "--max-unsettled", "3", "--lease", "1h") as consumer:
        for _ in range(3):
            consumer.next()
        assert c.group()["leased"] == 3
        assert len(c.lease("q", 20)) == 7, "the rest is for others"
        assert consumer.count() == 0
