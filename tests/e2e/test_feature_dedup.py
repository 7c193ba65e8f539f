"""Deduplication by message id within a window of time and number."""


def pub(c, ident, body="x", queue="q"):
    said = c.json("pub", queue, body, "--id", ident)
    return said["first_seq"], bool(said["duplicates"])


def test_the_answer_names_the_first(c):
    c.create()
    assert pub(c, "a") == (1, False) and pub(c, "b") == (2, False)
    assert pub(c, "a", "another body") == (1, True)
    assert "duplicate of seq 2" in c.ok("pub", "q", "x", "--id", "b")
    assert c.describe()["messages"] == 2 and c.describe()["duplicates"] == 2
    assert [(m["id"], m["body"]) for m in c.take("q", 2)] == [("a", "x"), ("b", "x")]
    assert pub(c, "a") == (1, True), "also when it was consumed"


def test_through_restarts(c):
    c.create()
    c.pub("q", *[(f"id-{i}", i) for i in range(500)], fields="id,body")
    c.broker.restart()
    assert pub(c, "id-7") == (8, True)
    assert c.broker.stop() == 0
    c.broker.start()
    assert pub(c, "id-499") == (500, True) and pub(c, "id-500") == (501, False)


def test_of_each_queue(c):
    c.create("p")
    c.create("q")
    assert pub(c, "a", queue="p") == (1, False) and pub(c, "a", queue="q") == (1, False)


def test_window_of_number(c):
    c.create(dedup="1h,3")
    for ident in "abcd":
        pub(c, ident)
    assert pub(c, "b") == (2, True) and pub(c, "d") == (4, True)
    assert pub(c, "a") == (5, False), "only the last three are known"


def test_window_of_time(c):
    c.create(dedup="400ms")
    assert pub(c, "a") == (1, False)
    c.until(lambda: not pub(c, "a")[1], "the end of the window")
    assert c.describe()["last_seq"] == 2


def test_off(c):
    c.create(dedup="off")
    assert pub(c, "a") == (1, False) and pub(c, "a") == (2, False)
    c.ok("queue", "alter", "q", "--dedup", "1min")
    assert pub(c, "b") == (3, False) and pub(c, "b") == (3, True)
    assert c.describe()["dedup_ms"] == 60000


def test_within_one_command(c):
    c.create()
    said = c.pub("q", ("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), fields="id,body")
    assert said["published"] == 4 and said["duplicates"] == 1
    assert c.bodies("q", 3) == ["1", "2", "4"]


def test_by_topic(c):
    c.create()
    c.ok("bind", "q", "t")
    c.ok("pub", "--topic", "t", "x", "--id", "a")
    c.ok("pub", "--topic", "t", "x", "--id", "a")
    assert c.describe()["messages"] == 1
