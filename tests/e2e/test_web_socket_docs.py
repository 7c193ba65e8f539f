"""docs/WEBSOCKET.md: its examples are what the broker says, and its tables are complete."""

import json
import os
import re

import web
from harness import ROOT

with open(os.path.join(ROOT, "docs", "WEBSOCKET.md"), encoding="utf-8") as f:
    TEXT = f.read()


def agrees(said, got):
    if said == "…":
        return True
    if isinstance(said, dict) and isinstance(got, dict):
        return said.keys() <= got.keys() and all(agrees(v, got[k]) for k, v in said.items()) and (
            got.keys() - said.keys() <= {"retry_ms"})
    return said == got


def test_the_examples(broker):
    lines = [line for block in re.findall(r"```ws\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
    assert len(lines) > 20
    receipt = None
    with web.websocket(broker) as ws:
        for line in lines:
            arrow, text = line.split(" ", 1)
            if arrow == "->":
                ws.send(json.loads(text.replace("$receipt", receipt or "")))
                continue
            said = json.loads(text)
            fields = {k: said[k] for k in ("op", "id", "sub") if k in said}
            got = ws.next(**fields)
            assert agrees(said, got), (line, got)
            receipt = got.get("receipt", receipt)


def test_every_op_and_request_is_told():
    folder = os.path.join(ROOT, "brokerd", "fronts")
    with open(os.path.join(folder, "websocket", "session.c"), encoding="utf-8") as f:
        ops = re.findall(r'^    \{"(\w+)", (?:ws_)?op_', f.read(), re.M)
    with open(os.path.join(folder, "control", "control.h"), encoding="utf-8") as f:
        kinds = re.findall(r"^    CONTROL_(\w+),", f.read(), re.M)
    assert len(ops) == 11 and len(kinds) > 20
    for name in ops + [k.lower() for k in kinds if k != "KINDS"]:
        assert f"`{name}`" in TEXT, name
