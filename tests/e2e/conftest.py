import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

import harness
import pytest


@pytest.fixture
def broker():
    """A broker with default settings."""
    with harness.Broker() as b:
        yield b


def pytest_sessionstart(session):
    for program in (harness.BROKERD, harness.BROKER):
        if not os.path.exists(program):
            raise pytest.UsageError(f"{program} is not built; ./dev test builds it, BROKER_BUILD names a build folder")
