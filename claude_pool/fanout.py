"""Fan-outs as graphs, and what a gather is told of the branches. Pure.

`plan_fan_out` turns a `FanOut` into nodes for the store: the parent first, then each branch, then the gather. The same
code plans a fan-out that stands by itself and one that is a step of a chain; the difference is its `Site`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import ValidationError

from claude_pool.errors import InvalidRequest
from claude_pool.json_path import parse
from claude_pool.models.base import Record, explain
from claude_pool.models.fanout import FanOut, OutputVar, StepFailurePolicy
from claude_pool.models.graph import Graph, Outcome, ParentNode, StepPlan, TaskNode
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import Submitter, TaskRequest, TaskState
from claude_pool.templates import BRANCHES, ERROR, PREVIOUS, Scope, Value, check, fill, markers

NodeList = list[ParentNode | TaskNode]

_LEAST_SHARE: Final = 400
"""Bytes of each branch that a gather's prompt shows, however many there are."""
_FENCE: Final = 160
"""Bytes around each."""
_SHARES: Final = 8
"""All branches together may take this many times what a single answer may."""


@dataclass(frozen=True)
class Site:
    """Where nodes are planned: who asks, what may be looked at, what they are paid from."""

    new_id: Callable[[str], str]
    settle: Callable[[TaskOptions], TaskOptions]
    """The pool's defaults in the gaps. Raises InvalidRequest."""
    submitter: Submitter = field(default_factory=Submitter)
    scopes: tuple[str, ...] = ()
    options: tuple[TaskOptions, ...] = ()
    """From the most general to the most particular; a node's own come last."""
    tags: tuple[str, ...] = ()
    chain: str | None = None
    scope: Scope = field(default_factory=lambda: Scope(previous=False))
    sources: dict[str, str] = field(default_factory=dict[str, str])
    """Earlier step → the task or fan-out that has its output."""
    place: str = ""
    """For messages: `step 'build'`."""

    def within(self, **changes: Any) -> Site:
        """The same with something changed."""
        return replace(self, **changes)


def merged(options: Sequence[TaskOptions]) -> TaskOptions:
    """One set of options; what is chosen later wins. Raises InvalidRequest."""
    chosen: dict[str, Any] = {}
    for one in options:
        chosen |= {name: getattr(one, name) for name in one.model_fields_set}
    try:
        return TaskOptions(**chosen)
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from None


def request_at(site: Site, prompt: str, own: TaskOptions, *, title: str) -> TaskRequest:
    """What the store is asked to run for one node. Raises InvalidRequest."""
    options = site.settle(merged([*site.options, own]))
    if options.session != "fresh":
        raise InvalidRequest(f"{site.place}: the option session is not for chains and fan-outs.",
                             hint='A step takes session = "previous".')  # fmt: skip
    tags = tuple(dict.fromkeys((*site.tags, *options.tags)))
    try:
        options = options.evolve(tags=tags) if tags else options
        return TaskRequest(prompt=prompt, options=options, submitter=site.submitter, title=title[:200])
    except ValidationError as error:
        raise InvalidRequest(f"{site.place}: {explain(error)}") from None


def looked_at(site: Site, prompt: str, policy: StepFailurePolicy, *, also: frozenset[str] = frozenset()) -> StepPlan:
    """The part of a plan that says which outputs are needed. Raises InvalidRequest for markers that mean nothing."""
    found = check(prompt, site.scope, where=site.place) | also
    if policy.recovery_prompt is not None:
        wider = site.scope.evolve(error=True)
        found |= check(policy.recovery_prompt, wider, where=f"{site.place}, recovery_prompt") - {ERROR}
    names = sorted({marker.split(".")[1] for marker in found if marker.startswith("steps.")})
    return StepPlan(
        name="",
        chain=site.chain,
        inputs={name: site.sources[name] for name in names},
        previous=PREVIOUS in found,
        policy=policy,
    )


def check_vars(variables: dict[str, OutputVar], *, where: str) -> None:
    """Raises InvalidRequest for a path that can't be read."""
    for name, variable in variables.items():
        if name in {"output", "state", "error"}:
            raise InvalidRequest(f"{where}: {name!r} can't be an output_var, every step has it already.")
        try:
            parse(variable.path)
        except ValueError as error:
            raise InvalidRequest(f"{where}, output_var {name!r}: {error}.") from None


def plan_fan_out(fan_id: str, fan: FanOut, site: Site, *, parent: str | None = None, name: str = "") -> NodeList:
    """The nodes of one fan-out. Raises InvalidRequest."""
    inner = site.within(
        scopes=(*site.scopes, fan_id), options=(*site.options, fan.options), tags=(*site.tags, *fan.tags)
    )
    gather_id = site.new_id("t") if fan.gather else None
    top = ParentNode(
        id=fan_id,
        parent=parent,
        name=name,
        title=fan.title or name or fan.branches[0].prompt[:200],
        tags=inner.tags,
        policy=fan.policy,
        quorum=fan.quorum,
        max_parallel=fan.max_parallel,
        total=len(fan.branches),
        gather=gather_id,
        budget_usd=fan.budget_usd,
        timeout_s=fan.timeout_s,
        on_fail=fan.failure_policy.then,
        spec=digest_of(fan) if parent is None else "",
    )
    nodes: NodeList = [top]
    nodes += [_branch(fan_id, fan, number, inner) for number in range(len(fan.branches))]
    return nodes if gather_id is None else [*nodes, _gather(gather_id, fan_id, fan, inner)]


def digest_of(*parts: Record) -> str:
    """What was asked for, in short: a repeat with the same idempotency key is compared by it."""
    text = "\n".join(part.model_dump_json(exclude_unset=True) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()


def _branch(fan_id: str, fan: FanOut, number: int, site: Site) -> TaskNode:
    branch, label = fan.branches[number], fan.label_of(number)
    within = site.chain is not None
    site = site.within(place=f"{site.place + ', ' if site.place else ''}branch {label!r}")
    policy = fan.failure_policy
    if within:
        plan = looked_at(site, branch.prompt, policy)
    else:
        if policy.recovery_prompt is not None:
            check(policy.recovery_prompt, Scope(previous=False, error=True), where="recovery_prompt")
        plan = StepPlan(name="", template=False, policy=policy)
    return TaskNode(
        id=site.new_id("t"),
        parent=fan_id,
        request=request_at(site, branch.prompt, branch.options, title=branch.label or ""),
        plan=plan.evolve(name=label, beside=within),
        scopes=site.scopes,
    )


def _gather(gather_id: str, fan_id: str, fan: FanOut, site: Site) -> TaskNode:
    gather = fan.gather
    assert gather is not None
    site = site.within(place=f"{site.place + ', ' if site.place else ''}gather", scope=site.scope.evolve(branches=True))
    check_vars(gather.output_vars, where=site.place)
    asks = BRANCHES in markers(gather.prompt)
    prompt = gather.prompt if asks else f"{gather.prompt}\n\nThe answers of all branches:\n\n{{{BRANCHES}}}"
    plan = looked_at(site, prompt, gather.failure_policy)
    return TaskNode(
        id=gather_id,
        parent=fan_id,
        request=request_at(site, prompt, gather.options, title="gather"),
        plan=plan.evolve(name="gather", fan_out=fan_id, output_vars=gather.output_vars),
        scopes=site.scopes,
        gathers=True,
    )


def plan_group(
    fan_id: str, labels: Sequence[str], plan_one: Callable[[str, str, Site], NodeList], site: Site, shape: ParentNode
) -> Graph:
    """A fan-out whose branches are chains: `plan_one` plans each, with its id, its label and where it stands."""
    inner = site.within(scopes=(*site.scopes, fan_id))
    nodes: NodeList = [shape]
    for label in labels:
        nodes += plan_one(inner.new_id("c"), label, inner.within(place=f"chain {label!r}"))
    return Graph(nodes=tuple(nodes))


def from_template(template: str, targets: Sequence[str]) -> list[dict[str, str]]:
    """One branch for each target, labelled with it. Raises InvalidRequest."""
    if "target" not in markers(template):
        raise InvalidRequest("The template does not say {target}, so every branch would be the same.")
    labels = [target.strip()[:190] or "(empty)" for target in targets]
    twice = {label for label in labels if labels.count(label) > 1} if len(set(labels)) < len(labels) else set[str]()
    return [
        {
            "prompt": fill(template, {"target": target}),
            "label": f"{label} #{number}" if label in twice else label,
        }
        for number, (target, label) in enumerate(zip(targets, labels, strict=True), 1)
    ]


def gathered(outcomes: Sequence[Outcome], *, boundary: str, most_bytes: int) -> Value:
    """What `{branches}` stands for: each answer between tags that no branch could know when it was written.

    When they are too long together, each is shown to the same length and the whole goes to a file.
    """
    whole = "\n\n".join(_fenced(one, boundary, None) for one in outcomes)
    size = len(whole.encode(errors="replace"))
    if size <= most_bytes:
        return Value(text=whole)
    share = max(_LEAST_SHARE, min(most_bytes, most_bytes * _SHARES // max(len(outcomes), 1) - _FENCE))
    shown: list[str] = []
    room = most_bytes * _SHARES
    for number, one in enumerate(outcomes):
        piece = _fenced(one, boundary, share)
        room -= len(piece.encode(errors="replace"))
        if room < 0 and shown:
            shown.append(f"[… and {len(outcomes) - number:,} branches more …]")
            break
        shown.append(piece)
    return Value(text=whole, size=size, shown="\n\n".join(shown))


def _fenced(one: Outcome, boundary: str, most: int | None) -> str:
    tag = f"branch-{boundary}"
    label = one.name.replace('"', "'")
    branch = one.result.branch if one.result else None
    on = f' branch="{branch.branch}"' if branch else ""
    return f'<{tag} label="{label}" state="{one.word}"{on}>\n{_cut(said(one), most)}\n</{tag}>'


def _cut(text: str, most: int | None) -> str:
    data = text.encode(errors="replace")
    if most is None or len(data) <= most:
        return text
    return f"{data[:most].decode(errors='ignore')}\n[… {len(data) - most:,} bytes more …]"


def said(one: Outcome) -> str:
    """A branch's answer; of one that failed, what is known."""
    output = one.result.output if one.result else ""
    if one.state is TaskState.COMPLETED or one.error is None:
        return output
    why = f"[{one.error.code}: {one.error.message}]"
    return f"{why}\n{output}" if output else why
