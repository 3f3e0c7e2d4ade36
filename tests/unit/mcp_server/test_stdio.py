"""Leaving: what was written is out, and a client that is gone does not hold it up. The rest needs a real process."""

from __future__ import annotations

import io
import os
import sys

import pytest

from mcp_server.stdio import leave


class Left(Exception):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def _exit(monkeypatch: pytest.MonkeyPatch) -> None:
    def left(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(os, "_exit", left)


def test_what_was_written_is_out_before_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(raw), write_through=False))
    sys.stderr.write("last words")
    with pytest.raises(Left) as caught:
        leave(143)
    assert caught.value.args == (143,)
    assert raw.getvalue() == b"last words"


def test_a_client_that_is_gone_does_not_hold_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(Left):
        leave(0)
