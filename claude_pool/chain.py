"""Chains as graphs; what a step sees of the others; what its failure means. Pure.

    plan_chain     steps and options in, nodes for the store out; everything that makes no sense is refused here
    Sight          what markers and conditions of one step stand for
    take_vars      the values that later steps were promised
    after_failure  retry, recover, or let the failure stand

A step is a task: its prompt is kept as a template and filled in by the slot that starts it, from what the store says
then. So a step that is repeated, on whatever node, sees the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from claude_pool.conditions import check_condition
from claude_pool.errors import InvalidRequest
from claude_pool.fanout import NodeList, Site, check_vars, gathered, looked_at, plan_fan_out, request_at
from claude_pool.json_path import Missing, take
from claude_pool.models.base import Record
from claude_pool.models.chain import MOST_NODES, MOST_STEPS, ChainOptions, ChainStep
from claude_pool.models.fanout import MOST_NESTED, StepFailurePolicy
from claude_pool.models.graph import Inputs, Outcome, ParentNode, StepNote, StepPlan, TaskNode
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import ErrorCode, ParkedFor, TaskError, TaskResult, TaskState
from claude_pool.models.verdict import CountsAs, Verdict
from claude_pool.retry import backoff_ms
from claude_pool.templates import BRANCHES, ERROR, PREVIOUS, Scope, Value, as_text, with_args

NEVER_REPEATED: Final = frozenset(
    {
        ErrorCode.CANCELLED,
        ErrorCode.SKIPPED,
        ErrorCode.DEAD_LETTER,
        ErrorCode.BUDGET_EXHAUSTED,
        ErrorCode.CLI_MISSING,
        ErrorCode.DRAINED,
    }
)
"""Failures that a repeat can't mend, or must not be repeated."""
ERROR_CHARS: Final = 4_000


class Kept(Record):
    """A step that is done already when a chain is resumed: its id, and the task or fan-out that has its output."""

    id: str
    source: str


class Spec(Record):
    """What was asked for, kept with the chain: enough to plan it again."""

    steps: tuple[ChainStep, ...]
    options: ChainOptions


# -- planning


def plan_chain(
    chain_id: str,
    steps: Sequence[ChainStep],
    options: ChainOptions,
    *,
    site: Site,
    parent: str | None = None,
    name: str = "",
    kept: Sequence[Kept] = (),
) -> NodeList:
    """The nodes of a chain, its own first; steps that are `kept` have none. Raises InvalidRequest."""
    _check_shape(steps)
    spec = Spec(steps=tuple(steps), options=options)
    if options.review:
        steps = [*steps[:-1], _reviewed(steps[-1])]
    site = site.within(
        chain=chain_id,
        scopes=(*site.scopes, chain_id),
        options=(*site.options, options.step_options, _for_all(options)),
        tags=(*site.tags, *options.tags),
    )
    nodes: NodeList = [
        ParentNode(
            id=chain_id,
            parent=parent,
            name=name,
            title=options.title or name or " → ".join(step.name for step in steps)[:200],
            tags=site.tags,
            args=dict(options.args),
            total=len(steps),
            budget_usd=options.budget_usd,
            timeout_s=options.timeout_s,
            spec=spec.model_dump_json(exclude_unset=True) if parent is None else "",
        )
    ]
    sources: dict[str, str] = {}
    known: dict[str, frozenset[str]] = {}
    for number, step in enumerate(steps):
        here = site.within(
            place=f"{site.place + ', ' if site.place else ''}step {step.name!r}",
            sources=dict(sources),
            scope=Scope(
                args=frozenset(options.args),
                steps=dict(known),
                later=frozenset(one.name for one in steps[number:]),
                previous=number > 0,
            ),
        )
        if number < len(kept):
            source = kept[number].source
        else:
            planned, source = _plan_step(chain_id, step, here, previous=_previous(steps, number, sources))
            nodes += planned
        sources[step.name] = source
        gather = step.fan_out.gather if step.fan_out else None
        known[step.name] = frozenset(gather.output_vars if gather else step.output_vars)
    return nodes


def _reviewed(step: ChainStep) -> ChainStep:
    """The last step of a chain that is reviewed as a whole: it always comes, and somebody looks at what it says."""
    if step.when is not None or step.failure_policy.then != "stop":
        raise InvalidRequest(
            f"The last step, {step.name!r}, may be passed over, so nobody would review the chain.",
            hint="Add a last step that always runs, or give gates of their own to the steps.",
        )
    if step.fan_out is None:
        return step.evolve(options=step.options.evolve(review=True))
    if step.fan_out.gather is None:
        raise InvalidRequest(f"The last step, {step.name!r}, is a fan-out without a gather that could be reviewed.")
    gather = step.fan_out.gather
    reviewed = gather.evolve(options=gather.options.evolve(review=True))
    return step.evolve(fan_out=step.fan_out.evolve(gather=reviewed))


def _check_shape(steps: Sequence[ChainStep]) -> None:
    if not steps:
        raise InvalidRequest("A chain needs at least one step.")
    if len(steps) > MOST_STEPS:
        raise InvalidRequest(f"The chain has {len(steps):,} steps; at most {MOST_STEPS:,} are possible.")
    if twice := [name for name, times in Counter(step.name for step in steps).items() if times > 1]:
        raise InvalidRequest(f"Two steps have the name {twice[0]!r}.", hint="Later steps could not tell them apart.")
    for step in steps:
        if step.fan_out is not None and len(step.fan_out.branches) > MOST_NESTED:
            raise InvalidRequest(f"Step {step.name!r} has more than {MOST_NESTED:,} branches.")
    nodes = sum(len(step.fan_out.branches) if step.fan_out else 1 for step in steps)
    if nodes > MOST_NODES:
        raise InvalidRequest(f"The chain has {nodes:,} steps and branches; at most {MOST_NODES:,} are possible.")


def _for_all(options: ChainOptions) -> TaskOptions:
    isolation = options.isolation.value if options.isolation else None
    chosen: dict[str, Any] = {"isolation": isolation, "repo": options.repo, "base_ref": options.base_ref}
    return TaskOptions(**{name: value for name, value in chosen.items() if value is not None})


def _own_options(step: ChainStep) -> TaskOptions:
    return step.options.evolve(review=True) if step.gate and step.gate.review else step.options


def _gathers(step: ChainStep) -> bool:
    return step.fan_out is not None and step.fan_out.gather is not None


def _previous(steps: Sequence[ChainStep], number: int, sources: Mapping[str, str]) -> str | None:
    """The task whose session the step may continue."""
    before = steps[number - 1] if number else None
    return sources[before.name] if before and (before.fan_out is None or _gathers(before)) else None


def _plan_step(chain_id: str, step: ChainStep, site: Site, *, previous: str | None) -> tuple[NodeList, str]:
    """The nodes of one step, and what has its output."""
    if step.fan_out is not None:
        fan_id = site.new_id("f")
        site = site.within(options=(*site.options, step.options))
        fan = step.fan_out
        nodes = plan_fan_out(fan_id, fan, site, parent=chain_id, name=step.name)
        top = nodes[0]
        assert isinstance(top, ParentNode)
        nodes[0] = top.evolve(on_fail=step.failure_policy.then)
        return nodes, top.gather or fan_id
    assert step.prompt is not None
    check_vars(step.output_vars, where=site.place)
    also = check_condition(step.when, site.scope, where=f"{site.place}, when") if step.when else frozenset[str]()
    plan = looked_at(site, step.prompt, step.failure_policy, also=also)
    if step.gate is not None and step.gate.command is not None:
        try:
            with_args(step.gate.command, dict.fromkeys(site.scope.args, ""))
        except InvalidRequest as error:
            raise InvalidRequest(f"{site.place}, gate: {error.message}") from None
    if step.session == "previous" and previous is None:
        raise InvalidRequest(f"{site.place}: there is no session before it that could be continued.")
    node = TaskNode(
        id=site.new_id("t"),
        parent=chain_id,
        request=request_at(site, step.prompt, _own_options(step), title=step.name),
        plan=plan.evolve(
            name=step.name,
            output_vars=step.output_vars,
            when=step.when,
            gate=step.gate,
            session=step.session,
        ),
        scopes=site.scopes,
        session_of=previous if step.session == "previous" else None,
    )
    return [node], node.id


# -- what a step sees


class Sight:
    """What the markers of one step stand for."""

    def __init__(
        self,
        plan: StepPlan,
        inputs: Inputs,
        *,
        boundary: str,
        most_bytes: int,
        own_file: Callable[[TaskResult], str | None] = lambda _: None,
        error: str = "",
    ) -> None:
        self._plan = plan
        self._inputs = inputs
        self._boundary = boundary
        self._most_bytes = most_bytes
        self._own_file = own_file
        self._error = error

    def value_of(self, marker: str) -> Value:
        """For `templates.render`."""
        if marker == BRANCHES and self._plan.fan_out is not None:
            return self._all(self._inputs.outcomes.get(self._plan.fan_out, ()))
        if marker == PREVIOUS:
            return self._output(self._inputs.previous)
        head, *rest = marker.split(".")
        if head == "steps" and rest[1] == "output":
            return self._output(self._plan.inputs.get(rest[0]))
        return Value(text=as_text(self.look(marker)))

    def look(self, marker: str) -> Any:
        """For `conditions.holds`: the value as JSON has it. What is not there is empty."""
        if marker == ERROR:
            return self._error
        if marker == PREVIOUS:
            return self._output(self._inputs.previous).text
        head, *rest = marker.split(".")
        if head == "args":
            return self._inputs.args.get(rest[0], "")
        if head != "steps":
            return self.value_of(marker).text
        return self._of_step(self._plan.inputs.get(rest[0]), rest[1])

    def _of_step(self, source: str | None, name: str) -> Any:
        outcomes = self._inputs.outcomes.get(source or "", ())
        if name == "output":
            return self._output(source).text
        if name == "state":
            words = {one.word for one in outcomes}
            return words.pop() if len(words) == 1 else "failed" if words else ""
        if name == "error":
            return "\n".join(one.error.message for one in outcomes if one.error and not one.skipped)
        return outcomes[0].vars.get(name, "") if outcomes else ""

    def _output(self, source: str | None) -> Value:
        outcomes = self._inputs.outcomes.get(source or "", ())
        if source is not None and source.startswith("f-"):
            return self._all(outcomes)
        if not outcomes or outcomes[0].result is None:
            return Value(text="")
        result = outcomes[0].result
        if result.output_path is None:
            return Value(text=result.output)
        return Value(text=result.output, path=self._own_file(result) or "", size=result.output_bytes)

    def _all(self, outcomes: Sequence[Outcome]) -> Value:
        return gathered(outcomes, boundary=self._boundary, most_bytes=self._most_bytes)


def told_again(prompt: str, note: StepNote, policy: StepFailurePolicy) -> str:
    """The prompt of a repeat: with what went wrong, unless the policy keeps that from the model."""
    if not note.failures or not policy.show_error or note.recovering:
        return prompt
    return (
        f"{prompt}\n\n---\nThis was tried before and failed. What earlier tries left in the workspace is still there. "
        f"What went wrong:\n\n{note.error}"
    )


def escalated(options: TaskOptions, note: StepNote, policy: StepFailurePolicy) -> TaskOptions:
    """The options of a repeat: with the stronger model or effort, and room for the fresh starts that were granted."""
    if not note.failures:
        return options
    chosen = {"model": policy.escalate_model, "effort": policy.escalate_effort}
    changes: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    return options.evolve(**changes, max_attempts=min(options.max_attempts + note.failures, 100))


# -- what its end means


def take_vars(plan: StepPlan, result: TaskResult) -> tuple[dict[str, Any], TaskError | None]:
    """The step's output_vars from its answer, and what is wrong when one is missing that has no default."""
    found: dict[str, Any] = {}
    missing: list[str] = []
    for name, variable in plan.output_vars.items():
        try:
            found[name] = take(variable.path, result.output, result.structured_output)
        except Missing as error:
            found[name] = variable.default
            if variable.required:
                missing.append(f"{name} (at {variable.path}): {error}")
    if not missing:
        return found, None
    return found, TaskError(
        code=ErrorCode.OUTPUT_MISSING,
        message=f"The answer lacks what later steps need: {'; '.join(missing)}."[:ERROR_CHARS],
        hint="A json_schema for the step makes the model give it.",
    )


def after_failure(verdict: Verdict, plan: StepPlan, note: StepNote, *, jitter: float) -> Verdict:
    """The verdict, with a repeat in the place of a failure as long as the step's policy has one."""
    if verdict.to is not TaskState.FAILED:
        return verdict.evolve(note=note)
    error = verdict.error or TaskError(code=ErrorCode.EXECUTION, message=verdict.reason or "it failed")
    policy = plan.policy
    failed = note.evolve(failures=note.failures + 1, error=_told(error))
    if error.code in NEVER_REPEATED or note.recovering:
        return verdict.evolve(note=failed)
    if failed.failures > policy.retries:
        if policy.recovery_prompt is None:
            return verdict.evolve(note=failed)
        failed = failed.evolve(recovering=True)
    why = f"{error.code}, {'recovery' if failed.recovering else f'retry {failed.failures} of {policy.retries}'}"
    repeat = verdict.evolve(
        to=TaskState.PENDING,
        reason=why,
        counts_as=CountsAs.ATTEMPT,
        next_kind="attempt",
        note=failed,
        result=_unfinished(verdict.result),
    )
    if not policy.backoff_s:
        return repeat
    delay_ms = backoff_ms(
        note.failures, base_s=policy.backoff_s, max_s=max(policy.max_backoff_s, policy.backoff_s), fraction=jitter
    )
    return repeat.evolve(to=TaskState.PARKED, parked_for=ParkedFor.RETRY, delay_ms=delay_ms)


def _told(error: TaskError) -> str:
    """What a model is told of a failure."""
    text = f"{error.message}\n{error.detail}".strip()
    return text if len(text) <= ERROR_CHARS else text[:ERROR_CHARS]


def _unfinished(result: TaskResult | None) -> TaskResult | None:
    return None if result is None else result.evolve(partial=True)


def passed_over(reason: str) -> Verdict:
    """The verdict of a step whose condition does not hold: nothing was started and nothing was spent."""
    error = TaskError(code=ErrorCode.SKIPPED, message=reason)
    return Verdict(to=TaskState.CANCELLED, reason=reason, error=error, skipped=True)
