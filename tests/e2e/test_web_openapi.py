"""The OpenAPI file: well-formed, and the same as what the broker answers to. That no route is missing in it: tests/routes."""

import json
import os
import re
import urllib.parse

import harness
import pytest
import web

METHODS = ("get", "put", "post", "patch", "delete")
with open(os.path.join(harness.ROOT, "brokerd", "fronts", "rest", "openapi.json"), encoding="utf-8") as f:
    DOCUMENT = json.load(f)


def operations():
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method], item.get("parameters", [])


def resolve(value):
    while "$ref" in value:
        at = DOCUMENT
        assert value["$ref"].startswith("#/"), value
        for part in value["$ref"][2:].split("/"):
            at = at[part.replace("~1", "/").replace("~0", "~")]
        value = at
    return value


def walk(value, path="#"):
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    for key, inner in items:
        yield from walk(inner, f"{path}/{key}")


def test_it_is_served(broker):
    with web.connect(broker) as h:
        answer = h.ok("GET", "/v1/openapi.json")
    assert answer.headers["Content-Type"] == "application/json" and answer.json() == DOCUMENT


def test_the_document():
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert set(DOCUMENT) <= {"openapi", "info", "servers", "tags", "paths", "components"}
    assert DOCUMENT["info"]["title"] and DOCUMENT["info"]["version"]
    with open(os.path.join(harness.ROOT, "libbroker", "include", "broker", "broker.h"), encoding="utf-8") as header:
        assert DOCUMENT["info"]["version"] == re.search(r'BROKER_VERSION_STRING "([^"]+)"', header.read())[1]


def test_references_resolve_and_components_are_used():
    used = set()
    for path, value in walk(DOCUMENT):
        if isinstance(value, dict) and isinstance(value.get("$ref"), str):
            used.add(value["$ref"])
            assert resolve(value), path
    for kind, components in DOCUMENT["components"].items():
        for name in components:
            reference = f"#/components/{kind}/{name}"
            assert any(u == reference or u.startswith(reference + "/") for u in used), f"{reference} is not used"


def test_operations():
    ids, tags = set(), {t["name"] for t in DOCUMENT["tags"]}
    for method, path, operation, shared in operations():
        where = f"{method} {path}"
        assert operation["operationId"] not in ids, where
        ids.add(operation["operationId"])
        assert operation["summary"] and set(operation["tags"]) <= tags, where
        parameters = [resolve(p) for p in shared + operation.get("parameters", [])]
        names = [(p["in"], p["name"]) for p in parameters]
        assert len(names) == len(set(names)), where
        assert {n for place, n in names if place == "path"} == set(re.findall(r"\{(\w+)\}", path)), where
        for p in parameters:
            assert p["schema"] and p["description"], (where, p)
            assert p.get("required", False) or p["in"] != "path", (where, p)
        assert any(code[0] in "12" for code in operation["responses"]), where
        assert "default" in operation["responses"], where
        for code, response in operation["responses"].items():
            said = resolve(response)
            assert said["description"], (where, code)
            if code == "default" or code[0] in "45" and said.get("content"):
                schema = said["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (where, code)
        if "requestBody" in operation:
            assert method != "get" and operation["requestBody"]["content"], where


def test_schemas_are_json_schema():
    jsonschema = pytest.importorskip("jsonschema")
    validator = getattr(jsonschema, "Draft202012Validator", None) or pytest.skip("an old jsonschema")
    for name, schema in DOCUMENT["components"]["schemas"].items():
        validator.check_schema(schema)
        assert schema.get("type") or schema.get("allOf"), name


def probe(path):
    """A path that an operation answers to; what does not exist matters not, for only its methods are asked for."""
    values = {"seq": "1", "receipt": "1", "slug": "queue_full", "file": "x"}
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], "x"), path)


def methods_of(probed):
    """What is documented of a path: of …/messages/batch also what {seq} has, which it could be as well."""
    found = set()
    for path, item in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)), probed):
            found |= {m.upper() for m in METHODS if m in item}
    return found


def test_each_documented_operation_is_there(broker):
    with web.connect(broker) as h:
        for path, item in DOCUMENT["paths"].items():
            answer = h.request("OPTIONS", probe(path))
            assert answer.status in (200, 204), (path, answer)
            allowed = {m.strip() for m in answer.headers["Allow"].split(",")} - {"HEAD", "OPTIONS"}
            assert allowed == methods_of(probe(path)), path


def properties(schema):
    """The names of an object's members, through $ref and allOf."""
    schema = resolve(schema)
    names = set(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        names |= properties(part)
    return names


def schema(name):
    return {"$ref": f"#/components/schemas/{name}"}


def test_what_is_told_is_documented(broker):
    """Queues, groups, filters, scans: the keys of answers are those of the schemas, none more and none less."""
    with web.connect(broker) as h:
        made = h.ok("PUT", "/v1/queues/q", {"max_attempts": 3}).json()
        h.ok("PUT", "/v1/queues/q/groups/g", {"filter": {"topic": "a", "key": "b", "headers": {"c": "d"}}})
        group = h.ok("GET", "/v1/queues/q/groups/g").json()
        scan = h.ok("POST", "/v1/queues/q/scan", {"action": "count"}).json()
        told = h.ok("GET", "/v1/definitions").json()
        imported = h.ok("POST", "/v1/definitions", told).json()
        problem = h.refused(404, "GET", "/v1/queues/nothing")
    assert set(made) == properties(schema("QueueDescription"))
    assert set(made["queue"]) == properties(schema("Queue"))
    assert set(group) == properties(schema("Group"))
    assert set(group["filter"]) == properties(schema("Filter"))
    assert set(scan) == properties(schema("ScanResult"))
    assert set(told) == properties(schema("Definitions"))
    assert set(told["queues"][0]) == properties(schema("QueueDefinition"))
    assert set(told["queues"][0]["settings"]) == properties(schema("QueueSettings"))
    assert set(told["queues"][0]["groups"][1]) == properties(schema("GroupDefinition"))
    assert set(imported) == properties(schema("Imported"))
    assert set(problem) <= properties(schema("Problem")) and set(problem) >= set(resolve(schema("Problem"))["required"])


def minimal(of):
    """A value that a schema allows: the least of its range, the first of its words."""
    of = resolve(of)
    if "enum" in of:
        return of["enum"][0]
    return {"string": "x", "boolean": True, "integer": of.get("minimum", 0), "object": {}}[of["type"]]


def test_what_is_documented_is_understood(broker):
    """Each key of the bodies' schemas, alone: it may not be possible, but it is known."""
    calls = [
        ("PUT", "/v1/queues/new", "QueueSettings"),
        ("PATCH", "/v1/queues/q", "QueueSettings"),
        ("PUT", "/v1/queues/q/groups/new", "GroupCreate"),
        ("PATCH", "/v1/queues/q/groups/default", "GroupSettings"),
        ("POST", "/v1/queues/q/groups/default/seek", "GroupPosition"),
        ("POST", "/v1/queues/q/scan", "Scan"),
        ("POST", "/v1/queues/q/dead/redrive", "Redrive"),
        ("PATCH", "/v1/queues/q/messages/1", "Reschedule"),
    ]
    with web.connect(broker) as h:
        h.ok("PUT", "/v1/queues/q")
        for method, path, name in calls:
            for key, of in resolve(schema(name))["properties"].items():
                answer = h.request(method, path, {key: minimal(of)})
                assert "there is no key" not in answer.body.decode(), (name, key, answer)
            answer = h.request(method, path, {"nothing_of_the_kind": 1})
            assert answer.status == 400 and "there is no key" in answer.body.decode(), (name, answer)


def test_documented_query_parameters_are_known(broker):
    values = {"string": "1s", "boolean": "true", "integer": "1"}
    with web.connect(broker) as h:
        h.ok("PUT", "/v1/queues/x")
        for method, path, operation, shared in operations():
            if path in ("/v1/backup",) or "text/event-stream" in json.dumps(operation["responses"]) or "101" in operation["responses"]:
                continue
            for p in (resolve(p) for p in shared + operation.get("parameters", [])):
                if p["in"] != "query":
                    continue
                value = p.get("schema", {}).get("enum", [values.get(resolve(p["schema"]).get("type"), "x")])[0]
                value = {"wait": "0", "header": "a:b", "from": "1", "from_time": "1", "to_time": "1"}.get(p["name"], value)
                answer = h.request(method.upper(), f"{probe(path)}?{p['name']}={urllib.parse.quote(value)}", b"" if method != "get" else None)
                assert "there is no query parameter" not in answer.body.decode(errors="replace"), (method, path, p["name"], answer)


def test_the_document_for_people_has_every_route():
    with open(os.path.join(harness.ROOT, "docs", "HTTP.md"), encoding="utf-8") as text:
        said = text.read()
    table = set(re.findall(r"^\| `([A-Z]+)` \| `([^`]+)` \|", said[said.index("Every route\n") :], re.M))
    assert table == {(method.upper(), path) for method, path, _, _ in operations()}
