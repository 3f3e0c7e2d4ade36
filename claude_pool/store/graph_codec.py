"""Chains and fan-outs as the store's scripts read and write them. The rules are those of `codec`.

A parent is a hash beside those of the tasks; a step or a branch is a task with some fields more: who its parent is,
where it stands there, what becomes of the parent when it fails, and the plan that its slot carries out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import ValidationError

from claude_pool.errors import PoolError
from claude_pool.keys import QUEUE
from claude_pool.models.base import to_micros
from claude_pool.models.graph import GATHER, Graph, Outcome, ParentNode, StepNote, StepPlan, TaskNode, Whole
from claude_pool.models.task import TaskError, TaskResult, TaskState
from claude_pool.store import codec

PARENT: Final = (
    "state", "parent", "position", "on_fail", "policy", "quorum", "cap", "total", "gather", "timeout_ms",
    "phase", "outcome", "ended", "ok", "bad", "passed", "open", "next", "swept", "held", "waits_as",
    "stopping", "halt", "reason", "code", "previous", "skipped",
)  # fmt: skip
"""Fields of a parent that transitions look at; small ones only."""

WHOLE: Final = (
    "state", "parent", "step", "title", "tags", "args", "gather", "phase", "total", "ended", "ok", "bad", "open",
    "held", "waits_as", "stopping", "error", "created_ms", "started_ms", "since_ms", "ended_ms", "event_id", "spec",
)  # fmt: skip
"""Fields of a `Whole`."""

OUTCOME: Final = ("state", "step", "skipped", "result", "vars", "error", "note")
"""Fields of a task that others look at."""

_NUMBERS: Final = ("total", "ended", "ok", "bad", "open", "created_ms", "since_ms")
_TEXTS: Final = ("parent", "title", "gather", "stopping", "started_ms", "ended_ms", "event_id", "spec")


def node_args(node: ParentNode | TaskNode) -> list[str]:
    """A node as `add_nodes` in `graph.lua` reads it."""
    fields = _task_fields(node) if isinstance(node, TaskNode) else _parent_fields(node)
    kind = "t" if isinstance(node, TaskNode) else "p"
    place = GATHER if isinstance(node, TaskNode) and node.gathers else ""
    return [kind, node.id, node.parent or "", place, str(len(fields)), *fields]


def _task_fields(node: TaskNode) -> list[str]:
    fields = codec.pairs(codec.new_fields(node.request, queue=QUEUE))
    fields |= {
        "scopes": ",".join(("pool", *node.scopes)),
        "step": node.plan.name,
        "on_fail": node.on_fail,
        "plan": node.plan.model_dump_json(exclude_defaults=True),
    }
    if node.session_of is not None:
        fields["session_of"] = node.session_of
    return codec.flat(fields)


def _parent_fields(node: ParentNode) -> list[str]:
    fields: dict[str, str | None] = {
        "step": node.name,
        "title": codec.one_line(node.title, codec.TITLE_CHARS),
        "tags": ",".join(dict.fromkeys(node.tags)),
        "args": json.dumps(node.args) if node.args else None,
        "on_fail": node.on_fail,
        "policy": node.policy,
        "quorum": _text(node.quorum),
        "cap": _text(node.max_parallel),
        "total": str(node.total),
        "gather": node.gather,
        "budget": None if node.budget_usd is None else str(to_micros(node.budget_usd)),
        "timeout_ms": None if node.timeout_s is None else str(round(node.timeout_s * 1000)),
        "spec": node.spec,
    }
    return codec.flat({name: str(value) for name, value in fields.items() if value})


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def graph_args(graph: Graph) -> Iterable[list[str]]:
    """Its nodes, each ready for the script."""
    return (node_args(node) for node in graph.nodes)


def whole_of(whole_id: str, answer: Sequence[Any]) -> Whole:
    """A parent from the values of `WHOLE`, its ledger and its children. Raises PoolError when it can't be read."""
    values, (limit, reserved, spent), children = answer
    found = {name: value for name, value in zip(WHOLE, values, strict=True) if value}
    try:
        state = TaskState(found["state"])
        held, opened = int(found.get("held", 0)), int(found.get("open", 0))
        waiting = found.get("waits_as") if state is TaskState.RUNNING and held > 0 and held >= opened else None
        return Whole.model_validate(
            {
                "id": whole_id,
                "state": state,
                "name": found.get("step", ""),
                "tags": tuple(tag for tag in found.get("tags", "").split(",") if tag),
                "args": json.loads(found.get("args") or "{}"),
                "children": tuple(children),
                "gathering": found.get("phase") == GATHER,
                "waiting": waiting or None,
                "error": json.loads(found["error"]) if "error" in found else None,
                "cost_usd": codec.micros(spent),
                "reserved_usd": codec.micros(reserved),
                "budget_usd": None if limit is None else codec.micros(limit),
                **{name: int(found.get(name, 0)) for name in _NUMBERS},
                **{name: found[name] for name in _TEXTS if name in found},
            }
        )
    except (ValidationError, ValueError, KeyError) as error:
        raise PoolError(f"The record of {whole_id} in the store can't be read: {error}") from None


def outcome_of(task_id: str, values: Sequence[str | None]) -> Outcome | None:
    """A task's outcome from the values of `OUTCOME`; None when there is no such task."""
    found = {name: value for name, value in zip(OUTCOME, values, strict=True) if value}
    if "state" not in found:
        return None
    try:
        result = TaskResult.model_validate_json(found["result"]) if "result" in found else None
        return Outcome(
            id=task_id,
            name=found.get("step", ""),
            state=TaskState(found["state"]),
            skipped=found.get("skipped") == "1",
            result=result,
            vars=json.loads(found.get("vars") or "{}"),
            error=TaskError.model_validate_json(found["error"]) if "error" in found else None,
            note=note_of(found.get("note", "")),
        )
    except (ValidationError, ValueError) as error:
        raise PoolError(f"The result of {task_id} in the store can't be read: {error}") from None


def plan_of(text: str) -> StepPlan | None:
    """A task's plan; None of one that stands by itself."""
    return StepPlan.model_validate_json(text) if text else None


def note_of(text: str) -> StepNote:
    """What earlier failures mean."""
    return StepNote.model_validate_json(text) if text else StepNote()
