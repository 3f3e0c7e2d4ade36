"""Answers: what the store's protocols in `base` take and give, besides the records of `claude_pool.models`."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from claude_pool.models.base import Record
from claude_pool.models.graph import StepNote, StepPlan
from claude_pool.models.task import Task, TaskState


class Submitted(Record):
    """What submit answers. `created` is False when the idempotency key had been seen with the same request."""

    task_id: str
    state: TaskState
    created: bool


class Doorbell(Record):
    """What has to be rung: an id, a queue, a priority."""

    task_id: str
    queue: str
    priority: int
    group: str = ""
    """The fan-out that it is rung for."""
    then: tuple[str, ...] = ()
    """Steps of the same chain that may be rung one after another behind it."""


class RefusedClaim(StrEnum):
    """Why a claim was not granted. All are harmless: the doorbell was late, repeated or forged."""

    UNKNOWN = "unknown"
    NOT_PENDING = "not_pending"
    NO_BUDGET = "no_budget"
    BREAKER = "breaker"
    SESSION = "session"
    """Another run works in the conversation that it is to go on with."""
    ELSEWHERE = "elsewhere"
    """That conversation is on another node; the housekeeper rings there."""
    FENCED = "fenced"
    """The slot itself is not, or no longer, the registered one."""
    STORE_RESET = "store_reset"


class Claim(Record):
    """A slot's right to one run of one task."""

    task: Task
    prompt: str
    run_id: str
    number: int
    kind: Literal["attempt", "continuation"]
    cap_usd: float | None
    """Reserved in the ledger, and given to the CLI as its limit."""
    resume_session_id: str | None
    session_cost_usd: float
    """The session's running total before this run."""
    fork: bool = False
    """The session is to be copied under a new id instead of going on."""
    session_id: str | None = None
    """The id to begin a new session with, where others are to find it; None leaves the choice to the slot."""
    lost_before: bool
    """The run before this one was lost: the workspace may hold its unsaved work."""
    feedback: tuple[str, ...] = ()
    """What reviewers said to earlier runs."""
    plan: StepPlan | None = None
    """Of a step or a branch: what makes it one."""
    note: StepNote = StepNote()


class Beat(Record):
    """The store's answer to a heartbeat. Fenced means: stop at once, somebody else may have the task."""

    fenced: bool = False
    cancel: str | None = None
    leaving: bool = False


class Lost(Record):
    """A run whose lease ran out, and what became of its task."""

    task_id: str
    run_id: str
    state: TaskState
    bell: Doorbell | None = None


class Decided(Record):
    """A reviewer's word was heard: the task as it is now, and what is to be rung."""

    task: Task
    bells: tuple[Doorbell, ...] = ()


class Ended(Record):
    """What a run's end led to: the task as it is now, and what became ready by it."""

    task: Task
    bells: tuple[Doorbell, ...] = ()


class Tended(Record):
    """Chains and fan-outs that were stopped because their time was over, and what is to be rung."""

    ids: tuple[str, ...] = ()
    bells: tuple[Doorbell, ...] = ()


class TaskFilter(Record):
    """Which tasks to list. Newest first; `after` is the id where the page before ended."""

    states: tuple[TaskState, ...] = ()
    tags: tuple[str, ...] = ()
    """All of them."""
    submitter: str | None = None
    limit: int = 50
    after: str | None = None


class Page(Record):
    """A page of tasks; `next` is None on the last one."""

    tasks: tuple[Task, ...] = ()
    next: str | None = None
