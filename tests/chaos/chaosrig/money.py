"""The checker's bookkeeper: what was executed and paid, held against what the records and the ledger say."""

from __future__ import annotations

from collections.abc import Iterator

from chaosrig.history import History
from claude_pool.models.base import to_micros
from claude_pool.models.task import TaskDetail
from claude_pool.testing.ledger import Execution

Found = Iterator[tuple[str, str, str]]

_UNTOLD = ("exit_", "signal_", "misused", "died")
"""Ledger outcomes of runs that ended without a result."""
_UNHEARD = ("lost", "crashed", "no_result")
"""What the pool says of runs whose last word it did not hear; the ledger's last line may be just before that word."""


def check_money(history: History, by_task: dict[str, list[Execution]]) -> Found:
    """Everything about money, from single runs up to the pool."""
    for sample in history.samples:
        if sample.limit is not None and sample.reserved + sample.spent > sample.limit:
            yield "money", "pool", f"{sample.reserved} reserved + {sample.spent} spent > limit {sample.limit}"
        if sample.reserved < 0:
            yield "money", "pool", f"{sample.reserved} reserved"
    if history.end.reserved:
        yield "money", "pool", f"{history.end.reserved} still reserved at the end"
    total = sum(to_micros(detail.task.cost_usd) for detail in history.tasks.values())
    if history.end.spent != total:
        yield "money", "pool", f"spent {history.end.spent}, its tasks cost {total}"
    for task_id, detail in history.tasks.items():
        yield from _task(task_id, detail)
        yield from _runs(task_id, detail, by_task.get(task_id, []))


def _task(task_id: str, detail: TaskDetail) -> Found:
    task, runs = detail.task, detail.runs
    settled = sum(to_micros(run.cost_usd) for run in runs)
    if to_micros(task.cost_usd) != settled:
        yield "money", task_id, f"it cost {to_micros(task.cost_usd)}, its runs {settled}"
    if task.reserved_usd:
        yield "money", task_id, f"{task.reserved_usd} still reserved"
    if len({run.run_id for run in runs}) != len(runs) or [run.number for run in runs] != sorted(
        {run.number for run in runs}
    ):
        yield "money", task_id, "a run is in its history twice"
    if task.counters.runs != (runs[-1].number if runs else 0):
        yield "money", task_id, f"{task.counters.runs} runs were claimed, the last settled one is {runs[-1:]}"
    if detail.result is not None and to_micros(detail.result.cost_usd) != settled:
        yield "money", task_id, f"its result says {detail.result.cost_usd}, its runs {settled}"


def _runs(task_id: str, detail: TaskDetail, executions: list[Execution]) -> Found:
    """Exact where the program told its cost; an estimate, and marked as one, where it died or nobody heard it."""
    by_run = {one.run: one for one in executions}
    for run in detail.runs:
        one = by_run.get(run.run_id)
        if one is None:
            if run.cost_usd and not (run.started_ms and run.cost_estimated):
                yield "money", task_id, f"run {run.run_id} cost {run.cost_usd}, and was never executed"
        elif told(one) and run.outcome not in _UNHEARD:
            if run.cost_estimated:
                yield "money", task_id, f"run {run.run_id} told its cost, and is marked as an estimate"
            if to_micros(run.cost_usd) != to_micros(one.cost_usd):
                yield "money", task_id, f"run {run.run_id} cost {one.cost_usd:.6f}, settled were {run.cost_usd:.6f}"
        elif not run.cost_estimated and to_micros(run.cost_usd) != to_micros(one.cost_usd):
            # it may have told its result and died before its last ledger line: then the figure is right
            yield "money", task_id, f"run {run.run_id} died untold, and {run.cost_usd} were settled as if told"


def told(one: Execution) -> bool:
    """The program ended with a result, which says what it cost."""
    return one.ended and not str(one.outcome).startswith(_UNTOLD)
