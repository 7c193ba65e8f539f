"""What survives kill -9 and what an orderly stop leaves."""

import signal
import time

import protocol
import pytest
from harness import SMALL, Broker, until
from protocol import message


def test_confirmed_survives(broker):
    with broker.connect() as c:
        c.create("q", lease_ms=60000)
        c.create("n", sync="none")
        c.ask(protocol.GROUP_CREATE, {"queue": "q", "group": "b"})
        c.publish_ok("q", *[b"%d" % i for i in range(1000)])
        c.publish_ok("n", b"written")
        got = c.lease("q", max=1000)
        assert c.ack(*got[:500], *got[600:610]) == (510, [])
        epoch = c.welcome["epoch"]
    broker.restart()
    with broker.connect() as c:
        assert c.welcome["epoch"] > epoch
        left = c.lease("q", max=1000)
        assert [m.seq for m in left] == [*range(501, 601), *range(611, 1001)]
        assert all(m.attempt == 2 for m in left), "leased before the kill: it may have been worked on"
        assert [m.seq for m in c.lease("q", max=1024, group="b")] == list(range(1, 1001))
        assert [m.body for m in c.lease("n")] == [b"written"]
        assert c.ack(got[550]) == (0, [got[550].receipt]), "a receipt of an earlier start"
        assert c.describe("q")[0]["lease_ms"] == 60000
        assert c.publish_ok("q", b"next") == [1001]


def test_attempts_survive(broker):
    with broker.connect() as c:
        c.create("q")
        c.publish_ok("q", b"poison")
        for attempt in range(1, 5):
            m = c.lease("q", wait_ms=5000)[0]
            assert m.attempt == attempt
            assert c.nack(m) == (1, [])
    broker.restart()
    with broker.connect() as c:
        m = c.lease("q")[0]
        assert m.attempt >= 5
        c.nack(m)
    broker.restart()
    with broker.connect() as c:
        assert c.lease("q")[0].attempt >= 6


def test_delay_of_a_nack_survives(broker):
    with broker.connect() as c:
        c.create("q")
        c.publish_ok("q", b"a")
        c.nack(c.lease("q")[0], delay_ms=3000)
        begin = time.monotonic()
    broker.restart()
    with broker.connect() as c:
        assert c.lease("q") == [] or time.monotonic() - begin > 3
        m = c.lease("q", wait_ms=10000)[0]
        assert m.attempt == 2 and time.monotonic() - begin >= 2.8


def test_retries_are_duplicates_after_a_restart(broker):
    with broker.connect() as c:
        c.create("q")
        c.publish_ok("q", *[message(b"%d" % i, producer=(5, i)) for i in range(1, 11)])
    broker.restart()
    with broker.connect() as c:
        ranges = c.publish("q", *[message(b"%d" % i, producer=(5, i)) for i in range(5, 15)])
        assert sum(r.count for r in ranges if r.duplicate) == 6 and all(r.code == 0 for r in ranges)
        for r in ranges:
            assert not r.duplicate or r.first_seq in (0, 5 + r.first_index)
        assert [m.body for m in c.lease("q", max=100)] == [b"%d" % i for i in range(1, 15)]


def test_queues_and_groups_survive(broker):
    with broker.connect() as c:
        for name in ("a", "b", "c"):
            c.create(name, lease_ms=777)
        c.ask(protocol.QUEUE_PAUSE, {"queue": "a"})
        c.ask(protocol.GROUP_CREATE, {"queue": "a", "group": "g", "start": "end"})
        c.ask(protocol.QUEUE_DELETE, {"queue": "b"})
        c.ask(protocol.QUEUE_ALTER, {"queue": "c", "lease_ms": 888})
        c.publish_ok("c", b"x", b"y")
        c.ask(protocol.QUEUE_PURGE, {"queue": "c"})
        ids = {q["name"]: q["id"] for q in c.ask(protocol.QUEUE_LIST)["queues"]}
    broker.restart()
    with broker.connect() as c:
        queues = {q["name"]: q for q in c.ask(protocol.QUEUE_LIST)["queues"]}
        assert {n: q["id"] for n, q in queues.items()} == ids and set(queues) == {"a", "c"}
        assert queues["a"]["paused"] and not queues["c"]["paused"]
        assert queues["a"]["lease_ms"] == 777 and queues["c"]["lease_ms"] == 888
        assert set(c.describe("a")[1]) == {"default", "g"}
        assert c.lease("c") == []
        c.create("b")
        assert c.describe("b")[0]["id"] not in ids.values()


def test_repeated_kills_while_publishing():
    with Broker(**SMALL) as broker:
        with broker.connect() as c:
            c.create("q")
        number, confirmed = 0, set()
        for _ in range(4):
            c = broker.connect()
            requests = {}
            for _ in range(40):
                records = []
                for _ in range(50):
                    number += 1
                    records.append(protocol.record(b"%d" % number + bytes(400), producer=(9, number)))
                requests[c.publish_request("q", records)] = number
            for request, last in list(requests.items())[: len(requests) // 2]:
                if all(r.code == 0 for r in c.publish_answer(request)):
                    confirmed |= set(range(last - 49, last + 1))
            broker.restart()
            c.close()
        with broker.connect() as c:
            s = c.subscribe("q", credit=1 << 30, lease_ms=60000)
            seen = []
            while not c.nothing_comes(s, 0.5):
                seen += [int(m.body.split(b"\0")[0]) for m in c.receive(s, len(c.streams[s]))]
            assert confirmed <= set(seen) and len(seen) == len(set(seen)) and seen == sorted(seen)
        assert broker.stop() == 0
        assert broker.fsck()[0] == 0


def test_sigterm_is_orderly(broker):
    with broker.connect() as c:
        c.create("q")
        c.publish_ok("q", b"a")
        broker.process.send_signal(signal.SIGTERM)
        c.wait_closed()
        assert c.goaway and c.goaway["text"]
    assert broker.wait() == 0
    status, said = broker.fsck()
    assert status == 0, said
    broker.start()
    with broker.connect() as c:
        assert c.lease("q")[0].body == b"a"


def test_sigint_is_orderly(broker):
    broker.process.send_signal(signal.SIGINT)
    assert broker.wait() == 0


def test_two_brokers_on_one_directory(broker):
    with Broker(directory=broker.directory, start=False) as second:
        second.socket += "2"
        second.log_path += "2"
        with pytest.raises(RuntimeError, match="in use|another|locked"):
            second.start()
        assert second.process.returncode == 1
    with broker.connect() as c:
        c.create("still-here")


def test_start_on_an_unwritable_directory(tmp_path):
    (tmp_path / "data").write_text("a file, no directory")
    with Broker(directory=str(tmp_path), start=False) as b:
        try:
            b.start()
        except (RuntimeError, FileExistsError) as e:
            assert "data" in str(e)
        else:
            raise AssertionError("it started")


def test_no_leftovers_of_a_killed_brokers_socket(broker):
    with broker.connect_unix() as c:
        c.create("q")
    broker.restart()
    with broker.connect_unix() as c:
        assert until(lambda: c.describe("q"))
