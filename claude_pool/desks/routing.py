"""Auto-routing: one cheap call decides how a piece of work is cut.

The call is a task like any other: it waits for a slot, is capped, and is counted in the pool's money. It runs on the
pool's `route_model` without tools, in a directory of its own, and its answer has to satisfy a schema. Whatever goes
wrong with it, from a refused budget to nonsense in the answer, ends in a single task that says why; only a pool that
can't be reached, and a prompt that no task could have, are errors.
"""

from __future__ import annotations

from pydantic import ValidationError

from claude_pool.desks.tasks import TaskDesk
from claude_pool.errors import InvalidRequest, KeyReused, Refused
from claude_pool.models.base import explain
from claude_pool.models.options import TaskOptions
from claude_pool.models.route import AutoHint, AutoRoute, Routing
from claude_pool.models.task import Submitter
from claude_pool.routing import decide, single, without_asking
from claude_pool.routing_prompt import SCHEMA, SYSTEM, question
from claude_pool.text import one_line

TAG = "route"
"""Of every routing call."""
_MOST_TURNS = 4
"""The answer is one call of the model; the rest is for an answer that did not satisfy the schema."""


class RoutingDesk(TaskDesk):
    """The verbs for plans."""

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
            why = f"the routing call had no answer in time, it was {result.state.value}"
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
