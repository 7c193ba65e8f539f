"""Topics, by the protocol: bindings, routed publishes, seqs of records that lie in several queues, groups' filters."""

import protocol
import pytest
from protocol import BY_TOPIC, BrokerError, record


@pytest.fixture
def conn(broker):
    with broker.connect() as c:
        for name in ("eu", "all"):
            c.create(name)
        c.ask(protocol.BIND, {"queue": "eu", "pattern": "orders.eu.*"})
        c.ask(protocol.BIND, {"queue": "all", "pattern": "orders.>"})
        yield c


def routed(body, topic, **more):
    return record(body, topic=topic, flags=BY_TOPIC, **more)


def outcome(ranges):
    return [(r.first_index, r.count, r.code, r.first_seq, r.routed) for r in ranges]


def test_one_record_in_several_queues(conn):
    conn.publish_ok("all", b"first")  # so that the seqs differ
    assert outcome(conn.publish_topics(routed(b"x", "orders.eu.made"))) == [(0, 1, 0, 2, True)]
    (in_all,) = [m for m in conn.lease("all", max=10) if m.topic]
    (in_eu,) = conn.lease("eu", max=10)
    assert (in_eu.seq, in_all.seq) == (1, 2)
    assert in_eu.record_seq == in_all.record_seq and in_eu.crc == in_all.crc, "it is one record"
    assert (in_eu.body, in_eu.topic) == (b"x", "orders.eu.made")
    assert conn.ack(in_eu) == (1, []) and conn.ack(in_all) == (1, [])
    assert conn.describe("eu")[0]["messages"] == 0 and conn.describe("all")[0]["messages"] == 1


def test_seqs_come_with_deliveries(conn):
    conn.publish_ok("eu", *[b"by name"] * 3)
    conn.publish_topics(*[routed(b"%d" % i, "orders.eu.made") for i in range(3)])
    conn.publish_ok("eu", b"by name")
    for queue, last in (("eu", 7), ("all", 3)):
        s = conn.subscribe(queue)
        got = conn.receive(s, last)
        assert [m.seq for m in got] == list(range(1, last + 1))
        assert conn.ack(*got) == (last, [])
        conn.unsubscribe(s)


def test_each_record_for_itself(conn):
    ranges = conn.publish_topics(routed(b"a", "orders.eu.made"), routed(b"b", "orders.us"), routed(b"c", "nobody"), routed(b"d", "orders.eu.x"))
    flat = [(r.code, r.first_seq) for r in ranges for _ in range(r.count)]
    assert flat == [(0, 2), (0, 1), (protocol.UNROUTABLE, 0), (0, 2)]
    assert [m.body for m in conn.peek("eu")[0]] == [b"a", b"d"]
    assert [m.body for m in conn.peek("all")[0]] == [b"a", b"b", b"d"]


def test_unroutable_may_be_fine(conn):
    assert outcome(conn.publish_topics(routed(b"x", "nobody"), unroutable_ok=True)) == [(0, 1, 0, 0, True)]


def test_retries_are_no_duplicates(conn):
    again = [routed(b"%d" % i, "orders.eu.made", producer=(9, i)) for i in (1, 2)]
    assert not any(r.duplicate for r in conn.publish_topics(*again))
    assert all(r.duplicate and r.routed for r in conn.publish_topics(*again))
    assert conn.describe("eu")[0]["messages"] == 2


def test_message_ids_by_topic(conn):
    conn.publish_topics(routed(b"x", "orders.us", ident=b"one"))  # all has seen it, eu has not
    assert outcome(conn.publish_topics(routed(b"y", "orders.eu.made", ident=b"one")))[0][2] == 0
    assert [m.body for m in conn.peek("eu")[0]] == [b"y"] and [m.body for m in conn.peek("all")[0]] == [b"x"]
    (r,) = conn.publish_topics(routed(b"z", "orders.eu.made", ident=b"one"))
    assert r.duplicate and r.routed


def test_all_or_none_when_one_is_full(conn):
    conn.create("small", max_messages=1)
    conn.ask(protocol.BIND, {"queue": "small", "pattern": ">"})
    conn.publish_ok("small", b"there")
    (r,) = conn.publish_topics(routed(b"x", "orders.eu.made"))
    assert r.code == protocol.QUEUE_FULL and r.retry_ms > 0
    assert conn.describe("eu")[0]["messages"] == 0 and conn.describe("all")[0]["messages"] == 0


def test_bindings(conn):
    conn.ask(protocol.BIND, {"queue": "eu", "pattern": "orders.eu.*"})  # again
    conn.ask(protocol.BIND, {"queue": "eu", "pattern": "x"})
    assert sorted(conn.bindings("eu")) == ["orders.eu.*", "x"] and conn.describe("eu")[0]["bindings"] == 2
    conn.ask(protocol.UNBIND, {"queue": "eu", "pattern": "orders.eu.*"})
    conn.ask(protocol.UNBIND, {"queue": "eu", "pattern": "orders.eu.*"})  # not there: fine
    assert conn.bindings("eu") == ["x"]
    assert conn.publish_topics(routed(b"x", "orders.eu.made"))[0].first_seq == 1
    with pytest.raises(BrokerError) as e:
        conn.ask(protocol.BIND, {"queue": "nowhere", "pattern": "x"})
    assert e.value.code == protocol.QUEUE_NOT_FOUND


def test_bindings_and_routed_messages_survive(broker):
    with broker.connect() as c:
        for name in ("a", "b"):
            c.create(name)
            c.ask(protocol.BIND, {"queue": name, "pattern": "t.*"})
        c.publish_ok("b", b"0")
        c.publish_topics(routed(b"1", "t.x", producer=(5, 1)))
    broker.restart()
    with broker.connect() as c:
        assert c.bindings("a") == ["t.*"]
        assert c.publish_topics(routed(b"1", "t.x", producer=(5, 1)))[0].duplicate
        assert [(m.seq, m.body) for m in c.lease("a", max=10, wait_ms=5000)] == [(1, b"1")]
        assert [(m.seq, m.body) for m in c.lease("b", max=10)] == [(1, b"0"), (2, b"1")]


def test_records_that_do_not_fit_the_way(conn):
    """By topic without the flag or the topic, by name with the flag: nothing of the frame is stored."""
    for queue, bad in (
        ("", record(b"x", topic="a")),
        ("", record(b"x", flags=BY_TOPIC)),
        ("", record(b"x", topic="a..b", flags=BY_TOPIC)),
        ("", record(b"x", topic="a.*", flags=BY_TOPIC)),
        ("eu", record(b"x", topic="orders.eu.made", flags=BY_TOPIC)),
        ("eu", record(b"x", topic="no good")),
    ):
        for records in ([bad], [record(b"y", topic="orders.eu.made", flags=0 if queue else BY_TOPIC), bad]):
            with pytest.raises(BrokerError) as e:
                conn.publish_answer(conn.request(protocol.PUBLISH, protocol.publish_body(queue, records)))
            assert (e.value.code, e.value.scope) == (protocol.INVALID_ARGUMENT, "request"), bad
    assert conn.describe("eu")[0]["messages"] == 0


def test_a_topic_by_name_is_only_said(conn):
    conn.publish_ok("eu", protocol.message(b"x", topic="elsewhere.1"))
    assert conn.lease("eu")[0].topic == "elsewhere.1"


# ---- groups that see a part


def test_filters(conn):
    conn.create("q")
    for name, filter in (
        ("topic", {"topic": "a.*"}),
        ("key", {"key": "k"}),
        ("header", {"headers": {"x": "1"}}),
        ("both", {"topic": ">", "headers": {"x": "1", "y": "2"}}),
        ("every", {}),
    ):
        conn.ask(protocol.GROUP_CREATE, {"queue": "q", "group": name, "filter": filter})
    conn.publish_ok(
        "q",
        protocol.message(b"0"),
        protocol.message(b"1", topic="a.b"),
        protocol.message(b"2", key=b"k", topic="a"),
        protocol.message(b"3", headers={"x": "1"}),
        protocol.message(b"4", headers={"x": "1", "y": "2"}, topic="t"),
        protocol.message(b"5", headers={"x": 1}),
    )
    seen = {name: b"".join(m.body for m in conn.lease("q", max=10, group=name)) for name in ("topic", "key", "header", "both", "every")}
    assert seen == {"topic": b"1", "key": b"2", "header": b"34", "both": b"4", "every": b"012345"}
    told = {g: conn.describe("q")[1][g]["filter"] for g in ("topic", "key", "both", "every", "default")}
    assert told == {"topic": {"topic": "a.*"}, "key": {"key": "k"}, "both": {"topic": ">", "headers": {"x": "1", "y": "2"}}, "every": {}, "default": {}}


def test_an_altered_filter(conn):
    conn.create("q")
    conn.ask(protocol.GROUP_ALTER, {"queue": "q", "group": "default", "filter": {"key": "k"}, "single_active": True})
    conn.publish_ok("q", protocol.message(b"a"), protocol.message(b"b", key=b"k"))
    assert [m.body for m in conn.lease("q", max=10)] == [b"b"]
    conn.ask(protocol.GROUP_ALTER, {"queue": "q", "group": "default", "filter": {}})
    group = conn.describe("q")[1]["default"]
    assert group["filter"] == {} and group["single_active"] is True, "what an alter does not name stays"
    with pytest.raises(BrokerError) as e:
        conn.ask(protocol.GROUP_ALTER, {"queue": "q", "group": "nobody", "filter": {}})
    assert e.value.code == protocol.GROUP_NOT_FOUND
