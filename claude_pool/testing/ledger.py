"""What the fake `claude` really did, read back from its ledger: the truth that a pool's records are held against.

The lines are described in `claude_pool.testing.fake_session`. A line that is torn or unknown is an error, never
skipped: the ledger is written so that it can't be torn, and a checker that forgives its evidence proves nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_pool.testing.fake_session import LEDGER

VARIABLE: Final = LEDGER
"""The environment variable that names the ledger's file for the fake; pass it with `TaskOptions.env`."""

_WORDS = {"S": 5, "A": 5, "P": 6, "E": 7}


@dataclass(frozen=True, slots=True)
class Execution:
    """One paid turn of one process. Times are CLOCK_BOOTTIME seconds."""

    task: str
    run: str
    pid: int
    start_s: float
    seen_s: float
    """The last sign of life. For a turn that ended this is its end; for one that died, it lived at least until then."""
    ended: bool
    outcome: str | None
    """The fake's word for the result, such as `success`, `api_error_529` or `signal_15`; None when it died."""
    cost_usd: float
    """All that was spent, whether or not there was a result to tell it."""

    def overlaps(self, other: Execution) -> bool:
        """Whether both were certainly alive at the same time."""
        return self.start_s < other.seen_s and other.start_s < self.seen_s


@dataclass(frozen=True, slots=True)
class Ledger:
    """All executions, in the order of their starts."""

    executions: tuple[Execution, ...]

    @property
    def cost_usd(self) -> float:
        return sum(one.cost_usd for one in self.executions)

    @property
    def unended(self) -> tuple[Execution, ...]:
        """Turns that began and never ended: they were killed, or are still alive."""
        return tuple(one for one in self.executions if not one.ended)

    def by_task(self) -> dict[str, tuple[Execution, ...]]:
        """The executions of each task."""
        tasks: defaultdict[str, list[Execution]] = defaultdict(list)
        for one in self.executions:
            tasks[one.task].append(one)
        return {task: tuple(executions) for task, executions in tasks.items()}

    def of(self, task: str) -> tuple[Execution, ...]:
        """The executions of one task."""
        return tuple(one for one in self.executions if one.task == task)

    def task_cost_usd(self, task: str) -> float:
        """What one task really cost."""
        return sum(one.cost_usd for one in self.of(task))

    def overlaps(self) -> list[tuple[Execution, Execution]]:
        """Every pair of executions of one task that were certainly alive at the same time; must be empty."""
        return [
            (first, second)
            for executions in self.by_task().values()
            for index, first in enumerate(executions)
            for second in executions[index + 1 :]
            if first.overlaps(second)
        ]


def read(path: Path) -> Ledger:
    """The ledger at this path; an empty one when nothing was ever run. Raises ValueError on a line that is none."""
    if not path.exists():
        return Ledger(())
    open_turns: dict[tuple[str, str, str], Execution] = {}
    done: list[Execution] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        kind, *words = line.split(" ")
        if len(words) + 1 != _WORDS.get(kind):
            msg = f"{path}:{number}: no ledger line: {line!r}"
            raise ValueError(msg)
        key = (words[0], words[1], words[2])
        if kind == "S":
            if key in open_turns:  # a process that was interrupted without a word began its next turn
                done.append(open_turns[key])
            open_turns[key] = _begun(words)
        elif key in open_turns:
            turn = _carried_on(open_turns.pop(key), kind, words)
            if turn.ended:
                done.append(turn)
            else:
                open_turns[key] = turn
        else:
            msg = f"{path}:{number}: {kind} without S: {line!r}"
            raise ValueError(msg)
    return Ledger(tuple(sorted((*done, *open_turns.values()), key=lambda one: one.start_s)))


def _begun(words: list[str]) -> Execution:
    start_s = float(words[3])
    return Execution(words[0], words[1], int(words[2]), start_s, start_s, ended=False, outcome=None, cost_usd=0.0)


def _carried_on(turn: Execution, kind: str, words: list[str]) -> Execution:
    ended = kind == "E"
    spent = float(words[4]) if kind in "PE" else 0.0
    return Execution(
        turn.task,
        turn.run,
        turn.pid,
        turn.start_s,
        seen_s=float(words[3]),
        ended=ended,
        outcome=words[5] if ended else None,
        cost_usd=spent if ended else turn.cost_usd + spent,
    )
