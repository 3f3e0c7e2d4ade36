"""Chains: steps one after the other, each fed by earlier ones; what is asked for, where it is, what came back."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal, cast

from pydantic import Field, field_validator, model_validator

from claude_pool.models.base import Record
from claude_pool.models.fanout import (
    BranchProgress,
    BranchResult,
    FanOut,
    OutputVar,
    StepFailurePolicy,
    StepName,
    VarName,
    as_output_vars,
    with_options,
)
from claude_pool.models.options import GitRef, PlainText, Prompt, Tag, TaskOptions
from claude_pool.models.task import BranchFacts, TaskError, TaskState

MOST_STEPS: Final = 1_000
"""Steps of one chain."""
MOST_NODES: Final = 5_000
"""Steps and branches of one chain together."""
MOST_ARGUMENT: Final = 1 << 20
"""Characters of one argument."""

SKIPPED: Final = "skipped"
"""Beside the states of tasks: a step that was not wanted, or not reached. Its task is cancelled."""


class ChainIsolation(StrEnum):
    """Where a chain's steps work; they share it."""

    WORKTREE = "worktree"
    CLONE = "clone"
    NONE = "none"


class Gate(Record):
    """What has to hold before a step counts as completed: a command that exits 0 there, a review, or both."""

    command: Annotated[PlainText, Field(min_length=1, max_length=20_000)] | None = None
    """For `sh -c`, in the step's workspace; `{args.NAME}` is filled in. Its end and output are the error of a step that
    does not pass."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 600
    review: bool = False
    """The step waits in `pending_review` for the coordinator."""

    @model_validator(mode="after")
    def _something(self) -> Gate:
        if self.command is None and not self.review:
            msg = "a gate is a command, a review or both"
            raise ValueError(msg)
        return self


class ChainStep(Record):
    """One step: a prompt, or a fan-out. Fields of TaskOptions may stand beside the step's own.

    Prompts are templates: `{previous_output}`, `{steps.NAME.output}`, `{steps.NAME.VAR}`, `{steps.NAME.state}`,
    `{steps.NAME.error}`, `{args.NAME}`; `{{word}}` is a plain `{word}`.
    """

    name: StepName
    prompt: Prompt | None = None
    fan_out: FanOut | None = None
    options: TaskOptions = TaskOptions()
    failure_policy: StepFailurePolicy = StepFailurePolicy()
    output_vars: dict[VarName, OutputVar] = Field(default_factory=dict[str, OutputVar])
    when: PlainText | None = Field(default=None, max_length=2_000)
    """A condition over earlier outputs, such as `{steps.review.verdict} != "ok"`; false skips the step."""
    gate: Gate | None = None
    session: Literal["fresh", "previous"] = "fresh"
    """`previous` continues the session of the step before."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        given = with_options(value)
        if not isinstance(given, dict):
            return given
        named = cast("dict[str, Any]", given)
        if isinstance(gate := named.get("gate"), str):
            named["gate"] = {"review": True} if gate == "review" else {"command": gate}
        return named

    @field_validator("output_vars", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        return as_output_vars(value)

    @model_validator(mode="after")
    def _one_thing(self) -> ChainStep:
        if (self.prompt is None) == (self.fan_out is None):
            msg = f"step {self.name!r} needs a prompt or a fan_out, and not both"
            raise ValueError(msg)
        if self.fan_out is not None and (self.gate or self.output_vars or self.session != "fresh" or self.when):
            msg = (
                f"step {self.name!r} is a fan-out: gate, output_vars, session and when belong to steps with a prompt; "
                "a gather may have output_vars"
            )
            raise ValueError(msg)
        return self


class ChainOptions(Record):
    """How a whole chain is to be run. None means that the pool's settings decide."""

    title: PlainText = Field(default="", max_length=200)
    tags: tuple[Tag, ...] = Field(default=(), max_length=32)
    """Of the chain and of each of its tasks."""
    isolation: ChainIsolation | None = None
    repo: PlainText | None = None
    base_ref: GitRef | None = None
    """What the chain's branch starts from."""
    budget_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """For all its steps together, retries included."""
    timeout_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    """For the whole; then it is stopped and has failed."""
    review: bool = False
    """The whole waits in `pending_review` with its last step; a rejection has that step done again."""
    args: dict[VarName, Annotated[PlainText, Field(max_length=MOST_ARGUMENT)]] = Field(default_factory=dict[str, str])
    """What `{args.NAME}` stands for."""
    step_options: TaskOptions = TaskOptions()
    """For all steps, where a step does not choose."""

    @field_validator("args", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Numbers and truth values, as a file may have them, become text."""
        if not isinstance(value, dict):
            return value
        plain = cast("dict[str, Any]", value)
        return {
            name: str(one).lower() if isinstance(one, bool) else str(one) if isinstance(one, int | float) else one
            for name, one in plain.items()
        }


class ChainSubmitted(Record):
    """What handing in a chain answers. `step_ids` are tasks, or fan-outs, in order."""

    chain_id: str
    state: TaskState
    step_ids: tuple[str, ...] = ()


class StepProgress(BranchProgress):
    """One step of a chain in a progress."""

    fan_out: bool = False
    """`id` is a fan-out's."""


class ChainProgress(Record):
    """Where a chain is. Reading it costs the same at its first step and at its last."""

    chain_id: str
    state: TaskState
    title: str = ""
    total_steps: int
    completed_steps: int = 0
    current_step: int | None = None
    """From 0; None before and after the work."""
    current_step_name: str | None = None
    partial_output: str = ""
    """The end of what the current step's model has said so far."""
    waiting: bool = False
    """Nothing more happens until somebody acts."""
    steps: tuple[StepProgress, ...] = ()
    cost_usd: float = 0.0
    budget_usd: float | None = None
    created_ms: int = 0
    ended_ms: int | None = None
    error: TaskError | None = None


class StepResult(BranchResult):
    """What one step brought back; `state` is a task's, or `skipped`. Of a fan-out: also its branches."""

    name: str
    vars: dict[str, Any] = Field(default_factory=dict[str, Any])
    retries: int = 0
    branches: tuple[BranchResult, ...] = ()


class ChainResult(Record):
    """Everything a chain brought back so far; complete once its state is final."""

    chain_id: str
    state: TaskState
    title: str = ""
    steps: tuple[StepResult, ...] = ()
    final_output: str = ""
    """The answer of the last step that has one."""
    cost_usd: float = 0.0
    """Of all runs of all steps, each counted once."""
    error: TaskError | None = None
    branch: BranchFacts | None = None
    """What the chain left in git, as its last step saw it."""
    run_ms: int = 0

    def step(self, name: str) -> StepResult:
        """The step of that name. Raises KeyError."""
        found = next((step for step in self.steps if step.name == name), None)
        if found is None:
            raise KeyError(name)
        return found
