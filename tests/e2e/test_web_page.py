"""The page in a real browser: Debian's Chromium, driven by playwright-core from node. The tests are tests/web/*.test.js, one broker each."""

import glob
import os
import shutil
import subprocess

import harness
import pytest

HERE = os.path.join(harness.ROOT, "tests", "web")
BUILD = os.path.join(harness.ROOT, "build", "web")
SECONDS = 55  # a file's tests; less than what conftest allows


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
