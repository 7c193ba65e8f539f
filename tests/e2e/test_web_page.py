"""The page in a real browser: Debian's Chromium, driven by playwright-core from node. The tests are tests/web/*.test.js, one broker each."""

import glob
import os
import re
import shutil
import signal
import subprocess

import harness
import pytest

HERE = os.path.join(harness.ROOT, "tests", "web")
BUILD = os.path.join(harness.ROOT, "build", "web")
SECONDS = 240  # all tests of a file, each of which has its own deadlines


@pytest.fixture(autouse=True)
def deadline():
    """Longer than conftest's: a browser's start alone takes seconds on a busy machine."""

    def too_late(*_):
        raise TimeoutError(f"the tests of a file took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(SECONDS + 10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """The browser's path, playwright-core being installed; two workers do not install at the same time."""
    for program in ("node", "npm"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed: apt install nodejs npm")
    if not chromium():
        pytest.skip("chromium is not installed: apt install chromium")
    os.makedirs(BUILD, exist_ok=True)
    subprocess.run(["flock", os.path.join(BUILD, "lock"), os.path.join(HERE, "install.sh"), BUILD], check=True, timeout=50)
    return chromium()


def run(broker, browser, *files):
    environment = {**os.environ, "BROKER_HTTP": broker.http, "PAGE_BUILD": BUILD, "CHROMIUM": browser}
    for inherited in ("LD_PRELOAD", "NODE_OPTIONS"):
        environment.pop(inherited, None)
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", *files],
        env=environment,
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        preexec_fn=harness.die_with_parent,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("name", sorted(os.path.basename(f) for f in glob.glob(os.path.join(HERE, "*.test.js"))))
def test_page(broker, browser, name):
    said = run(broker, browser, os.path.join(HERE, name))
    assert "pass 0" not in said, "no test has run"


def test_no_way_from_data_to_markup():
    """What a message holds gets into the page as text only, and nothing there needs what the policy forbids."""
    folder = os.path.join(harness.ROOT, "brokerd", "console", "page")
    forbidden = {
        ".js": r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\(|new Function|style=|https?://(?!www\.w3\.org/2000/svg)",
        ".html": r"<style|style=|\son\w+=|javascript:|https?://|<script(?![^>]*src=)",
        ".css": r"@import|url\(|https?://",
        ".svg": r"<script|style=|\son\w+=|href=",
    }
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            found = re.findall(forbidden[os.path.splitext(name)[1]], f.read())
        assert not found, (name, found)
