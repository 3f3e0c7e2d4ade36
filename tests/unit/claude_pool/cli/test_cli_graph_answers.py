"""Waiting for chains and fan-outs in front of a person, and what is given afterwards."""

from __future__ import annotations

import io
import sys
import threading
from typing import Any

import pytest

from claude_pool.cli import graph_answers, live, output
from claude_pool.pool import Pool


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def interrupted(*_given: Any, **_named: Any) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_the_waiting_and_not_the_chain(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chain_id = pool.submit_chain([{"name": "a", "prompt": "x"}]).chain_id
    monkeypatch.setattr(live, "wait", interrupted)
    assert graph_answers.follow(pool, chain_id, wait_s=None, as_json=True) == output.INTERRUPTED
    told = capsys.readouterr()
    assert f"1 chain goes on. To stop: claude-pool cancel {chain_id}" in told.err
    assert f'"chain_id": "{chain_id}"' in told.out
    assert not pool.get(chain_id).settled


def test_on_a_terminal_one_sees_a_bar_for_each_step(
    pool: Pool, slot: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(live, "_GLANCE_S", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    chain = pool.submit_chain([{"name": "look", "prompt": "x"}, {"name": "tell", "prompt": "y"}])
    run_id = slot.start(chain.step_ids[0])

    def finish_when_seen() -> None:
        while "━━━━━" not in terminal.getvalue():
            threading.Event().wait(0.01)
        slot.finish(chain.step_ids[0], run_id)
        slot.do(chain.step_ids[1], output="told")

    thread = threading.Thread(target=finish_when_seen, daemon=True)
    thread.start()
    code = graph_answers.follow(pool, chain.chain_id, wait_s=30, as_json=False)
    thread.join(30)
    assert code == 0
    assert capsys.readouterr().out == "told\n"
    assert "tell" in terminal.getvalue()
    assert "2 of 2 steps" in terminal.getvalue()
