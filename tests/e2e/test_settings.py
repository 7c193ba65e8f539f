"""Settings of queues, by the protocol: each is kept, told, altered alone, and refused when it makes no sense."""

import protocol
import pytest
from protocol import BrokerError

DEFAULTS = {
    "retention": "work",
    "sync": "always",
    "lease_ms": 30000,
    "max_message_bytes": 0,
    "log_max_age_ms": 0,
    "log_max_bytes": 0,
    "log_max_messages": 0,
    "max_attempts": 0,
    "backoff": "none",
    "backoff_ms": 0,
    "backoff_max_ms": 0,
    "backoff_jitter_percent": 0,
    "dead_letter": "",
    "ttl_ms": 0,
    "dead_letter_expired": False,
    "unused_ms": 0,
    "dedup_ms": 120000,
    "dedup_count": 100000,
    "max_messages": 0,
    "max_bytes": 0,
    "overflow": "reject",
    "ordered_keys": True,
    "fair_keys": False,
    "compact": False,
}
OTHERS = {
    "retention": "log",
    "sync": "interval",
    "lease_ms": 5000,
    "max_message_bytes": 1000,
    "log_max_age_ms": 1 << 40,
    "log_max_bytes": 1 << 41,
    "log_max_messages": 1 << 42,
    "max_attempts": 7,
    "backoff": "exponential",
    "backoff_ms": 100,
    "backoff_max_ms": 60000,
    "backoff_jitter_percent": 25,
    "dead_letter": "graves",
    "ttl_ms": 86400000,
    "dead_letter_expired": True,
    "unused_ms": 1 << 36,
    "dedup_ms": 1000,
    "dedup_count": 5,
    "max_messages": 1 << 43,
    "max_bytes": 1 << 44,
    "overflow": "drop_oldest",
    "ordered_keys": False,
    "fair_keys": True,
    "compact": True,
}
BACKOFF = {"backoff", "backoff_ms", "backoff_max_ms", "backoff_jitter_percent"}


def told(conn, queue):
    said = conn.describe(queue)[0]
    return {key: said[key] for key in DEFAULTS}


@pytest.fixture
def conn(broker):
    with broker.connect() as c:
        yield c


def test_defaults(conn):
    conn.create("q")
    assert told(conn, "q") == DEFAULTS


def test_all_of_them_survive(broker, conn):
    conn.create("q", **OTHERS)
    assert told(conn, "q") == OTHERS
    conn.create("q", **OTHERS)  # the same: fine
    with pytest.raises(BrokerError) as e:
        conn.create("q", **{**OTHERS, "max_attempts": 8})
    assert e.value.code == protocol.QUEUE_EXISTS
    broker.restart()
    with broker.connect() as c:
        assert told(c, "q") == OTHERS


def test_each_is_altered_alone(conn):
    conn.create("q")
    have = dict(DEFAULTS)
    for key, value in OTHERS.items():
        change = {k: OTHERS[k] for k in BACKOFF} if key in BACKOFF else {key: value}
        conn.ask(protocol.QUEUE_ALTER, {"queue": "q", **change})
        have.update(change)
        assert told(conn, "q") == have, key
    conn.ask(protocol.QUEUE_ALTER, {"queue": "q", "backoff": "fixed", "backoff_ms": 5})
    assert {k: told(conn, "q")[k] for k in BACKOFF} == {"backoff": "fixed", "backoff_ms": 5, "backoff_max_ms": 0, "backoff_jitter_percent": 0}
    conn.ask(protocol.QUEUE_ALTER, {"queue": "q", "dead_letter": ""})
    assert told(conn, "q")["dead_letter"] == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"backoff_ms": 100},
        {"backoff": "fixed"},
        {"backoff": "fixed", "backoff_ms": 86400001},
        {"backoff": "exponential", "backoff_ms": 100, "backoff_max_ms": 50},
        {"backoff": "linear", "backoff_ms": 100},
        {"backoff": "fixed", "backoff_ms": 1, "backoff_jitter_percent": 101},
        {"max_attempts": 1000001},
        {"dead_letter": "a b"},
        {"dead_letter": "q"},
        {"dead_letter": "a\0b"},
        {"dead_letter": "x" * 256},
        {"ttl_ms": 1 << 60},
        {"dedup_count": 0},
        {"max_bytes": 63},
        {"overflow": "drop"},
        {"ordered_keys": 1},
        {"compact": True},
    ],
)
def test_what_makes_no_sense(conn, settings):
    with pytest.raises(BrokerError) as e:
        conn.create("q", **settings)
    assert (e.value.code, e.value.scope) == (protocol.INVALID_ARGUMENT, "request") and len(e.value.text) > 20
    conn.create("q")
    with pytest.raises(BrokerError) as e:
        conn.ask(protocol.QUEUE_ALTER, {"queue": "q", **settings})
    assert e.value.code in (protocol.INVALID_ARGUMENT, protocol.REFUSED)
    assert told(conn, "q") == DEFAULTS
