"""Fan-outs: the same at the same time, or N chains side by side; partial results always kept."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from claude_pool.chain import plan_chain
from claude_pool.desks.chains import ChainDesk, Steps, chain_options, chain_steps
from claude_pool.desks.graphs import branch_progress, branch_result, parted, run_ms, together, valid
from claude_pool.errors import InvalidRequest, NotFound
from claude_pool.fanout import NodeList, Site, digest_of, from_template, plan_fan_out, plan_group
from claude_pool.ids import ids_from, kind_of
from claude_pool.models.chain import SKIPPED, ChainOptions, ChainResult
from claude_pool.models.events import LogEntry
from claude_pool.models.fanout import (
    MOST_BRANCHES,
    Branch,
    BranchProgress,
    BranchResult,
    FanOut,
    FanOutProgress,
    FanOutResult,
    FanOutSubmitted,
)
from claude_pool.models.graph import Graph, Outcome, ParentNode, Whole
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import Task, TaskResult, TaskState

Branches = FanOut | Sequence[str | Branch | Mapping[str, Any]]
Chains = Mapping[str, Steps] | Sequence[Steps]


class FanOutDesk(ChainDesk):
    """The verbs for fan-outs."""

    def fan_out(
        self,
        branches: Branches,
        options: TaskOptions | None = None,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> FanOutSubmitted:
        """Hand in independent pieces of work and return at once with all ids, in input order.

        Loose fields are those of FanOut (`policy`, `max_parallel`, `gather`, `budget_usd` …) or of TaskOptions for all
        branches; `retries` is short for a failure policy with so many. With an idempotency key, a repeated call gives
        the same fan-out. Raises InvalidRequest, PoolDrained, KeyReused, Unreachable.
        """
        asked = self._fan(branches, options, fields)
        ids = ids_from(idempotency_key, kind="fan-out")
        fan_id = ids("f")
        graph = Graph(nodes=tuple(plan_fan_out(fan_id, asked, self._site(ids))))
        return FanOutSubmitted(
            fan_out_id=fan_id,
            state=self._launch(graph, key=idempotency_key),
            task_ids=graph.children(fan_id),
            labels=tuple(asked.label_of(number) for number in range(len(asked.branches))),
            gather_id=graph.root.gather,
        )

    def run_fan_out(
        self, branches: Branches, options: TaskOptions | None = None, *, wait_s: float | None = None, **fields: Any
    ) -> FanOutResult:
        """Hand in a fan-out and wait for all of it. After `wait_s`, or when it waits for somebody: what there is."""
        fan_id = self.fan_out(branches, options, **fields).fan_out_id
        self.wait([fan_id], timeout_s=wait_s)
        return self.fan_out_result(fan_id)

    def fan_out_template(
        self, template: str, targets: Sequence[str], options: TaskOptions | None = None, **fields: Any
    ) -> FanOutSubmitted:
        """The same prompt over many targets: `fan_out_template("audit {target}", paths)`. Labels are the targets."""
        return self.fan_out(from_template(template, targets), options, **fields)

    def fan_out_chains(
        self, chains: Chains, options: ChainOptions | None = None, *, idempotency_key: str | None = None, **fields: Any
    ) -> FanOutSubmitted:
        """Hand in chains side by side; a mapping's keys are their labels. `task_ids` are the chains' ids.

        Loose fields are those of ChainOptions and TaskOptions, for every chain; budget and time limit are for the
        whole. `policy`, `quorum` and `max_parallel` are those of FanOut. Raises InvalidRequest, PoolDrained.
        """
        shape = {name: fields.pop(name) for name in ("policy", "quorum", "max_parallel") if name in fields}
        chosen = chain_options(options, fields)
        labelled = _labelled(chains)
        checked = {label: chain_steps(steps, self.config) for label, steps in labelled.items()}
        ids = ids_from(idempotency_key, kind="fan-out")
        fan_id = ids("f")
        spec = digest_of(chosen, *(step for steps in checked.values() for step in steps))
        top = _top(fan_id, labelled, chosen, shape).evolve(spec=spec)
        each = chosen.model_copy(update={"budget_usd": None, "timeout_s": None, "title": ""})

        def plan(chain_id: str, label: str, site: Site) -> NodeList:
            return plan_chain(chain_id, checked[label], each, site=site, parent=fan_id, name=label)

        graph = plan_group(fan_id, list(checked), plan, self._site(ids), top)
        return FanOutSubmitted(
            fan_out_id=fan_id,
            state=self._launch(graph, key=idempotency_key),
            task_ids=graph.children(fan_id),
            labels=tuple(checked),
        )

    def run_fan_out_chains(
        self, chains: Chains, options: ChainOptions | None = None, *, wait_s: float | None = None, **fields: Any
    ) -> FanOutResult:
        """The same, waiting for all of them."""
        fan_id = self.fan_out_chains(chains, options, **fields).fan_out_id
        self.wait([fan_id], timeout_s=wait_s)
        return self.fan_out_result(fan_id)

    def fan_out_progress(self, fan_out_id: str) -> FanOutProgress:
        """Where a fan-out and each of its branches is. Raises NotFound."""
        whole = self._fan_out(fan_out_id)
        tasks = self._tasks((*whole.children, *([whole.gather] if whole.gather else [])))
        chains = self.store.graph.get_many([id_ for id_ in whole.children if id_ not in tasks])
        return FanOutProgress(
            fan_out_id=fan_out_id,
            state=whole.waiting or whole.state,
            title=whole.title,
            total=whole.total,
            ended=whole.ended,
            completed=whole.ok,
            failed=whole.bad,
            open=whole.open,
            waiting=whole.waiting is not None,
            gather_id=whole.gather,
            gathering=whole.gathering and not whole.state.final,
            cost_usd=whole.cost_usd,
            budget_usd=whole.budget_usd,
            created_ms=whole.created_ms,
            ended_ms=whole.ended_ms,
            branches=tuple(
                branch_progress(tasks[id_]) if id_ in tasks else _chain_progress(chains[id_])
                for id_ in (*whole.children, *([whole.gather] if whole.gather else []))
            ),
            error=whole.error,
        )

    def fan_out_result(self, fan_out_id: str) -> FanOutResult:
        """What every branch brought back so far, in input order, whatever became of it. Raises NotFound."""
        whole = self._fan_out(fan_out_id)
        ids = [*whole.children, *([whole.gather] if whole.gather else [])]
        outcomes, tasks = self._outcomes(ids), self._tasks(ids)
        found = {id_: branch_result(one, tasks.get(id_)) for id_, one in outcomes.items()}
        chains = self.store.graph.get_many([id_ for id_ in whole.children if id_ not in found])
        found |= {id_: _of_chain(chain.name, self.chain_result(id_)) for id_, chain in chains.items()}
        return FanOutResult(
            fan_out_id=fan_out_id,
            state=whole.waiting or whole.state,
            title=whole.title,
            results=tuple(found[id_] for id_ in whole.children),
            gather=found.get(whole.gather or ""),
            cost_usd=whole.cost_usd,
            error=whole.error,
            run_ms=run_ms(whole),
        )

    def cancel_fan_out(self, fan_out_id: str, *, reason: str = "") -> Task:
        """End a fan-out: what runs is stopped, what waits is skipped, what is done is kept. Raises NotFound."""
        self._fan_out(fan_out_id)
        return self.cancel(fan_out_id, reason=reason)

    def result(self, task_id: str) -> TaskResult:
        """What a task, a chain or a fan-out brought back; so far, while it goes on. Raises NotFound.

        Of a chain the final output; of a fan-out the gather's, and without one all branches' between tags.
        """
        kind = kind_of(task_id)
        if kind == "chain":
            chain = self.chain_result(task_id)
            return _as_result(task_id, chain).evolve(output=chain.final_output, branch=chain.branch)
        if kind == "fan-out":
            fan = self.fan_out_result(task_id)
            output = fan.output if fan.gather else together([_as_outcome(one) for one in fan.results])
            return _as_result(task_id, fan).evolve(output=output, branch=fan.gather.branch if fan.gather else None)
        return super().result(task_id)

    def stream(self, task_id: str, *, after: str = "", follow: bool = True) -> Iterator[LogEntry]:
        """A task's log, or the logs of all steps or branches in their order, each under a line with its name.

        From the beginning, and then live until it is settled. Raises NotFound.
        """
        if kind_of(task_id) not in {"chain", "fan-out"}:
            return super().stream(task_id, after=after, follow=follow)
        return self._lines_of_all(self.store.graph.get(task_id), after=after, follow=follow)

    def _lines_of_all(self, whole: Whole, *, after: str, follow: bool) -> Generator[LogEntry]:
        for child in (*whole.children, *([whole.gather] if whole.gather else [])):
            named = kind_of(child) != "task"
            for entry in self.stream(child, after=after, follow=follow):
                if not named:
                    named = True
                    name = self.store.tasks.get(child).step
                    yield LogEntry(id=entry.id, at_ms=entry.at_ms, run_id=entry.run_id, kind="notice",
                                   text=f"{name} ({child})")  # fmt: skip
                yield entry

    def _fan_out(self, fan_out_id: str) -> Whole:
        if kind_of(fan_out_id) != "fan-out":
            raise NotFound(f"There is no fan-out {fan_out_id!r}.", hint="A fan-out's id begins with f-.")
        return self.store.graph.get(fan_out_id)

    def _fan(self, branches: Branches, options: TaskOptions | None, fields: dict[str, Any]) -> FanOut:
        """The checked fan-out from a record, or from prompts and loose fields."""
        retries = fields.pop("retries", None)
        own, rest = parted(FanOut, fields)
        if isinstance(branches, FanOut):
            base: dict[str, Any] = {name: getattr(branches, name) for name in branches.model_fields_set}
        else:
            base = {"branches": [dict(one) if isinstance(one, Mapping) else one for one in branches]}
        base |= own
        if retries is not None:
            base["failure_policy"] = {"retries": retries}
        general = base.get("options") or options or TaskOptions()
        before = {name: getattr(general, name) for name in general.model_fields_set}
        return valid(FanOut, {**base, "options": valid(TaskOptions, before | rest)})


def _labelled(chains: Chains) -> dict[str, Steps]:
    if isinstance(chains, Mapping):
        named = {str(label): steps for label, steps in chains.items()}
    else:
        named = {str(number): steps for number, steps in enumerate(chains, 1)}
    if not named:
        raise InvalidRequest("There is no chain to run.")
    if len(named) > MOST_BRANCHES:
        raise InvalidRequest(f"There are {len(named):,} chains; at most {MOST_BRANCHES:,} are possible.")
    return named


def _top(fan_id: str, chains: Mapping[str, Steps], options: ChainOptions, shape: Mapping[str, Any]) -> ParentNode:
    """The parent of chains side by side; its policy is checked as any fan-out's."""
    like = valid(FanOut, {"branches": [{"prompt": label or "-", "label": label or "-"} for label in chains], **shape})
    return ParentNode(
        id=fan_id,
        title=options.title or f"{len(chains)} chains: {', '.join(chains)}"[:200],
        tags=options.tags,
        policy=like.policy,
        quorum=like.quorum,
        max_parallel=like.max_parallel,
        total=len(chains),
        budget_usd=options.budget_usd,
        timeout_s=options.timeout_s,
    )


def _as_result(id_: str, found: ChainResult | FanOutResult) -> TaskResult:
    return TaskResult(task_id=id_, state=found.state, error=found.error, cost_usd=found.cost_usd, run_ms=found.run_ms,
                      partial=not found.state.final)  # fmt: skip


def _as_outcome(branch: BranchResult) -> Outcome:
    skipped = branch.state == SKIPPED
    state = TaskState.CANCELLED if skipped else TaskState(branch.state)
    result = TaskResult(task_id=branch.id, state=state, output=branch.output, branch=branch.branch)
    return Outcome(id=branch.id, name=branch.label, state=state, skipped=skipped, result=result, error=branch.error)


def _of_chain(label: str, result: ChainResult) -> BranchResult:
    return BranchResult(
        label=label,
        id=result.chain_id,
        state=result.state.value,
        output=result.final_output,
        error=result.error,
        cost_usd=result.cost_usd,
        branch=result.branch,
    )


def _chain_progress(chain: Whole) -> BranchProgress:
    return BranchProgress(
        name=chain.name,
        id=chain.id,
        state=chain.state.value,
        cost_usd=chain.cost_usd,
        started_ms=chain.started_ms,
        ended_ms=chain.ended_ms,
        progress=f"step {chain.ended + 1} of {chain.total}" if chain.ended < chain.total else "",
        error=chain.error,
    )
