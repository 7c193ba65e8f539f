"""Log compaction: of each key the newest message stays."""


def latest(c, *words):
    return {m.get("key"): m["body"] for m in c.peek("q", *words)}


def test_the_last_of_each_key_stays(c):
    c.create(retention="log", compact="yes")
    c.pub("q", ("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("a", "3"), ("b", "2"), fields="key,body")
    c.until(lambda: len(c.peek("q")) == 3, "the compaction")
    assert latest(c) == {"a": "3", "b": "2", "c": "1"}
    c.broker.restart()
    assert latest(c) == {"a": "3", "b": "2", "c": "1"}
    c.ok("group", "create", "q", "late", "--from", "beginning")
    assert c.bodies("q", 3, "-g", "late") == ["1", "3", "2"], "in order of seq"


def test_an_empty_body_removes_the_key(c):
    c.create(retention="log", compact="yes")
    c.pub("q", ("a", "1"), ("b", "1"), fields="key,body")
    c.ok("pub", "q", "", "-k", "a")
    c.until(lambda: "1" not in [m["body"] for m in c.peek("q", "--key", "a")], "its value is gone")
    assert latest(c, "--key", "b") == {"b": "1"}


def test_many(c):
    c.create(retention="log", compact="yes")
    c.pub("q", *[(f"k{i % 50}", i) for i in range(20000)], fields="key,body")
    c.until(lambda: c.describe()["messages"] == 50, "the compaction")
    assert latest(c) == {f"k{i % 50}": str(i) for i in range(19950, 20000)}


def test_off_keeps_all(c):
    c.create(retention="log")
    c.pub("q", *[("a", i) for i in range(10)], fields="key,body")
    assert len(c.peek("q")) == 10
