"""Groups: where they start, seek and replay, lag, filters, single active consumer."""

import time

import pytest


def test_starts_and_seek(c):
    c.create(retention="log")
    c.pub("q", "1", "2")
    c.until(lambda: time.time() * 1000 > c.peek("q")[-1]["time_ms"] + 5, "some time in between")
    middle = f"{time.time():.3f}"
    c.until(lambda: time.time() > float(middle) + 0.005, "some time in between")
    c.pub("q", "3", "4")
    for name, place, expected in [
        ("first", "beginning", ["1", "2", "3", "4"]),
        ("last", "end", []),
        ("by-seq", "seq:2", ["2", "3", "4"]),
    ]:
        c.ok("group", "create", "q", name, "--from", place)
        assert [m["body"] for m in c.lease("q", 10, "-g", name)] == expected
    c.ok("group", "create", "q", "by-time", "--from", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(float(middle))) + middle[middle.index(".") :] + "Z")
    assert [m["body"] for m in c.lease("q", 10, "-g", "by-time")] == ["3", "4"]
    c.ok("group", "seek", "q", "last", "--to", "ago:1h")
    assert c.bodies("q", 4, "-g", "last") == ["1", "2", "3", "4"]


def test_replay_while_others_go_on(c):
    c.create(retention="log")
    c.ok("group", "create", "q", "audit")
    c.pub("q", *range(100))
    assert len(c.take("q", 60)) == 60
    c.take("q", 100, "-g", "audit")
    c.ok("group", "seek", "q", "audit", "--to", "beginning")
    assert c.group("q", "audit")["lag"] == 100 and c.group("q")["lag"] == 40
    assert c.bodies("q", 100, "-g", "audit") == [str(i) for i in range(100)]
    assert c.bodies("q", 40) == [str(i) for i in range(60, 100)]
    assert {g["name"]: g["lag"] for g in c.json("group", "list", "q")} == {"default": 0, "audit": 0}
    assert "LAG" in c.ok("group", "list", "q")


TOPICS = [("orders.eu.created", "1"), ("orders.us.created", "2"), ("orders.eu.paid", "3"), ("", "4"), ("orders.eu", "5")]


@pytest.mark.parametrize(
    "pattern,expected",
    [("orders.eu.created", ["1"]), ("orders.*.created", ["1", "2"]), ("orders.>", ["1", "2", "3", "5"]), ("orders.eu.>", ["1", "3"])],
)
def test_topic_filter(c, pattern, expected):
    c.create()
    c.ok("group", "create", "q", "g", "--filter-topic", pattern)
    c.pub("q", *TOPICS, fields="topic,body")
    assert c.group("q", "g")["lag"] == len(expected)
    assert c.bodies("q", len(expected), "-g", "g") == expected
    c.empty("q", "-g", "g")
    assert c.bodies("q", 5) == ["1", "2", "3", "4", "5"], "other groups see all"
    assert c.describe()["messages"] == 0


def test_header_and_key_filters(c):
    c.create()
    c.ok("group", "create", "q", "g", "--filter-header", "type=order", "--filter-header", "region=eu")
    c.ok("group", "create", "q", "k", "--filter-key", "a")
    c.pub("q", "1", header="type:order")
    c.ok("pub", "q", "2", "-H", "type:order", "-H", "region:eu", "-k", "a")
    c.ok("pub", "q", "3", "-H", "type:bill", "-H", "region:eu", "-k", "b")
    assert c.bodies("q", 1, "-g", "g") == ["2"] and c.bodies("q", 1, "-g", "k") == ["2"]
    c.empty("q", "-g", "g")
    c.empty("q", "-g", "k")
    g = c.group("q", "g")
    assert g["filter_headers"] == {"type": "order", "region": "eu"} and g["lag"] == 0


def test_a_filter_over_what_was_there_before_and_through_kill(c):
    c.create(retention="log")
    c.pub("q", *TOPICS, fields="topic,body")
    c.ok("group", "create", "q", "g", "--filter-topic", "*.eu.*")
    c.broker.restart()
    assert c.bodies("q", 2, "-g", "g") == ["1", "3"]
    c.empty("q", "-g", "g")


def test_a_filter_can_be_altered(c):
    c.create()
    c.ok("group", "create", "q", "g", "--filter-topic", "a.>")
    c.pub("q", ("a.1", "1"), ("b.1", "2"), fields="topic,body")
    c.ok("group", "alter", "q", "g", "--filter-topic", "b.>")
    c.pub("q", ("a.1", "3"), ("b.1", "4"), fields="topic,body")
    assert c.bodies("q", 1, "-g", "g") == ["4"], "what came before and does not match is passed over"
    c.ok("group", "alter", "q", "g", "--no-filter")
    c.pub("q", ("a.1", "5"), ("", "6"), fields="topic,body")
    assert c.bodies("q", 2, "-g", "g") == ["5", "6"]


def test_the_disk_does_not_wait_for_who_does_not_want_it(c):
    """What a filter turns away is settled: only the wanted part is kept."""
    c.create()
    c.ok("group", "create", "q", "g", "--filter-key", "rare")
    c.pub("q", *[("rare" if i == 500 else "common", i) for i in range(1000)], fields="key,body")
    c.take("q", 1000)
    assert c.describe()["messages"] == 1
    assert c.bodies("q", 1, "-g", "g") == ["500"]


def test_single_active(c):
    c.create()
    c.ok("group", "alter", "q", "default", "--single-active", "yes")
    with c.follow("q", "--ack", "none") as first:
        c.until(lambda: c.group()["consumers"] == 1, "the first consumer")
        with c.follow("q") as second:
            c.until(lambda: c.group()["consumers"] == 2, "the second consumer")
            c.pub("q", "1", "2", "3")
            assert [first.next()["body"] for _ in range(3)] == ["1", "2", "3"]
            assert second.count() == 0
            first.stop()
            assert [second.next()["body"] for _ in range(3)] == ["1", "2", "3"], "the second takes over"
            assert second.count() == 0
    assert c.group()["single_active"] is True


def test_delete_frees(c):
    c.create()
    c.ok("group", "create", "q", "g")
    c.pub("q", "1")
    c.take("q")
    assert c.describe()["messages"] == 1
    c.ok("group", "delete", "q", "g", "--yes")
    c.until(lambda: c.describe()["messages"] == 0, "what only that group wanted is gone")
