"""What the broker says of itself: /metrics checked by a parser of its own, statistics, health."""

import re
import time

import harness
import pytest
import web

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? ([^ ]+)\Z')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')


def parse(text, openmetrics=False):
    """{(name, labels): value} of an exposition, which must be a valid one."""
    lines = text.split("\n")
    assert lines.pop() == "", "the last line ends with a newline"
    if openmetrics:
        assert lines.pop() == "# EOF"
    family, kind, helped, types, samples, closed = None, None, set(), {}, {}, set()
    for line in lines:
        if line.startswith("# HELP "):
            name, text = line[7:].split(" ", 1)
            assert NAME.match(name) and name not in helped and text and "\n" not in text
            helped.add(name)
            continue
        if line.startswith("# TYPE "):
            if family:
                closed.add(family)
            family, kind = line[7:].split(" ")
            assert family in helped and family not in types and kind in ("counter", "gauge", "histogram"), line
            types[family] = kind
            continue
        match = SAMPLE.match(line)
        assert match, f"not a sample: {line!r}"
        name, labels, value = match[1], tuple(sorted(LABEL.findall(match[2] or ""))), float(match[3])
        suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",) if openmetrics else ("",), "gauge": ("",)}[kind]
        assert any(name == family + s for s in suffixes), f"{name} stands under {family}"
        if kind == "counter":
            assert name.endswith("_total") and value >= 0
        assert len({n for n, _ in labels}) == len(labels) and (name, labels) not in samples, line
        samples[name, labels] = value
    for name, kind in types.items():
        assert name not in closed or kind
        if kind == "histogram":
            buckets = [(float(dict(l)["le"]), v) for (n, l), v in samples.items() if n == name + "_bucket"]
            assert buckets == sorted(buckets) and buckets[-1][0] == float("inf")
            assert [v for _, v in buckets] == sorted(v for _, v in buckets), "buckets are added up"
            assert samples[name + "_count", ()] == buckets[-1][1]
    return samples


def scrape(http, **headers):
    answer = http.ok("GET", "/metrics", **headers)
    openmetrics = answer.headers["Content-Type"].startswith("application/openmetrics-text")
    return parse(answer.body.decode(), openmetrics)


def test_the_parser_finds_faults():
    good = "# HELP a_total x\n# TYPE a_total counter\na_total 1\n"
    assert parse(good) == {("a_total", ()): 1}
    for bad in (good + "a_total 2\n", good + "b 1\n", good.replace("a_total 1", "a_total{x=1} 1"), good + good, good[:-1], good + "\n"):
        with pytest.raises(AssertionError):
            parse(bad)


def test_the_exposition_is_valid_and_counts(broker):
    with web.connect(broker) as http:
        http.ok("PUT", "/v1/queues/orders")
        http.ok("PUT", "/v1/queues/empty")
        before = scrape(http)
        http.ok("POST", "/v1/queues/orders/messages/batch", [{"body": "x"}] * 5)
        leased = http.ok("POST", "/v1/queues/orders/lease?max=2").json()["messages"]
        http.ok("POST", f"/v1/receipts/{leased[0]['receipt']}/ack")
        after = scrape(http)
        assert set(before) <= set(after)
        for (name, labels), value in before.items():
            if name.endswith(("_total", "_bucket", "_count", "_sum")):
                assert after[name, labels] >= value, f"{name} went backwards"
        orders = (("queue", "orders"),)
        assert after["brokerd_published_messages_total", ()] - before["brokerd_published_messages_total", ()] == 5
        assert after["brokerd_queue_published_messages_total", orders] == 5
        assert after["brokerd_queue_delivered_messages_total", orders] == 2
        assert after["brokerd_queue_acked_messages_total", orders] == 1
        assert after["brokerd_queue_ready_messages", orders] == 3
        assert after["brokerd_queue_leased_messages", orders] == 1
        assert after["brokerd_queue_ready_messages", (("queue", "empty"),)] == 0
        assert after["brokerd_log_sync_duration_seconds_count", ()] > 0
        assert after["brokerd_disk_free_bytes", ()] > 0 and after["process_open_fds", ()] > 5
        assert 0 < time.time() - after["process_start_time_seconds", ()] < 300
        harness.until(lambda: scrape(http)["brokerd_queue_oldest_message_age_seconds", orders] > 0)


def test_openmetrics_for_those_who_ask(broker):
    with web.connect(broker) as http:
        http.ok("PUT", "/v1/queues/orders")
        plain, modern = scrape(http), scrape(http, Accept="application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
        assert set(plain) == set(modern)


def test_labels_are_bounded():
    with harness.Broker(http__statistics_queues="20") as broker, web.connect(broker) as http:
        for i in range(150):
            http.ok("PUT", f"/v1/queues/q{i:03}")
        for i in (3, 100, 149):
            http.ok("POST", f"/v1/queues/q{i:03}/messages", b"x")
        got = scrape(http)
        queues = {dict(labels)["queue"] for (name, labels) in got if name == "brokerd_queue_messages"}
        assert queues == {f"q{i:03}" for i in range(20)} | {"_other"}
        assert got["brokerd_queue_messages", (("queue", "_other"),)] == 2
        assert got["brokerd_queues_without_own_figures", ()] == 130


# ---- JSON and events -----------------------------------------------------------------------------------------------------


def test_statistics_of_the_broker(broker):
    with web.connect(broker) as http, broker.connect():
        http.ok("PUT", "/v1/queues/q")
        http.ok("POST", "/v1/queues/q/messages", b"x")
        with web.events(broker, "/v1/queues/q/events?from=beginning") as s:
            s.next()
            stats = http.ok("GET", "/v1/stats").json()
            assert stats["connections"]["tcp"] == 1 and stats["connections"]["sse"] == 1 and stats["connections"]["http"] == 1
        assert stats["queues"] == 1 and stats["published"] == 1 and stats["log_index"] > 0
        assert stats["sync_p99_us"] >= stats["sync_p50_us"] > 0
        assert stats["rss_bytes"] > 1 << 20 and stats["disk_total_bytes"] >= stats["disk_free_bytes"] > 0


def test_rates_are_seen(broker):
    with web.connect(broker) as http:
        http.ok("PUT", "/v1/queues/q")
        rate = None

        def seen():
            nonlocal rate
            http.ok("POST", "/v1/queues/q/messages/batch", [{"body": "x"}] * 100)
            rate = http.ok("GET", "/v1/stats/queues").json()["queues"][0]["in_rate"]
            return rate and rate > 10 and http.ok("GET", "/v1/stats").json()["publish_rate"] > 10

        harness.until(seen)


def test_pages_of_queues(broker):
    with web.connect(broker) as http:
        for i in range(7):
            http.ok("PUT", f"/v1/queues/q{i}")
        http.ok("PUT", "/v1/queues/other")
        got, after = [], ""
        while True:
            page = http.ok("GET", f"/v1/stats/queues?prefix=q&limit=3&after={after}").json()
            got += [q["name"] for q in page["queues"]]
            if not page["more"]:
                break
            after = got[-1]
        assert got == [f"q{i}" for i in range(7)]
        one = http.ok("GET", "/v1/stats/queues/q3").json()
        assert one["queue"]["name"] == "q3" and one["groups"][0]["lag"] == 0 and one["figures"]["ready"] == 0
        assert http.refused(404, "GET", "/v1/stats/queues/none")["code"] == "QUEUE_NOT_FOUND"
        assert "limit" in http.refused(400, "GET", "/v1/stats/queues?limit=0")["detail"]


def test_the_stream_tells_what_changes():
    with harness.Broker(http__statistics_interval="100ms") as broker, web.connect(broker) as http:
        for name in ("a", "b"):
            http.ok("PUT", f"/v1/queues/{name}")
        with web.events(broker, "/v1/stats/events?queue=a") as s:
            first = s.next().json()
            assert first["full"] and [q["name"] for q in first["queues"]] == ["a", "b"] and first["total"] == 2
            assert s.next().event == "queue"
            http.ok("POST", "/v1/queues/a/messages", b"x")
            known, queue, events = {q["name"]: q for q in first["queues"]}, None, 0
            while not (known["a"]["ready"] == 1 and queue and queue["groups"][0]["lag"] == 1):
                event = s.next()
                events += 1
                if event.event == "queue":
                    queue = event.json()
                    continue
                known.update({q["name"]: q for q in event.json()["queues"]})
                assert not event.json()["full"] and "broker" in event.json()
            http.ok("DELETE", "/v1/queues/b")
            while "b" not in (event := s.next().json()).get("removed", []):
                pass
            assert event["total"] == 1


def test_health_and_version(broker):
    with web.connect(broker) as http:
        assert http.ok("GET", "/healthz").body == b"ok\n" and http.ok("GET", "/readyz").body == b"ready\n"
        version = http.ok("GET", "/v1/version").json()
        assert version["name"] == "brokerd" and version["version"] and version["compiler"] and "events" in version["features"]
