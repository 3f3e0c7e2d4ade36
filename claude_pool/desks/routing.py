"""Auto-routing: one cheap call decides how a piece of work is cut.

The call is a task like any other: it waits for a slot, is capped, and is counted in the pool's money. It runs on the
pool's `route_model` without tools, in a directory of its own, and its answer has to satisfy a schema. Whatever goes
wrong with it, from a refused budget to nonsense in the answer, ends in a single task that says why; only a pool that
can't be reached, and a prompt that no task could have, are errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from claude_pool.desks.fan_outs import FanOutDesk
from claude_pool.desks.graphs import valid
from claude_pool.errors import InvalidRequest, KeyReused, Refused
from claude_pool.models.base import explain
from claude_pool.models.options import TaskOptions
from claude_pool.models.route import AutoHint, AutoPart, AutoRoute, AutoSubmitted, Route, Routing
from claude_pool.models.task import Submitter
from claude_pool.routing import decide, single, without_asking
from claude_pool.routing_prompt import SCHEMA, SYSTEM, question
from claude_pool.text import one_line

TAG: Final = "route"
"""Of every routing call."""
FRESH: Final = "fresh"
_MOST_TURNS: Final = 4
"""The answer is one call of the model; the rest is for an answer that did not satisfy the schema."""


class RoutingDesk(FanOutDesk):
    """The verbs for plans."""

    def auto(
        self, prompt: str, options: TaskOptions | None = None, *, hint: AutoHint | None = None, **fields: Any
    ) -> AutoSubmitted:
        """Have a task cut, and hand in what comes of it: one task, a fan-out or a chain. Loose fields: TaskOptions.

        The options are those of every part, with three exceptions: `max_budget_usd` is for all parts together, and
        of a fan-out each gets its share; a `json_schema` is for the answer that ends the whole; a model that the plan
        names counts where none is chosen. Raises InvalidRequest, Refused, Unreachable.
        """
        wanted = self._wanted(options, fields)
        self._options(wanted, {})
        if wanted.session != FRESH:
            whole = single(prompt).evolve(reason="It continues a session, which one task alone can do.", confidence=1.0)
            return self.carry_out(whole, wanted)
        return self.carry_out(self.route(prompt, hint, model=wanted.model), wanted)

    def carry_out(self, route: AutoRoute, options: TaskOptions | None = None, **fields: Any) -> AutoSubmitted:
        """Hand in a plan, with options as in `auto`. Raises InvalidRequest, Refused, Unreachable."""
        wanted = self._wanted(options, fields)
        if route.route is Route.SINGLE:
            task = self.submit(route.parts[0].prompt, wanted.evolve(**_models(route.parts[:1], wanted)[0]))
            return AutoSubmitted(route=route, id=task.task_id, task_ids=(task.task_id,))
        chosen = {name: getattr(wanted, name) for name in wanted.model_fields_set}
        schema = {"json_schema": chosen.pop("json_schema")} if wanted.json_schema is not None else {}
        whole = {"budget_usd": wanted.max_budget_usd} if wanted.max_budget_usd is not None else {}
        parts = [
            {"prompt": part.prompt, **model}
            for part, model in zip(route.parts, _models(route.parts, wanted), strict=True)
        ]
        if route.route is Route.CHAIN:
            steps = [{"name": part.name, **step} for part, step in zip(route.parts, parts, strict=True)]
            steps[-1] |= schema
            chain = self.submit_chain(steps, **whole, **chosen)
            return AutoSubmitted(route=route, id=chain.chain_id, task_ids=chain.step_ids)
        if wanted.max_budget_usd is not None:  # its full cap for each would let them run one at a time only
            chosen["max_budget_usd"] = wanted.max_budget_usd / (len(parts) + (route.gather is not None))
        branches = [{"label": part.name, **branch} for part, branch in zip(route.parts, parts, strict=True)]
        if route.gather is None:
            fan = self.fan_out(branches, **whole, **chosen, **schema)
        else:
            fan = self.fan_out(branches, gather={"prompt": route.gather, **schema}, **whole, **chosen)
        return AutoSubmitted(route=route, id=fan.fan_out_id, task_ids=fan.task_ids)

    @staticmethod
    def _wanted(options: TaskOptions | None, fields: dict[str, Any]) -> TaskOptions:
        """The options that were chosen, and only those. Raises InvalidRequest."""
        given = {} if options is None else {name: getattr(options, name) for name in options.model_fields_set}
        return valid(TaskOptions, given | fields)

    def route(
        self,
        prompt: str,
        hint: AutoHint | None = None,
        *,
        model: str | None = None,
        idempotency_key: str | None = None,
    ) -> AutoRoute:
        """How this task should be cut; nothing of it is carried out. `model`: of parts that the plan gives none.

        Takes at most the pool's `route_timeout_s`. Raises InvalidRequest, Unreachable.
        """
        routing = self.begin_route(prompt, hint, idempotency_key=idempotency_key)
        if routing.task_id is not None:
            self.wait([routing.task_id], timeout_s=self.config.route_timeout_s)
        return self.end_route(routing, model=model)

    def begin_route(
        self,
        prompt: str,
        hint: AutoHint | None = None,
        *,
        idempotency_key: str | None = None,
        submitter: Submitter | None = None,
    ) -> Routing:
        """Hand in the routing call, where one is needed; wait for its task, then call `end_route`.

        With an idempotency key, a repeated call finds the same plan. Raises InvalidRequest, KeyReused, Unreachable.
        """
        hint = hint or AutoHint()
        try:
            routing = Routing(prompt=prompt, hint=hint)
        except ValidationError as error:
            raise InvalidRequest(explain(error)) from None
        if (known := without_asking(prompt, hint)) is not None:
            return routing.evolve(route=known)
        request = self.request(
            question(prompt, hint),
            self._route_options(),
            idempotency_key=None if idempotency_key is None else f"{idempotency_key[:240]}:route",
            title="route: " + one_line(prompt, 120),
        )
        try:
            handed_in = self.submit_many([request if submitter is None else request.evolve(submitter=submitter)])[0]
        except KeyReused:
            raise
        except Refused as error:  # of its budget, or by a pool that takes nothing any more
            return routing.evolve(route=single(prompt, fallback=f"the routing call was refused: {error.message}"))
        return routing.evolve(task_id=handed_in.task_id)

    def end_route(self, routing: Routing, *, model: str | None = None) -> AutoRoute:
        """The plan; a routing call that has not answered by now is cancelled. Raises Unreachable."""
        if routing.route is not None:
            return routing.route
        assert routing.task_id is not None
        result = self.result(routing.task_id)
        if not result.state.final:
            task = self.get(routing.task_id)
            parked = f" for {task.parked_for.value}" if task.parked_for else ""
            why = f"the routing call had no answer in time, it was {task.state.value}{parked}"
            stopped = self.cancel(routing.task_id, reason="its answer comes too late")
            return single(routing.prompt, fallback=why).evolve(task_id=stopped.id, cost_usd=stopped.cost_usd)
        return decide(routing.prompt, routing.hint, result, model=model or self.config.model)

    def _route_options(self) -> TaskOptions:
        settings = self.config
        return TaskOptions(
            model=settings.route_model,
            tools=(),
            json_schema=SCHEMA,
            system_prompt=SYSTEM,
            permission_mode="plan",
            isolation="none",
            max_turns=_MOST_TURNS,
            max_budget_usd=min(settings.route_budget_usd, settings.task_budget_usd or settings.route_budget_usd),
            timeout_s=settings.route_timeout_s,
            priority=0,
            tags=(TAG,),
        )


def _models(parts: Sequence[AutoPart], wanted: TaskOptions) -> list[dict[str, Any]]:
    """The model of each part, where the caller chose none and the plan names one."""
    return [{"model": part.model} if wanted.model is None and part.model else {} for part in parts]
