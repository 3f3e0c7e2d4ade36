"""Waiting in front of a person."""

from __future__ import annotations

import io
import sys
import threading
from typing import Any

import pytest

from claude_pool.cli import live
from claude_pool.pool import Pool


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_wait_for_what_is_done_shows_nothing(pool: Pool, slot: Any, capsys: pytest.CaptureFixture[str]) -> None:
    task_id = pool.submit("Say hello").task_id
    slot.do(task_id)
    assert live.wait(pool, [task_id]).finished[0].id == task_id
    assert capsys.readouterr() == ("", "")


def test_time_may_run_out(pool: Pool, slot: Any) -> None:
    task_id = pool.submit("Say hello").task_id
    waited = live.wait(pool, [task_id], timeout_s=0.01)
    assert (waited.timed_out, waited.running) == (True, (task_id,))


def test_on_a_terminal_one_sees_what_is_waited_for(pool: Pool, slot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(live, "_GLANCE_S", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    task_id = pool.submit("Say hello").task_id
    run_id = slot.start(task_id)
    slot.say(task_id, run_id, "Looking \x1b[2Jaround")

    def finish_when_seen() -> None:
        while "around" not in terminal.getvalue():
            threading.Event().wait(0.01)
        slot.finish(task_id, run_id)

    thread = threading.Thread(target=finish_when_seen, daemon=True)
    thread.start()
    waited = live.wait(pool, [task_id], timeout_s=20)
    thread.join(20)
    assert not waited.timed_out
    assert f"{task_id}  running" in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()


def test_the_latest_line_of_a_run_is_its_progress(pool: Pool, slot: Any) -> None:
    task_id = pool.submit("Say hello").task_id
    latest = live.Latest(pool)
    assert latest.of(pool.get(task_id)).progress == ""
    run_id = slot.start(task_id)
    slot.say(task_id, run_id, "first")
    slot.say(task_id, run_id, "a long file", kind="tool_result")
    assert latest.of(pool.get(task_id)).progress == "first"
    assert latest.of(pool.get(task_id)).progress == "first"
    slot.say(task_id, run_id, "second")
    assert latest.of(pool.get(task_id)).progress == "second"


def test_leaving_a_wait_tells_how_to_stop_the_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert live.goes_on(["t-1", "t-2"]) == 130
    assert "2 tasks go on. To stop: claude-pool cancel t-1 t-2" in capsys.readouterr().err
    live.goes_on([f"t-{number}" for number in range(9)])
    assert "cancel ID …" in capsys.readouterr().err
