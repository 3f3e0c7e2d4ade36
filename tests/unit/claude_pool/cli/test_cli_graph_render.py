"""Bars, tables and answers of chains and fan-outs."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pool.chain_files import Found
from claude_pool.cli.graph_render import (
    WIDTH,
    answers,
    bar,
    chosen,
    doing,
    head,
    named_lines,
    picture,
    table,
    took,
)
from claude_pool.models.chain import ChainProgress, StepProgress
from claude_pool.models.fanout import BranchProgress, BranchResult, FanOutProgress
from claude_pool.models.task import ErrorCode, TaskError, TaskState

RUNNING = TaskState.RUNNING


def row(name: str = "a", state: str = "running", **more: Any) -> StepProgress:
    return StepProgress(name=name, id=f"t-{name}", state=state, **more)


def chain(*rows: StepProgress, current: int | None = None) -> ChainProgress:
    return ChainProgress(chain_id="c-1", state=RUNNING, total_steps=len(rows), steps=rows, current_step=current)


@pytest.mark.parametrize(
    ("one", "full"),
    [
        (row(state="completed"), WIDTH),
        (row(state="failed"), WIDTH),
        (row(state="skipped"), 0),
        (row(state="blocked"), 0),
        (row(state="parked", started_ms=1), WIDTH // 2),
        (row(state="running", fan_out=True, progress="3 of 4", started_ms=1), WIDTH * 3 // 4),
        (row(state="running", fan_out=True, progress="gathering", started_ms=None), 0),
    ],
)
def test_a_bar_is_as_full_as_is_known(one: StepProgress, full: int) -> None:
    assert bar(one, now_ms=0).count("━") == full
    assert len(bar(one, now_ms=0)) == WIDTH


def test_a_bar_of_work_moves_and_says_nothing_of_how_far_it_is() -> None:
    seen = {bar(row(started_ms=1), now_ms=at * 150) for at in range(WIDTH)}
    assert len(seen) > WIDTH // 2
    assert all(one.count("━") <= 5 for one in seen)


def test_the_head_counts_what_has_ended() -> None:
    progress = chain(row("a", "completed"), row("b", "skipped"), row("c"))
    assert "c-1  running  2 of 3 steps  $0.0000" in head(progress, now_ms=10)
    fan = FanOutProgress(fan_out_id="f-1", state=RUNNING, total=1, ended=1, failed=1, gathering=True, budget_usd=2)
    assert "1 of 1 branch, 1 failed, gathering  $0.0000 of $2.0000" in head(fan, now_ms=10)


def test_of_many_rows_those_at_work_are_shown_and_the_rest_is_counted() -> None:
    rows = [BranchProgress(name=str(at), id=str(at), state="completed" if at < 40 else "pending") for at in range(99)]
    rows[50] = BranchProgress(name="50", id="50", state="running")
    fan = FanOutProgress(fan_out_id="f-1", state=RUNNING, total=99, branches=tuple(rows))
    shown, rest = chosen(fan, 5)
    assert shown[0].name == "50"
    assert rest == "… and 40 completed, 54 pending"
    around, _ = chosen(chain(*(row(str(at), "blocked") for at in range(50)), current=30), 6)
    assert "30" in [one.name for one in around]
    assert len(around) == 6


def test_a_picture_has_no_words_of_a_model_that_a_terminal_obeys() -> None:
    text = picture(chain(row("a\x1b[2J", progress="\x1b]0;x\x07busy", started_ms=1)), now_ms=5).plain
    assert "\x1b" not in text
    assert "busy" in text


def test_a_row_says_what_it_does_or_why_it_failed() -> None:
    error = TaskError(code=ErrorCode.GATE_FAILED, message="ended with 7")
    assert doing(row(retries=2, progress="reads")) == "retry 2: reads"
    assert doing(row(state="failed", error=error)) == "gate_failed: ended with 7"
    assert doing(row(state="skipped", error=error)) == ""
    assert took(row(started_ms=1_000, ended_ms=3_000), now_ms=9_000) == "2.0 s"
    assert took(row(state="blocked"), now_ms=9_000) == ""
    assert "gate_failed" in table(chain(row(state="failed", error=error)), now_ms=0).plain()


def test_answers_stand_under_their_labels_with_what_went_wrong() -> None:
    error = TaskError(code=ErrorCode.EXECUTION, message="broke")
    text = answers([BranchResult(label="a", id="t", state="completed", output="fine"),
                    BranchResult(label="b", id="t", state="failed", error=error)])  # fmt: skip
    assert text.startswith("== a: completed\nfine\n\n== b: failed\n")
    assert "execution: broke" in text


def test_a_chain_that_can_not_be_used_says_why() -> None:
    assert "can't be used: no steps" in "\n".join(named_lines(Found(name="x", path="x.toml", trouble="no steps")))
