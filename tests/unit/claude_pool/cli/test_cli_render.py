"""Records to lines: readable, clean, and never markup."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from claude_pool.cli import render
from claude_pool.models.events import LogEntry
from claude_pool.models.options import TaskOptions
from claude_pool.models.pool import DrainSummary, Finding, PoolStatus, Slot, SlotState
from claude_pool.models.task import ErrorCode, ParkedFor, Task, TaskError, TaskResult, TaskState

EVIL = "\x1b[2J\x1b]0;pwned\x07[red]bold[/red]\r\x9b31m"


def task(**changes: object) -> Task:
    given = Task(
        id="t-0000000001", state=TaskState.RUNNING, title="Say hello", options=TaskOptions(), created_ms=0, since_ms=0,
        queue="tasks",
    )  # fmt: skip
    return given.evolve(**changes)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(-5, "0 ms"), (340, "340 ms"), (4_210, "4.2 s"), (185_000, "3 min 05 s"), (7_800_000, "2 h 10 min"),
     (273_600_000, "3 d 4 h")],
)  # fmt: skip
def test_durations_read_well(ms: float, text: str) -> None:
    assert render.span(ms) == text


def test_no_control_character_of_a_model_reaches_a_person() -> None:
    evil = task(title=EVIL, progress=EVIL)
    entry = LogEntry(run_id="r", kind="text", text=f"one{EVIL}\ntwo{EVIL}", tool=EVIL)
    error = TaskError(code=ErrorCode.EXECUTION, message=EVIL, hint=EVIL, detail=EVIL)
    status = PoolStatus(pool="p", notes=(EVIL,))
    slot = Slot(slot_id="slot-0@a", node="a", number=0, state=SlotState.BUSY, task_id=evil.id)
    shown = [
        render.task_table([evil], now_ms=1).plain(),
        render.task_line(evil, now_ms=1),
        *render.log_lines(entry),
        *render.error_lines(error),
        *render.summary(TaskResult(task_id="t", state=TaskState.FAILED, model=EVIL, mcp_failed=(EVIL,))),
        render.slot_table([slot], {evil.id: evil}, now_ms=1).plain(),
        *(part for part in render.status_screen(status, [], [], {}, now_ms=1) if isinstance(part, str)),
    ]
    assert [text for text in shown if set(text) & set("\x1b\x07\r\x9b")] == []
    assert all("[red]bold[/red]" in text for text in (shown[0], shown[1], shown[2]))


def test_markup_of_a_model_is_shown_as_it_is_on_a_terminal() -> None:
    stream = io.StringIO()
    table = render.task_table([task(title="[bold]x[/bold] [link=http://x]y[/link]")], now_ms=1)
    Console(file=stream, width=200, force_terminal=True).print(table.rich())
    assert "[bold]x[/bold] [link=http://x]y[/link]" in stream.getvalue()


def test_a_plain_table_is_aligned_and_never_cut() -> None:
    table = render.Table(("A", "N"), (("x" * 300, "1"), ("y", "22")), frozenset({"N"}))
    lines = table.plain().splitlines()
    assert lines[1] == "x" * 300 + "   1"
    assert {len(line) for line in lines} == {304}


def test_a_state_says_what_it_waits_for() -> None:
    parked = task(state=TaskState.PARKED, parked_for=ParkedFor.RETRY, until_ms=1_700_000_000_000)
    assert render.state_word(parked).startswith("parked: retry until ")
    assert render.state_word(task(state=TaskState.PARKED, parked_for=ParkedFor.HOLD)) == "parked: hold"
    assert render.state_word(task(cancel_requested="enough")) == "running, being stopped"


def test_further_lines_of_a_log_entry_stand_under_the_first() -> None:
    first, second = render.log_lines(LogEntry(run_id="r", kind="tool", text="a\nb", tool="Bash"))
    assert first.endswith("→ Bash a")
    assert second == " " * (len(first) - len("Bash a")) + "b"


def test_a_simulated_result_says_so() -> None:
    lines = render.summary(TaskResult(task_id="t", state=TaskState.COMPLETED, simulated=True))
    assert "simulated model" in lines[-1]
    screen = render.status_screen(PoolStatus(pool="p", simulated=True), [], [], {}, now_ms=1)
    assert render.SIMULATED in screen


def test_a_drain_tells_what_goes_on_later() -> None:
    lines = render.drain_lines(DrainSummary(checkpointed=("t-1",), slots_left=1))
    assert "t-1" in lines[1]
    assert lines[2] == "1 slot did not leave in time."


def test_the_doctor_says_what_to_do_only_where_something_is_wrong() -> None:
    fine = render.finding_table([Finding(name="git", health="ok", detail="2.4", hint="nothing")])
    assert len(fine) == 1
    ill = render.finding_table([Finding(name="git", health="error", detail="none", hint="Install git.")])
    assert ill[-1] == "  git: Install git."


def test_evidence_that_repeats_the_message_is_left_out() -> None:
    error = TaskError(code=ErrorCode.EXECUTION, message="it broke", detail="it broke\nat line 3")
    assert render.error_lines(error) == ["  execution: it broke", "  | at line 3"]


def test_on_a_narrow_terminal_only_the_last_column_is_cut() -> None:
    table = render.Table(("ID", "STATE", "TITLE"), (("t-0123456789", "completed", "long " * 40),))
    screen = Console(width=50, file=io.StringIO(), force_terminal=False)
    screen.print(table.rich())
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "t-0123456789" in shown
    assert "completed" in shown
    assert "…" in shown
