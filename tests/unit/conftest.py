"""Unit tests need no server and start no process: whoever tries is told, and its test fails.

Hypothesis tries a few examples each time; HYPOTHESIS_PROFILE=thorough tries many.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

WALLED = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "socket.bind"}
EXEMPT = {"test_house.py": "git tells it which files are ours"}

_running: list[str] = []
_caught: list[str] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _running and event in WALLED:
        _caught.append(f"{event}{arguments[:2]}")
        raise AssertionError(f"unit tests need no server and start no process; move this one: {_caught[-1]}")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def _walled(request: pytest.FixtureRequest) -> Iterator[None]:
    """A refusal that the code under test swallowed is told all the same."""
    if request.path.name in EXEMPT:
        yield
        return
    _caught.clear()
    _running.append(request.node.nodeid)
    try:
        yield
    finally:
        _running.clear()
    assert _caught == []
