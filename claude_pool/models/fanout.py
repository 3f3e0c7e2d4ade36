"""Fan-outs: independent branches side by side, when they are enough, and what becomes of their answers."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, cast

from pydantic import Field, StringConstraints, field_validator, model_validator

from claude_pool.models.base import Record
from claude_pool.models.options import Effort, ModelName, PlainText, Prompt, Tag, TaskOptions
from claude_pool.models.run import Usage
from claude_pool.models.task import BranchFacts, TaskError, TaskState

MOST_BRANCHES: Final = 20_000
"""Branches of one fan-out."""
MOST_NESTED: Final = 1_000
"""Branches of a fan-out that is a step of a chain."""

StepName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
VarName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
Label = Annotated[PlainText, StringConstraints(min_length=1, max_length=200)]
WhenFailed = Literal["stop", "skip", "continue"]


class StepFailurePolicy(Record):
    """What happens when a step or a branch has failed for good by the rules of single tasks.

    First it is repeated `retries` times, each a paid fresh start after a pause that doubles; then the recovery prompt
    is asked once, if there is one; then `then` decides: `stop` ends the chain, `skip` goes on as if the step were not
    there, `continue` goes on with what it produced. In a fan-out, `then` has no meaning: its policy decides.
    """

    retries: Annotated[int, Field(ge=0, le=20)] = Field(default=0, description="fresh starts after a failure")
    backoff_s: Annotated[float, Field(ge=0, le=86_400)] = Field(default=5, description="first pause; doubles")
    max_backoff_s: Annotated[float, Field(gt=0, le=86_400)] = Field(default=300, description="longest pause")
    show_error: bool = Field(default=True, description="tell the model what went wrong before")
    recovery_prompt: Prompt | None = Field(
        default=None, description="asked once after all retries, with {error}; its answer becomes the step's"
    )
    escalate_model: ModelName | None = Field(default=None, description="model of retries and recovery")
    escalate_effort: Effort | None = Field(default=None, description="effort of retries and recovery")
    then: WhenFailed = Field(default="stop", description="stop the chain, skip the step, or continue with its output")


class OutputVar(Record):
    """A value to take from a step's answer: a JSON path such as `files[0].name`; `.` is the whole."""

    path: PlainText = Field(max_length=500)
    default: Any = None
    required: bool = True
    """Without the value the step has failed; not required, the default stands in for it."""


class Gather(Record):
    """The step after a fan-out: gets every branch's answer at `{branches}`, at the prompt's end if it is not there."""

    prompt: Prompt
    options: TaskOptions = TaskOptions()
    failure_policy: StepFailurePolicy = StepFailurePolicy()
    output_vars: dict[VarName, OutputVar] = Field(default_factory=dict[str, OutputVar])

    @field_validator("output_vars", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        return as_output_vars(value)


class Branch(Record):
    """One of a fan-out's independent pieces of work."""

    prompt: Prompt
    label: Label | None = None
    """None is the branch's number, from 1."""
    options: TaskOptions = TaskOptions()


class FanOutPolicy(StrEnum):
    """When a fan-out counts as completed."""

    ALL = "all"
    """Every branch has to complete; all run to their end whatever happens to others."""
    FAIL_FAST = "fail_fast"
    """Every branch has to complete; the first failure stops the rest."""
    QUORUM = "quorum"
    """So many have to complete; then the rest is stopped."""


_QUORUM: Final = re.compile(r"quorum\((\d{1,6})\)")


class FanOut(Record):
    """N branches at the same time. Strings among `branches` are prompts."""

    branches: tuple[Branch, ...] = Field(min_length=1, max_length=MOST_BRANCHES)
    policy: FanOutPolicy = FanOutPolicy.ALL
    quorum: Annotated[int, Field(ge=1)] | None = None
    """With policy `quorum`: how many branches have to complete; `quorum(3)` as the policy says the same."""
    max_parallel: Annotated[int, Field(ge=1)] | None = None
    """Most branches that are ready or running at once; None leaves it to the slots."""
    failure_policy: StepFailurePolicy = StepFailurePolicy()
    """Of every branch."""
    gather: Gather | None = None
    options: TaskOptions = TaskOptions()
    """For all branches, where a branch does not choose."""
    budget_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """For all branches and the gather together."""
    timeout_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    """For the whole; then the rest is stopped and the fan-out has failed."""
    tags: tuple[Tag, ...] = Field(default=(), max_length=32)
    title: PlainText = Field(default="", max_length=200)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        given = dict(cast("dict[str, Any]", value))
        if isinstance(branches := given.get("branches"), list | tuple):
            listed = cast("list[Any]", branches)
            given["branches"] = [{"prompt": one} if isinstance(one, str) else with_options(one) for one in listed]
        if isinstance(gather := given.get("gather"), str):
            given["gather"] = {"prompt": gather}
        elif gather is not None:
            given["gather"] = with_options(gather)
        if isinstance(policy := given.get("policy"), str) and (match := _QUORUM.fullmatch(policy)):
            given |= {"policy": "quorum", "quorum": int(match[1])}
        return given

    @model_validator(mode="after")
    def _sensible(self) -> FanOut:
        if (self.policy is FanOutPolicy.QUORUM) != (self.quorum is not None):
            msg = "a quorum goes with the policy quorum, and that policy needs one: quorum(3), say"
            raise ValueError(msg)
        if self.quorum is not None and self.quorum > len(self.branches):
            msg = f"a quorum of {self.quorum} can't be reached by {len(self.branches)} branches"
            raise ValueError(msg)
        labels = [branch.label for branch in self.branches if branch.label is not None]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            msg = f"two branches have the label {twice!r}"
            raise ValueError(msg)
        return self

    def label_of(self, number: int) -> str:
        """The label of a branch, counted from 0."""
        return self.branches[number].label or str(number + 1)


def as_output_vars(value: Any) -> Any:
    """A path may be given as a string; `"a.b"` is `{"path": "a.b"}`. A default makes it optional."""
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, one in cast("dict[str, Any]", value).items():
        if isinstance(one, str):
            found[name] = {"path": one}
        elif isinstance(one, dict) and "default" in one:
            found[name] = {"required": False, **cast("dict[str, Any]", one)}
        else:
            found[name] = one
    return found


_OWN: Final = frozenset({"session", "tags"})
"""Names that steps and fan-outs give a meaning of their own."""


def with_options(value: Any) -> Any:
    """Fields of TaskOptions may stand beside a step's own fields; they belong into its `options`."""
    if not isinstance(value, dict):
        return value
    given = dict(cast("dict[str, Any]", value))
    loose = {name: given.pop(name) for name in list(given) if name in TaskOptions.model_fields and name not in _OWN}
    if not loose:
        return given
    options: Any = given.get("options") or {}
    chosen = (
        {name: getattr(options, name) for name in options.model_fields_set} if isinstance(options, Record) else options
    )
    return {**given, "options": {**chosen, **loose}}


class BranchResult(Record):
    """What one branch brought back, whatever became of it."""

    label: str
    id: str
    """Its task, or its chain."""
    state: str
    """A task's state, or `skipped`."""
    output: str = ""
    structured_output: Any = None
    error: TaskError | None = None
    cost_usd: float = 0.0
    session_id: str | None = None
    branch: BranchFacts | None = None
    partial: bool = False
    usage: Usage = Usage()


class FanOutSubmitted(Record):
    """What handing in a fan-out answers: everything has an id at once. `task_ids` are in input order."""

    fan_out_id: str
    state: TaskState
    task_ids: tuple[str, ...] = ()
    """Of branches that are chains: the chains' ids."""
    labels: tuple[str, ...] = ()
    gather_id: str | None = None


class FanOutProgress(Record):
    """Where a fan-out is."""

    fan_out_id: str
    state: TaskState
    title: str = ""
    total: int
    ended: int = 0
    completed: int = 0
    failed: int = 0
    open: int = 0
    """Branches that are ready, running or parked."""
    waiting: bool = False
    """Nothing more happens until somebody acts."""
    gather_id: str | None = None
    gathering: bool = False
    cost_usd: float = 0.0
    budget_usd: float | None = None
    created_ms: int = 0
    ended_ms: int | None = None
    branches: tuple[BranchProgress, ...] = ()
    error: TaskError | None = None


class BranchProgress(Record):
    """One branch, or one step of a chain, in a progress."""

    name: str
    id: str
    state: str
    """A task's state, or `skipped`."""
    runs: int = 0
    retries: int = 0
    """Repeats by the failure policy."""
    cost_usd: float = 0.0
    started_ms: int | None = None
    """Of its current or last run."""
    ended_ms: int | None = None
    progress: str = ""
    error: TaskError | None = None


class FanOutResult(Record):
    """Everything a fan-out brought back: branches in input order, also those that failed or never ran."""

    fan_out_id: str
    state: TaskState
    title: str = ""
    results: tuple[BranchResult, ...] = ()
    gather: BranchResult | None = None
    cost_usd: float = 0.0
    """Of all branches and the gather, each run counted once."""
    error: TaskError | None = None
    run_ms: int = 0

    @property
    def output(self) -> str:
        """The gather's answer; without a gather, nothing."""
        return self.gather.output if self.gather else ""
