"""The task: what was asked (`TaskRequest`), what is known now (`Task`), what came back (`TaskResult`)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from claude_pool.models.base import Record
from claude_pool.models.options import PlainText, Prompt, TaskOptions
from claude_pool.models.run import Denial, ExitFacts, ModelUsage, Usage


class TaskState(StrEnum):
    """Where a task is in its life; the moves between them are in `claude_pool.lifecycle`."""

    BLOCKED = "blocked"
    PENDING = "pending"
    CLAIMED = "claimed"
    RUNNING = "running"
    PARKED = "parked"
    PENDING_REVIEW = "pending_review"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True when the task will never change again."""
        return self in {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED}


class ParkedFor(StrEnum):
    """What a parked task waits for."""

    RETRY = "retry"
    LIMIT = "limit"
    BUDGET = "budget"
    BREAKER = "breaker"
    QUESTION = "question"
    HOLD = "hold"
    SESSION = "session"
    """Another run works in the conversation that it is to continue."""
    START_TIME = "start_time"


class ErrorCode(StrEnum):
    """Why a run or a task did not end well. Stable; meant for programs."""

    THROTTLED = "throttled"
    USAGE_LIMIT = "usage_limit"
    OVERLOADED = "overloaded"
    NETWORK = "network"
    BROKEN_STREAM = "broken_stream"
    AUTH = "auth"
    BILLING = "billing"
    INVALID_REQUEST = "invalid_request"
    CONTEXT_TOO_LONG = "context_too_long"
    MODEL_NOT_FOUND = "model_not_found"
    MAX_OUTPUT = "max_output"
    MAX_TURNS = "max_turns"
    BUDGET_EXHAUSTED = "budget_exhausted"
    PERMISSION_DENIED = "permission_denied"
    REFUSED = "refused"
    SCHEMA_UNMET = "schema_unmet"
    CLI_MISSING = "cli_missing"
    CLI_START = "cli_start"
    CRASHED = "crashed"
    DEAD_LETTER = "dead_letter"
    LOST = "lost"
    NO_RESULT = "no_result"
    TIMEOUT = "timeout"
    SILENCE_TIMEOUT = "silence_timeout"
    OUTPUT_LIMIT = "output_limit"
    DRAINED = "drained"
    WORKSPACE = "workspace"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """A step or a branch that was not wanted any more, or whose condition did not hold; nothing was done."""
    GATE_FAILED = "gate_failed"
    BRANCH_FAILED = "branch_failed"
    """A fan-out had too few branches that completed."""
    OUTPUT_MISSING = "output_missing"
    """The answer lacks a value that later steps were promised."""
    REJECTED = "rejected"
    """Reviewers rejected it as often as the task allows."""
    REVIEW_EXPIRED = "review_expired"
    SESSION_GONE = "session_gone"
    """The conversation that was to be continued can't be had any more."""
    EXECUTION = "execution"
    """The CLI said that it failed, and gave no reason that we know."""


class TaskError(Record):
    """Why a task failed, or what its last run stumbled over."""

    code: ErrorCode
    message: str
    hint: str = ""
    api_status: int | None = None
    detail: str = ""
    """Evidence, bounded: the end of stderr, the CLI's own error lines."""


class Submitter(Record):
    """Who asked: a coordinator's name, as it calls itself."""

    name: str = ""
    kind: Literal["python", "cli", "mcp", "pool", ""] = ""


class TaskRequest(Record):
    """One piece of work to hand in. Raises pydantic's ValidationError when it makes no sense."""

    prompt: Prompt
    options: TaskOptions = TaskOptions()
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=256)
    submitter: Submitter = Submitter()
    title: PlainText = Field(default="", max_length=200)


class RunRecord(Record):
    """One `claude` process of the task's history."""

    run_id: str
    number: int
    kind: Literal["attempt", "continuation"]
    slot: str
    node: str
    session_id: str | None = None
    claimed_ms: int
    started_ms: int | None = None
    ended_ms: int | None = None
    cost_usd: float = 0.0
    cost_estimated: bool = False
    outcome: str = ""
    """`completed`, or an `ErrorCode`, or `released`."""
    then: str = ""
    """What was decided: the state the task went to, with its reason."""
    output: str = ""
    """What it answered, of a run that a reviewer rejected; the task's result has the others'."""
    feedback: str = ""
    """What the reviewer said who rejected it."""


class BranchFacts(Record):
    """What a run left in git."""

    branch: str
    base: str
    tip: str
    repo: str = ""
    commits: int = 0
    files: int = 0
    insertions: int = 0
    deletions: int = 0
    paths: tuple[str, ...] = ()
    """Changed paths, the first 200."""
    warnings: tuple[str, ...] = ()
    """What the run did to the repository that was undone, say a planted hook."""


class MergeOutlook(Record):
    """What merging the task's branch into its target would do, as the slot saw it when the run ended."""

    into: str
    into_tip: str
    state: Literal["clean", "conflicts", "nothing_to_merge", "unknown"]
    conflicts: tuple[str, ...] = ()
    """Files that can't be merged by themselves, the first 100."""
    message: str = ""


class TaskResult(Record):
    """Everything a finished (or stopped) task brought back.

    `cost_usd` is all runs of the task together, each counted once; `usage` and `model_usage` likewise. `output` is the
    model's answer, `partial` says that it was cut short. Times are milliseconds.
    """

    task_id: str
    state: TaskState
    output: str = ""
    partial: bool = False
    structured_output: Any = None
    error: TaskError | None = None
    cost_usd: float = 0.0
    cost_estimated: bool = False
    usage: Usage = Usage()
    model_usage: dict[str, ModelUsage] = Field(default_factory=dict[str, ModelUsage])
    model: str | None = None
    num_turns: int = 0
    queued_ms: int = 0
    run_ms: int = 0
    api_ms: int = 0
    session_id: str | None = None
    run_id: str | None = None
    denials: tuple[Denial, ...] = ()
    stop_reason: str | None = None
    terminal_reason: str | None = None
    mcp_failed: tuple[str, ...] = ()
    exit: ExitFacts = ExitFacts()
    branch: BranchFacts | None = None
    branch_note: str = ""
    """What became of the branch since."""
    outlook: MergeOutlook | None = None
    """Of a task that waits for its review."""
    workspace: str | None = None
    log_path: str | None = None
    """The whole event log, on the node that ran it."""
    node: str | None = None
    output_bytes: int = 0
    """Size of the whole output; larger than `output` when only its head and tail are kept."""
    output_path: str | None = None
    """File with the whole output on the node, when `output` is cut."""
    simulated: bool = False
    """The answer came from the simulated model, not from a real one."""


class Counters(Record):
    """How often things happened to a task; each has its own limit in `TaskOptions`."""

    runs: int = 0
    attempts: int = 0
    continuations: int = 0
    infra_retries: int = 0
    crashes: int = 0
    rejections: int = 0


class Task(Record):
    """A task as the store knows it now. `*_ms` are Unix milliseconds of Redis' clock."""

    id: str
    state: TaskState
    title: str
    """The caller's title, else the beginning of the prompt in one clean line."""
    options: TaskOptions
    submitter: Submitter = Submitter()
    created_ms: int
    since_ms: int
    """When it came into this state."""
    queue: str
    counters: Counters = Counters()
    next_kind: Literal["attempt", "continuation"] = "attempt"
    run_id: str | None = None
    """The current run, or the last one."""
    slot: str | None = None
    node: str | None = None
    session_id: str | None = None
    parked_for: ParkedFor | None = None
    until_ms: int | None = None
    cancel_requested: str | None = None
    """The reason, once a cancel was asked for and the run is still being stopped."""
    cost_usd: float = 0.0
    reserved_usd: float = 0.0
    error: TaskError | None = None
    """Of the last run; of the task, once it is final."""
    progress: str = ""
    """The latest sign of life of the run, one clean line."""
    event_id: str = ""
    """Id of the task's last event: what is behind a wait's cursor has happened since."""
    started_ms: int | None = None
    """When its current or last run was started."""
    parent: str | None = None
    """The chain or fan-out that it is a step or a branch of."""
    step: str = ""
    """Its name there."""
    branch_note: str = ""
    """What became of its branch: merged, discarded, expired."""
    skipped: bool = False
    """Cancelled because it was not wanted any more, not because somebody asked for it."""

    @property
    def waits_for_somebody(self) -> bool:
        """Nothing more happens until a coordinator or a person acts."""
        return self.state is TaskState.PENDING_REVIEW or (self.state is TaskState.PARKED and self.until_ms is None)

    @property
    def settled(self) -> bool:
        """A waiter has nothing more to wait for."""
        return self.state.final or self.waits_for_somebody


class TaskDetail(Record):
    """A task with its prompt, history and result."""

    task: Task
    prompt: str
    runs: tuple[RunRecord, ...] = ()
    result: TaskResult | None = None
    feedback: tuple[str, ...] = ()
    """What reviewers said who rejected it, oldest first."""
