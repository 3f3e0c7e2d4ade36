"""What was observed in one run of chaos, from four witnesses that know nothing of each other.

The clients (what was promised to them), the store's stream of events (what it says it did), the ledger of the fake
`claude` (what was really executed and paid), and the records at the end. Times are seconds of the wall clock of the one
host that everything ran on; money is whole micro-dollars.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from claude_pool.models.events import TaskEvent
from claude_pool.models.graph import Whole
from claude_pool.models.task import Task, TaskDetail
from claude_pool.testing.ledger import Execution


@dataclass(frozen=True, slots=True)
class Submission:
    """One submit, as its client saw it. `unknown`: no answer came, so it may or may not have been carried out."""

    key: str
    outcome: Literal["ok", "refused", "unknown"]
    task_id: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One result that a slot told the store, and whose result the store took it for."""

    task_id: str
    run_id: str
    taken_as: str | None
    """The run that the task had when the store answered; None when it refused."""


@dataclass(frozen=True, slots=True)
class Money:
    """A scope's ledger at one moment."""

    limit: int | None
    reserved: int
    spent: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to the pool."""

    at_s: float
    kind: str
    target: str = ""


@dataclass(slots=True)
class History:
    """The evidence of one run."""

    seed: int
    submissions: list[Submission] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    """By key: what the task answers when it is completed."""
    graphs: list[Submission] = field(default_factory=list)
    """Chains and fan-outs that were handed in."""
    wholes: dict[str, Whole] = field(default_factory=dict)
    """Every chain and fan-out of the store at the end, those inside others too."""
    reports: list[Report] = field(default_factory=list)
    events: list[TaskEvent] = field(default_factory=list)
    events_added: int = 0
    """How many the store says it added; more than were read means that the evidence has a hole."""
    executions: list[Execution] = field(default_factory=list)
    clock_offset_s: float = 0.0
    """To be added to the times of executions to get the store's."""
    tasks: dict[str, TaskDetail] = field(default_factory=dict)
    """Every task of the store at the end, found by its index, not by what clients know."""
    samples: list[Money] = field(default_factory=list)
    end: Money = Money(None, 0, 0)
    left: dict[str, list[str]] = field(default_factory=dict)
    """What should be empty at the end, by name: leases, busy slots, doorbells, processes, files."""
    faults: list[Fault] = field(default_factory=list)
    duration_s: float = 0.0

    def task(self, task_id: str) -> Task:
        """The record of a task at the end."""
        return self.tasks[task_id].task
