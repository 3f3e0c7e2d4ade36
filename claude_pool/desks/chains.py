"""Chains: hand in, run, look at, stop, resume. The steps are tasks; the store moves them from one to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from claude_pool import chain_files
from claude_pool.chain import Kept, Spec, plan_chain
from claude_pool.chain_files import Found
from claude_pool.config import PoolConfig
from claude_pool.desks.graphs import (
    GraphDesk,
    branch_result,
    parted,
    progress_fields,
    result_fields,
    run_ms,
    together,
    valid,
)
from claude_pool.errors import Conflict, InvalidRequest, NotFound
from claude_pool.ids import ids_from, kind_of
from claude_pool.models.chain import (
    ChainOptions,
    ChainProgress,
    ChainResult,
    ChainStep,
    ChainSubmitted,
    StepProgress,
    StepResult,
)
from claude_pool.models.graph import Graph, Outcome, Whole
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import Task, TaskState
from claude_pool.skills import places, with_skill

Steps = Sequence[ChainStep | Mapping[str, Any]]


class ChainDesk(GraphDesk):
    """The verbs for chains."""

    def submit_chain(
        self, steps: Steps, options: ChainOptions | None = None, *, idempotency_key: str | None = None, **fields: Any
    ) -> ChainSubmitted:
        """Hand in a chain and return at once. Loose fields are those of ChainOptions, or of TaskOptions for all steps.

        Everything is checked before anything is stored. With an idempotency key, a repeated call gives the same chain.
        Raises InvalidRequest, PoolDrained, KeyReused, Unreachable.
        """
        ids = ids_from(idempotency_key, kind="chain")
        chain_id = ids("c")
        checked, chosen = chain_steps(steps, self.config), chain_options(options, fields)
        graph = Graph(nodes=tuple(plan_chain(chain_id, checked, chosen, site=self._site(ids))))
        state = self._launch(graph, key=idempotency_key)
        return ChainSubmitted(chain_id=chain_id, state=state, step_ids=graph.children(chain_id))

    def check_chain(self, steps: Steps, options: ChainOptions | None = None, **fields: Any) -> tuple[str, ...]:
        """The names of the steps of a chain that could be handed in; nothing is stored. Raises InvalidRequest."""
        checked, chosen = chain_steps(steps, self.config), chain_options(options, fields)
        plan_chain("c-0000000000", checked, chosen, site=self._site())
        return tuple(step.name for step in checked)

    def run_chain(
        self, steps: Steps, options: ChainOptions | None = None, *, wait_s: float | None = None, **fields: Any
    ) -> ChainResult:
        """Hand in a chain and wait for its result; one that failed is a result, too: look at its state.

        After `wait_s`, or when it waits for somebody, the result so far comes back; the chain goes on.
        """
        chain_id = self.submit_chain(steps, options, **fields).chain_id
        self.wait([chain_id], timeout_s=wait_s)
        return self.chain_result(chain_id)

    def named_chains(self, *, start: Path | None = None) -> list[Found]:
        """Reusable chains that can be seen from a directory (default: the working directory), with what is wrong."""
        found = chain_files.find(start or Path.cwd())
        return [self._checked(one) for one in found]

    def named_chain(self, name: str, *, start: Path | None = None) -> Found:
        """One reusable chain by its name or its file, with what is wrong. Raises NotFound."""
        return self._checked(chain_files.look(name, start or Path.cwd()))

    def _checked(self, found: Found) -> Found:
        if found.chain is None:
            return found
        try:
            self.check_chain(found.chain.steps, found.chain.options, args=found.chain.specimen())
        except InvalidRequest as error:
            return found.evolve(trouble=error.message)
        return found

    def submit_named_chain(
        self, name: str, args: Mapping[str, Any] | None = None, *, start: Path | None = None, **fields: Any
    ) -> ChainSubmitted:
        """Hand in a reusable chain by its name or its file. Raises NotFound, InvalidRequest, and as `submit_chain`."""
        chain = chain_files.load(name, start or Path.cwd())
        fields.setdefault("title", chain.options.title or chain.name)
        return self.submit_chain(chain.steps, chain.options, args=chain.arguments(args or {}), **fields)

    def chains(self, *, limit: int = 50, after: str | None = None) -> list[Whole]:
        """Chains and fan-outs that are no part of others, newest first."""
        return self.store.graph.list(limit=limit, after=after)

    def chain_progress(self, chain_id: str) -> ChainProgress:
        """Where a chain is: each step's state, cost and times, and what the current one says. Raises NotFound."""
        whole = self._chain(chain_id)
        tasks = self._tasks(whole.children)
        fans = self.store.graph.get_many([id_ for id_ in whole.children if id_ not in tasks])
        steps = tuple(
            StepProgress(**progress_fields(tasks[id_])) if id_ in tasks else _fan_progress(fans[id_])
            for id_ in whole.children
        )
        going = whole.state is TaskState.RUNNING and whole.ended < len(steps)
        current = steps[whole.ended] if going else None
        speaks = current is not None and current.state == TaskState.RUNNING and not current.fan_out
        return ChainProgress(
            chain_id=chain_id,
            state=whole.waiting or whole.state,
            title=whole.title,
            total_steps=len(steps),
            completed_steps=sum(step.state == TaskState.COMPLETED for step in steps),
            current_step=whole.ended if going else None,
            current_step_name=current.name if current else None,
            partial_output=self._partial_output(current.id) if current and speaks else "",
            waiting=whole.waiting is not None,
            steps=steps,
            cost_usd=whole.cost_usd,
            budget_usd=whole.budget_usd,
            created_ms=whole.created_ms,
            ended_ms=whole.ended_ms,
            error=whole.error,
        )

    def chain_result(self, chain_id: str) -> ChainResult:
        """What a chain brought back; of one that still runs, what there is so far. Raises NotFound."""
        whole = self._chain(chain_id)
        fans = self.store.graph.get_many([id_ for id_ in whole.children if id_.startswith("f-")], children=True)
        inner = [id_ for fan in fans.values() for id_ in (*fan.children, *([fan.gather] if fan.gather else []))]
        ids = [*whole.children, *inner]
        outcomes, tasks = self._outcomes(ids), self._tasks(ids)
        steps = tuple(
            _fan_step(fans[id_], outcomes, tasks) if id_ in fans else _step(outcomes[id_], tasks.get(id_))
            for id_ in whole.children
        )
        answered = [step for step in steps if step.state == TaskState.COMPLETED]
        branches = [step.branch for step in steps if step.branch is not None]
        return ChainResult(
            chain_id=chain_id,
            state=whole.waiting or whole.state,
            title=whole.title,
            steps=steps,
            final_output=answered[-1].output if answered else "",
            cost_usd=whole.cost_usd,
            error=whole.error,
            branch=branches[-1] if branches else None,
            run_ms=run_ms(whole),
        )

    def cancel_chain(self, chain_id: str, *, reason: str = "", after_step: bool = False) -> Task:
        """End a chain: now, or after the step that it is at. What has not begun is skipped. Harmless when it is over.

        An accepted cancel wins: the chain ends cancelled, whatever its step still brings. Raises NotFound.
        """
        self._chain(chain_id)
        reason = reason or "cancelled"
        self._ring(self.store.graph.cancel(chain_id, reason=reason, after_step=after_step)[1])
        return self.get(chain_id)

    def resume_chain(self, chain_id: str, *, prompts: Mapping[str, str] | None = None) -> ChainSubmitted:
        """Let a chain that failed or was cancelled go on at the step where it stopped; earlier outputs are kept.

        `prompts` replaces prompts of steps by their names, from there on. Raises NotFound, InvalidRequest, Conflict.
        """
        whole = self._chain(chain_id)
        if whole.state not in {TaskState.FAILED, TaskState.CANCELLED} or not whole.spec:
            what = f"is part of {whole.parent}" if whole.parent else f"is {whole.state}"
            raise Conflict(f"{chain_id} {what}; only a chain that failed or was cancelled can be resumed.")
        spec = Spec.model_validate_json(whole.spec)
        outcomes = self._outcomes(whole.children)
        fans = self.store.graph.get_many([id_ for id_ in whole.children if id_.startswith("f-")])
        start = _stopped_at(whole, outcomes, fans)
        kept = [
            Kept(id=id_, source=(fans[id_].gather or id_) if id_ in fans else id_) for id_ in whole.children[:start]
        ]
        steps = _edited(spec.steps, prompts or {}, start)
        graph = Graph(nodes=tuple(plan_chain(chain_id, steps, spec.options, site=self._site(), kept=kept)))
        self._ring(self.store.graph.resume(chain_id, graph, start=start))
        again = self.store.graph.get(chain_id)
        return ChainSubmitted(chain_id=chain_id, state=again.state, step_ids=again.children)

    def _chain(self, chain_id: str) -> Whole:
        if kind_of(chain_id) != "chain":
            raise NotFound(f"There is no chain {chain_id!r}.", hint="A chain's id begins with c-.")
        return self.store.graph.get(chain_id)


def chain_steps(steps: Steps, config: PoolConfig) -> list[ChainStep]:
    """Steps, from themselves or from plain data, in which `skill` names a skill. Raises InvalidRequest, NotFound."""
    where = places(config.repo, config.home)
    return [valid(ChainStep, step if isinstance(step, ChainStep) else with_skill(step, *where)) for step in steps]


def chain_options(options: ChainOptions | None, fields: Mapping[str, Any]) -> ChainOptions:
    """One set of options from a record and loose fields. Raises InvalidRequest."""
    own, rest = parted(ChainOptions, fields)
    base = options or ChainOptions()
    chosen = {name: getattr(base, name) for name in base.model_fields_set} | own
    if rest:
        general = chosen.get("step_options") or TaskOptions()
        before = {name: getattr(general, name) for name in general.model_fields_set}
        chosen["step_options"] = valid(TaskOptions, before | rest)
    return valid(ChainOptions, chosen)


def _stopped_at(whole: Whole, outcomes: Mapping[str, Outcome], fans: Mapping[str, Whole]) -> int:
    """The first step that is to be done again: the one that ended the chain, else the first that never began."""
    if not whole.ended:
        return 0
    last = whole.children[whole.ended - 1]
    state = fans[last].state if last in fans else outcomes[last].state
    done = state is TaskState.COMPLETED or (last in outcomes and outcomes[last].skipped)
    return whole.ended if done else whole.ended - 1


def _edited(steps: Sequence[ChainStep], prompts: Mapping[str, str], start: int) -> list[ChainStep]:
    names = [step.name for step in steps]
    for name in prompts:
        if name not in names:
            raise InvalidRequest(f"There is no step {name!r}; there are {', '.join(names)}.")
        if names.index(name) < start:
            raise InvalidRequest(f"Step {name!r} is done already; the chain goes on at {names[start]!r}.")
        if steps[names.index(name)].prompt is None:
            raise InvalidRequest(f"Step {name!r} is a fan-out, so it has no prompt of its own.")
    changed = [{"prompt": prompts[step.name]} if step.name in prompts else {} for step in steps]
    return [
        valid(ChainStep, {**{name: getattr(step, name) for name in step.model_fields_set}, **change})
        for step, change in zip(steps, changed, strict=True)
    ]


def _step(outcome: Outcome, task: Task | None) -> StepResult:
    fields = result_fields(outcome, task)
    return StepResult(name=outcome.name, vars=outcome.vars, retries=outcome.note.failures, **fields)


def _fan_step(fan: Whole, outcomes: Mapping[str, Outcome], tasks: Mapping[str, Task]) -> StepResult:
    branches = [outcomes[id_] for id_ in fan.children if id_ in outcomes]
    gather = outcomes.get(fan.gather or "")
    result = gather.result if gather else None
    return StepResult(
        name=fan.name,
        label=fan.name,
        id=fan.id,
        state="skipped" if fan.error and fan.error.code == "skipped" else fan.state.value,
        output=(result.output if result else "") if fan.gather else together(branches),
        structured_output=result.structured_output if result else None,
        error=fan.error,
        cost_usd=fan.cost_usd,
        branch=result.branch if result else None,
        vars=gather.vars if gather else {},
        branches=tuple(branch_result(one, tasks.get(one.id)) for one in branches),
    )


def _fan_progress(fan: Whole) -> StepProgress:
    return StepProgress(
        name=fan.name,
        id=fan.id,
        fan_out=True,
        state="skipped" if fan.error and fan.error.code == "skipped" else fan.state.value,
        cost_usd=fan.cost_usd,
        started_ms=fan.started_ms,
        ended_ms=fan.ended_ms,
        progress="gathering" if fan.gathering and not fan.state.final else f"{fan.ended} of {fan.total}",
        error=fan.error,
    )
