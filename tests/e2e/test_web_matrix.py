"""All ways meet: what is published by any way is consumed by every other, body, headers and all."""

import base64
import json

import msgpack
import pytest

import harness
import protocol
import web

BODIES = {"text": "grüße, \"quoted\" \\ \u2028 and\nlines".encode(), "binary": bytes(range(256)), "empty": b""}
HEADERS = {"tenant": "acme", "note": "100% grün; a=b, \"c\"", "empty": ""}
KEY, TOPIC, PRIORITY = "customer/7 é", "orders.eu.created", 7
QUEUE = "all"


def expected(way, kind):
    """What must come out, the same for everybody."""
    return {"body": BODIES[kind], "key": KEY, "id": f"{way}-{kind}", "topic": TOPIC, "priority": PRIORITY, "headers": HEADERS}


# ---- publishing ----------------------------------------------------------------------------------------------------------


def object_of(way, kind, binary=False):
    """The message as an object of JSON, or of msgpack with bytes in it."""
    made = expected(way, kind)
    body = made.pop("body")
    made = {"key": made["key"], "id": made["id"], "topic": made["topic"], "priority": made["priority"], "headers": made["headers"]}
    if binary:
        return {**made, "body": body}
    return {**made, "body_base64": base64.b64encode(body).decode()}


def fields_of(way, kind):
    """The message's fields as HTTP carries them: percent-encoded where need be."""
    fields = {"Broker-Key": web.quote(KEY), "Broker-Topic": TOPIC, "Broker-Priority": str(PRIORITY), "Idempotency-Key": f"{way}-{kind}"}
    fields.update({f"Broker-Header-{name}": web.quote(value) for name, value in HEADERS.items()})
    return fields


def record_of(way, kind, **more):
    m = expected(way, kind)
    return protocol.message(m["body"], m["key"].encode(), m["headers"], ident=m["id"].encode(), priority=PRIORITY, topic=TOPIC, **more)


def publish_tcp(broker, way):
    with broker.connect() as tcp:
        tcp.publish_ok(QUEUE, *[record_of(way, kind) for kind in BODIES])


def publish_command(broker, way):
    for kind, body in BODIES.items():
        words = ["pub", QUEUE, "--whole", "-k", KEY, "--id", f"{way}-{kind}", "--topic", TOPIC, "--priority", str(PRIORITY)]
        for name, value in HEADERS.items():
            words += ["-H", f"{name}:{value}"]
        done = broker.cli(*words, stdin=body)
        assert done.returncode == 0, done.stderr


def publish_raw(broker, way):
    with web.connect(broker) as http:
        for kind, body in BODIES.items():
            http.ok("POST", f"/v1/queues/{QUEUE}/messages", body, **fields_of(way, kind))


def publish_batch(broker, way, kind_of_batch):
    with web.connect(broker) as http:
        if kind_of_batch == "json":
            body, content = json.dumps([object_of(way, kind) for kind in BODIES]).encode(), "application/json"
        elif kind_of_batch == "ndjson":
            body, content = b"".join(json.dumps(object_of(way, k)).encode() + b"\n" for k in BODIES), "application/x-ndjson"
        else:
            body, content = msgpack.packb([object_of(way, kind, True) for kind in BODIES]), "application/msgpack"
        results = http.ok("POST", f"/v1/queues/{QUEUE}/messages/batch", body, Content_Type=content).json()["results"]
        assert all("seq" in r for r in results) and len(results) == len(BODIES), results


def publish_topic(broker, way):
    with web.connect(broker) as http:
        http.ok("PUT", f"/v1/queues/{QUEUE}/bindings/orders.*.created")
        for kind, body in BODIES.items():
            fields = fields_of(way, kind)
            del fields["Broker-Topic"]
            http.ok("POST", f"/v1/topics/{TOPIC}/messages", body, **fields)


def publish_transaction(broker, way):
    with web.connect(broker) as http:
        http.ok("POST", "/v1/transactions", {"publish": [{"queue": QUEUE, **object_of(way, kind)} for kind in BODIES]})


def publish_websocket(broker, way, flavour):
    with web.websocket(broker, f"brokerd.v1.{flavour}") as ws:
        for kind in BODIES:
            ws.ok("publish", queue=QUEUE, message=object_of(way, kind, flavour == "msgpack"))


PUBLISHERS = {
    "tcp": publish_tcp,
    "command": publish_command,
    "http": publish_raw,
    "json": lambda b, w: publish_batch(b, w, "json"),
    "ndjson": lambda b, w: publish_batch(b, w, "ndjson"),
    "msgpack": lambda b, w: publish_batch(b, w, "msgpack"),
    "topic": publish_topic,
    "transaction": publish_transaction,
    "ws-json": lambda b, w: publish_websocket(b, w, "json"),
    "ws-msgpack": lambda b, w: publish_websocket(b, w, "msgpack"),
}

# ---- consuming -----------------------------------------------------------------------------------------------------------


def as_bytes(value):
    return value.encode() if isinstance(value, str) else value


def from_object(m):
    body = base64.b64decode(m["body_base64"]) if "body_base64" in m else as_bytes(m["body"])
    return {name: m.get(name) for name in ("key", "id", "topic", "priority", "headers")} | {"body": body}


def from_fields(headers, body):
    """A message whose metadata came as HTTP fields."""
    unquote = web.urllib.parse.unquote
    found = {k.lower()[len("broker-header-") :]: unquote(v) for k, v in headers.items() if k.lower().startswith("broker-header-")}
    return {
        "body": body,
        "key": unquote(headers["Broker-Key"]),
        "id": unquote(headers["Broker-Id"]),
        "topic": headers["Broker-Topic"],
        "priority": int(headers["Broker-Priority"]),
        "headers": found,
    }


def consume_tcp(broker, group, count):
    with broker.connect() as tcp:
        stream = tcp.subscribe(QUEUE, group=group, credit=count)
        return [
            {"body": m.body, "key": m.key.decode(), "id": m.message_id.decode(), "topic": m.topic, "priority": m.priority, "headers": m.headers}
            for m in tcp.receive(stream, count)
        ]


def consume_command(broker, group, count):
    done = broker.cli("sub", QUEUE, "-g", group, "-n", str(count), "--format", "json", "--timeout", "30s")
    assert done.returncode == 0, done.stderr
    return [from_object(json.loads(line)) for line in done.stdout.splitlines()]


def consume_lease(broker, group, count, accept):
    got = []
    with web.connect(broker) as http:
        while len(got) < count:
            answer = http.ok("POST", f"/v1/queues/{QUEUE}/lease?group={group}&max=7&wait=10s", Accept=accept)
            if accept == "application/x-ndjson":
                messages = [json.loads(line) for line in answer.body.splitlines()]
            elif accept == "application/msgpack":
                messages = msgpack.unpackb(answer.body)["messages"]
            else:
                messages = answer.json()["messages"]
            assert messages, "nothing came in time"
            http.ok("POST", "/v1/ack", {"receipts": [str(m["receipt"]) for m in messages]})
            got += [from_object(m) for m in messages]
    return got


def consume_raw(broker, group, count):
    got = []
    with web.connect(broker) as http:
        for _ in range(count):
            answer = http.ok("POST", f"/v1/queues/{QUEUE}/lease?group={group}&wait=10s", Accept="application/octet-stream")
            assert answer.status == 200, answer
            http.ok("POST", f"/v1/receipts/{answer.headers['Broker-Receipt']}/ack")
            got.append(from_fields(answer.headers, answer.body))
    return got


def consume_polling(broker, group, count):
    got, at = [], 1
    with web.connect(broker) as http:
        while len(got) < count:
            answer = http.ok("GET", f"/v1/queues/{QUEUE}/messages?from={at}&max=10&wait=10s").json()
            assert answer["messages"], "nothing came in time"
            got += [from_object(m) for m in answer["messages"]]
            at = answer["next"]
    return got


def consume_one_by_one(broker, group, count):
    with web.connect(broker) as http:
        answers = [http.ok("GET", f"/v1/queues/{QUEUE}/messages/{seq}") for seq in range(1, count + 1)]
        return [from_fields(a.headers, a.body) for a in answers]


def consume_events(broker, group, count):
    with web.events(broker, f"/v1/queues/{QUEUE}/events?from=beginning") as stream:
        return [from_object(stream.next().json()) for _ in range(count)]


def consume_event_group(broker, group, count):
    with web.connect(broker) as http, web.events(broker, f"/v1/queues/{QUEUE}/events?group={group}") as stream:
        got = []
        for _ in range(count):
            m = stream.next().json()
            assert http.ok("POST", f"/v1/receipts/{m['receipt']}/ack").status == 204
            got.append(from_object(m))
        return got


def consume_websocket(broker, group, count, flavour):
    with web.websocket(broker, f"brokerd.v1.{flavour}") as ws:
        where = {"group": group} if group else {"from": "beginning"}
        ws.ok("subscribe", sub=3, queue=QUEUE, credit=count, **where)
        got = [ws.next(op="message", sub=3) for _ in range(count)]
        if group:
            ws.ok("ack", receipts=[m["receipt"] for m in got])
        return [from_object(m) for m in got]


CONSUMERS = {
    "tcp": consume_tcp,
    "command": consume_command,
    "lease-json": lambda b, g, n: consume_lease(b, g, n, "application/json"),
    "lease-ndjson": lambda b, g, n: consume_lease(b, g, n, "application/x-ndjson"),
    "lease-msgpack": lambda b, g, n: consume_lease(b, g, n, "application/msgpack"),
    "lease-raw": consume_raw,
    "events-group": consume_event_group,
    "ws-json": lambda b, g, n: consume_websocket(b, g, n, "json"),
    "ws-msgpack": lambda b, g, n: consume_websocket(b, g, n, "msgpack"),
    "polling": consume_polling,
    "one-by-one": consume_one_by_one,
    "events": consume_events,
    "ws-position": lambda b, g, n: consume_websocket(b, None, n, "json"),
}


@pytest.fixture(scope="module")
def published():
    """Every way has published into one log, which keeps it for all."""
    with harness.Broker() as broker:
        with web.connect(broker) as http:
            http.ok("PUT", f"/v1/queues/{QUEUE}", {"retention": "log", "ordered_keys": False})
            for name in CONSUMERS:
                http.ok("PUT", f"/v1/queues/{QUEUE}/groups/{name}")
        for name, publish in PUBLISHERS.items():
            publish(broker, name)
        yield broker


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_whatever_is_published_is_consumed(published, consumer):
    wanted = {f"{way}-{kind}": expected(way, kind) for way in PUBLISHERS for kind in BODIES}
    got = CONSUMERS[consumer](published, consumer, len(wanted))
    assert sorted(m["id"] for m in got) == sorted(wanted)
    for m in got:
        m["headers"] = {name: value for name, value in m["headers"].items() if name != "content-type"}  # HTTP's own
        assert m == wanted[m["id"]], consumer
