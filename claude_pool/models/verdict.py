"""Verdict: what shall become of a task after one run. Decided by pure code, applied by one script."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from claude_pool.models.base import Record
from claude_pool.models.graph import StepNote
from claude_pool.models.task import BranchFacts, ErrorCode, ParkedFor, TaskError, TaskResult, TaskState


class CountsAs(StrEnum):
    """Which counter a repeat uses up."""

    NOTHING = "nothing"
    CONTINUATION = "continuation"
    INFRA = "infra"
    CRASH = "crash"
    ATTEMPT = "attempt"
    RESTART = "restart"
    """A crash after which the task is paid afresh: one of each."""


class BreakerMove(Record):
    """What a run says about its account: a failure that counts, a closed door, or that all is well again."""

    kind: Literal["failure", "open", "close"]
    code: ErrorCode | None = None
    until_ms: int | None = None
    """When a closed door opens; None means that a person has to act."""
    message: str = ""


class Verdict(Record):
    """The next state of a task and everything that goes into its record with it.

    `to` is one of completed, failed, cancelled, pending_review (the end), pending (at once again) or parked.
    `next_kind` says whether the next run starts fresh or resumes the session.
    """

    to: TaskState
    reason: str = ""
    error: TaskError | None = None
    counts_as: CountsAs = CountsAs.NOTHING
    next_kind: Literal["attempt", "continuation"] = "continuation"
    parked_for: ParkedFor | None = None
    delay_ms: int | None = None
    """Parked for this long, from Redis' now."""
    until_ms: int | None = None
    """Parked until then; neither this nor `delay_ms` means until somebody acts."""
    cost_usd: float = 0.0
    """Settled for this run, once."""
    cost_estimated: bool = False
    session_id: str | None = None
    session_cost_usd: float = 0.0
    """The CLI's running total of the session after this run, to take the next difference from."""
    session_gone: bool = False
    """The session that was asked for is not to be had: a name that stood for it stands for nothing now."""
    result: TaskResult | None = None
    """Kept with final states and reviews; also the partial result of a run that will continue."""
    branch: BranchFacts | None = None
    breaker: BreakerMove | None = None
    note: StepNote | None = None
    """Of a step or a branch: what its failures so far mean for the next run."""
    vars: dict[str, Any] | None = None
    """Of a step: the values that later steps look at."""
    skipped: bool = False
    """Cancelled because its condition did not hold: the chain goes on."""
