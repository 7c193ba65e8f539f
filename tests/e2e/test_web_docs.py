"""docs/HTTP.md keeps what it promises: each of its examples runs, against a broker of its own, and says what the document shows.

A ```sh block is a bash script with $URL set; curl fails on a status of 400 and above. A ```text block right behind it is what it
prints, where blanks do not count and … stands for anything.
"""

import os
import re
import subprocess

import harness
import pytest

DOCUMENT = os.path.join(harness.ROOT, "docs", "HTTP.md")
BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:\n*```text\n(.*?)^```\n)?", re.M | re.S)
PRELUDE = 'set -euo pipefail; curl() { command curl -sS --fail-with-body --max-time 20 "$@"; };'


def blocks():
    with open(DOCUMENT, encoding="utf-8") as f:
        text = f.read()
    found = []
    for match in BLOCK.finditer(text):
        heading = re.findall(r"^## (.*)$", text[: match.start()], re.M)[-1]
        line = text.count("\n", 0, match.start()) + 1
        found.append(pytest.param(match[1], match[2], id=f"line-{line}-{heading}".replace(" ", "-")))
    return found


def squeeze(text):
    return "".join(text.split())


def as_pattern(shown):
    return ".*".join(re.escape(squeeze(part)) for part in shown.split("…"))


@pytest.mark.parametrize("script,shown", blocks())
def test_example(script, shown, tmp_path):
    with harness.Broker() as broker:
        run = subprocess.run(
            ["bash", "-c", PRELUDE + "\n" + script],
            cwd=tmp_path,
            env={**os.environ, "URL": broker.http},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=45,
            check=False,
        )
    said = run.stdout.decode(errors="replace")
    assert run.returncode == 0, f"{run.returncode}\n---- the example:\n{script}\n---- said:\n{said}\n{run.stderr.decode()}"
    if shown is not None:
        assert re.fullmatch(as_pattern(shown), squeeze(said), re.S), f"\n---- the example:\n{script}\n---- said:\n{said}\n---- not:\n{shown}"


def test_there_are_examples():
    assert len(blocks()) >= 10


@pytest.mark.parametrize("section", ["Publishing", "Leasing and settling", "Queues", "Groups", "Bindings", "Looking and mending", "Definitions", "Backup"])
def test_each_section_has_an_example(section):
    with open(DOCUMENT, encoding="utf-8") as f:
        sections = re.split(r"^## (?:\d+\. )?(.*)$", f.read(), flags=re.M)
    text = dict(zip(sections[1::2], sections[2::2]))[section]
    assert BLOCK.search(text), f"docs/HTTP.md, {section}: no example"
