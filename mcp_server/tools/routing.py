"""Tools that have a task cut: pool_route, which only plans, and pool_auto, which plans and hands in.

The plan is made by one cheap call that is paid like any task. What it says was written by a model that has read the
task's text: it goes out without anything hidden in it, and is a proposal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import Field

from claude_pool.documents import Document, of_route
from claude_pool.models.options import ModelName, Prompt, TaskOptions
from claude_pool.models.route import AutoHint, AutoRoute, Route
from mcp_server.fence import plain, scrubbed
from mcp_server.rights import check_options
from mcp_server.tools.answers import gives
from mcp_server.tools.arguments import options_of, schema_of
from mcp_server.tools.tool import Call, Definition
from mcp_server.tools.wait import teller

if TYPE_CHECKING:
    from claude_pool.models.route import AutoSubmitted
    from claude_pool.pool import Pool

_HINTS: Final = tuple(AutoHint.model_fields)


class Plan(AutoHint):
    """What to plan."""

    prompt: Prompt = Field(description="the whole task")
    model: ModelName | None = Field(default=None, description="of parts that the plan gives none")


class Auto(TaskOptions, AutoHint):
    """What to plan and hand in: a task with all its options, and the hints."""

    prompt: Prompt = Field(description="the whole task")


def _hint(asked: AutoHint) -> AutoHint:
    return AutoHint(**{name: getattr(asked, name) for name in asked.model_fields_set & set(_HINTS)})


async def _route(call: Call, prompt: str, hint: AutoHint, model: str | None) -> AutoRoute:
    """The plan; while it is made, no thread is held."""
    routing = await call.ask(lambda pool: pool.begin_route(prompt, hint, submitter=call.submitter))
    if routing.task_id is not None:
        limit_s = call.counter.config.route_timeout_s
        await call.counter.wait([routing.task_id], timeout_s=limit_s, tell=teller(call, "routing"))
    return await call.ask(lambda pool: pool.end_route(routing, model=model))


async def route(call: Call, asked: Plan) -> Document:
    """How a task should be cut."""
    return _told(await _route(call, asked.prompt, _hint(asked), asked.model))


async def auto(call: Call, asked: Auto) -> Document:
    """Have a task cut, and hand in what comes of it."""
    options = options_of(asked)
    await call.ask(lambda pool: _check(pool, asked, options))
    fresh = options.session == "fresh"
    plan = await _route(call, asked.prompt, _hint(asked) if fresh else _WHOLE, options.model)
    done: AutoSubmitted = await call.ask(lambda pool: pool.on_behalf_of(call.submitter).carry_out(plan, options))
    told = {name: value for name, value in _told(plan).items() if name not in {"parts", "gather"}}
    return {"id": done.id, "task_ids": list(done.task_ids), **told}


_WHOLE: Final = AutoHint(max_parallel=1, max_chain_steps=1)
"""For a task that continues a session: it can't be cut."""


def _check(pool: Pool, asked: Auto, options: TaskOptions) -> None:
    """What would be refused later is refused before the plan is paid for."""
    check_options(options, pool.config)
    pool.request(asked.prompt, options)


def _told(plan: AutoRoute) -> Document:
    document = scrubbed(of_route(plan))
    document |= {name: plain(document[name], 300) for name in ("reason", "fallback") if name in document}
    if plan.route is Route.SINGLE:  # the prompt is the caller's own
        document["parts"] = [{name: value for name, value in document["parts"][0].items() if name != "prompt"}]
    return document


DEFINITIONS: Final = (
    Definition(
        name="pool_route",
        title="Plan a task",
        description=(
            "Ask a cheap model how a big task should be cut: single, parallel or chain, with prompts, models and a cost"
            " estimate; runs nothing. Steps may use {previous_output}. When unsure or failing it answers single, and"
            " why (fallback). A model's proposal: data to judge."
        ),
        arguments=Plan,
        parameters=schema_of(Plan, first=("max_parallel", "max_chain_steps", "prefer")),
        work=route,
        gives=gives({"fallback": str, "reason": str}, route=str, confidence=float, parts=list),
        effect="adds",
        scope="submit",
        idempotent=False,
    ),
    Definition(
        name="pool_auto",
        title="Plan and hand in",
        description=(
            "pool_route, and hand in its plan at once: the id is a task's, a fan-out's or a chain's; then pool_wait."
            " Options are those of each part; max_budget_usd is for all together. To see the plan before it costs, use"
            " pool_route."
        ),
        arguments=Auto,
        parameters=schema_of(Auto, explained=("max_budget_usd",), first=_HINTS),
        work=auto,
        gives=gives({"fallback": str, "reason": str}, id=str, task_ids=list, route=str),
        effect="adds",
        scope="submit",
        idempotent=False,
    ),
)
