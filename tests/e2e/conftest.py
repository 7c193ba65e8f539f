import os
import re
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

import commands
import harness
import pytest
import web

TEST_SECONDS = 60


@pytest.fixture(autouse=True)
def deadline():
    """No test hangs."""

    def too_late(*_):
        raise TimeoutError(f"the test took more than {TEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def broker():
    """A broker with default settings."""
    with harness.Broker() as b:
        yield b


@pytest.fixture
def http(broker):
    """One keep-alive connection to the broker, whichever the test's file has."""
    with web.connect(broker) as connection:
        yield connection


@pytest.fixture
def queue(http, request):
    """A queue of the test's own, named after it."""
    name = re.sub("[^A-Za-z0-9._-]+", "-", request.node.name)[:200]
    http.ok("PUT", f"/v1/queues/{name}")
    return name


@pytest.fixture
def c(broker):
    """The broker command against a broker with default settings."""
    return commands.Commands(broker)


def pytest_sessionstart(session):
    for program in (harness.BROKERD, harness.BROKER):
        if not os.path.exists(program):
            raise pytest.UsageError(f"{program} is not built; ./dev test builds it, BROKER_BUILD names a build folder")
