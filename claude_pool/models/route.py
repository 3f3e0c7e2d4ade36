"""Routes: how a piece of work is to be cut, decided by one cheap call and held to the caller's hints by code."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from claude_pool.models.base import Record
from claude_pool.models.fanout import StepName
from claude_pool.models.options import ModelName, PlainText, Prompt

MOST_PARTS: Final = 16
"""Parts of one plan, whatever the hints allow: who wants more writes the fan-out himself."""

Size = Literal["small", "medium", "large"]


class Route(StrEnum):
    """How the parts of a plan relate."""

    SINGLE = "single"
    """One coherent goal: one task, with the caller's own words."""
    PARALLEL = "parallel"
    """Every part can begin now, with nothing from the others."""
    CHAIN = "chain"
    """A later part has to see what an earlier one brought."""


class AutoHint(Record):
    """What the caller knows and the router does not. Limits are enforced by code, the rest is told to the model."""

    max_parallel: Annotated[int, Field(ge=1, le=MOST_PARTS)] | None = Field(
        default=None, description="most parts side by side; 1 forbids a parallel route"
    )
    max_chain_steps: Annotated[int, Field(ge=1, le=MOST_PARTS)] | None = Field(
        default=None, description="most steps of a chain; 1 forbids a chain"
    )
    prefer: Route | None = Field(default=None, description="single, parallel or chain, when it is a close call")
    domain: PlainText = Field(default="", max_length=2_000, description="what kind of work this is")
    decomposition_hints: tuple[Annotated[PlainText, Field(max_length=500)], ...] = Field(
        default=(), max_length=16, description="where it could be cut, such as one part per module"
    )


class AutoPart(Record):
    """One part of a plan."""

    name: StepName
    prompt: Prompt
    """Of a chain's later steps a template: the answer of the step before stands at `{previous_output}`."""
    model: ModelName | None = None
    """None leaves it to the caller's options and the pool's settings."""
    size: Size = "medium"


class AutoRoute(Record):
    """A plan. A single one always carries the caller's prompt, word for word."""

    route: Route
    parts: tuple[AutoPart, ...] = Field(min_length=1)
    gather: Prompt | None = None
    """Of a parallel plan: what to make of all answers."""
    reason: str = ""
    """The model's, in one clean line."""
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    estimate_usd: float | None = None
    """Of carrying it out, by sizes and list prices: right to a factor of several. None when nobody guessed."""
    fallback: str = ""
    """Why this is a single task although the router did not say so; empty when it decided."""
    adjusted: tuple[str, ...] = ()
    """What code changed in the model's plan, one sentence each."""
    task_id: str | None = None
    """The routing call; None when none was needed."""
    cost_usd: float = 0.0
    """Of the routing call."""


class Routing(Record):
    """A routing call under way: either its task, or the route that needed none."""

    prompt: Prompt
    hint: AutoHint = AutoHint()
    task_id: str | None = None
    route: AutoRoute | None = None


class AutoSubmitted(Record):
    """What carrying out a plan answers: the plan, and the id of what was handed in."""

    route: AutoRoute
    id: str
    """A task, a fan-out or a chain."""
    task_ids: tuple[str, ...] = ()
    """Of all parts, in order."""
