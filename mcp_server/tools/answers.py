"""Answers: what the tools give back, as schemas for clients and as documents for models. Pure.

The documents are those of `claude_pool.documents`, so that every door says the same; here they lose what a coordinator
did not ask for, and what a worker wrote goes behind the fence. The schemas promise the fields that are always there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from claude_pool.documents import Document, of_result, of_slot, of_status, of_task
from claude_pool.models.chain import ChainResult
from claude_pool.models.fanout import BranchResult, FanOutResult
from claude_pool.models.pool import Slot
from claude_pool.models.task import Task, TaskResult, TaskState
from claude_pool.models.workspace import Outlook
from mcp_server.fence import fence, page, plain, scrubbed
from mcp_server.tools.arguments import Schema

_TYPES: Final[dict[type, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}


def gives(_optional: dict[str, type] | None = None, /, **fields: type) -> Schema:
    """The schema of a document: fields that are always there, and some that may be there or null; others may come."""
    properties: Schema = {name: {"type": _TYPES[kind]} for name, kind in fields.items()}
    # not `"type": [.., "null"]`, which some clients can't read
    properties |= {
        name: {"anyOf": [{"type": _TYPES[kind]}, {"type": "null"}]} for name, kind in (_optional or {}).items()
    }
    return {"type": "object", "properties": properties, "required": list(fields)}


_TOLD_BRIEFLY: Final = (
    "task_id", "state", "cost_usd", "partial", "branch", "error", "structured_output", "output_path", "simulated",
)  # fmt: skip
_FOR_A_REVIEWER: Final = ("run_id", "outlook", "num_turns")
_PATHS_OF_THE_NODE: Final = ("repo", "paths")
MOST_STRUCTURED: Final = 20_000
"""Characters of a structured output that are told; beyond, the file has it."""


def result_document(result: TaskResult, *, full: bool, offset: int | None, limit: int) -> Document:
    """A task's result; its output is a page between fences."""
    whole = of_result(result)
    piece = page(result.output, offset=offset, limit=limit)
    brief = (*_TOLD_BRIEFLY, *(_FOR_A_REVIEWER if result.state is TaskState.PENDING_REVIEW else ()))
    told = {name: whole[name] for name in (whole if full else brief) if name in whole and name != "output"}
    document = {name: _cleaned(name, value, full=full) for name, value in told.items()}
    document = {name: value for name, value in document.items() if value is not None}
    if denied := sorted({plain(denial.tool_name, 80) for denial in result.denials}):
        document["denied_tools"] = denied
    if piece.next_offset is not None:
        document |= {"output_characters": piece.total, "next_offset": piece.next_offset}
    return document | {"output": fence(piece.text, source=f"worker task {result.task_id}") if piece.text else ""}


def _cleaned(name: str, value: Any, *, full: bool) -> Any:
    if name == "branch" and not full:
        return scrubbed({key: item for key, item in value.items() if key not in _PATHS_OF_THE_NODE})
    if name == "error":
        detail = {"detail": fence(page(value["detail"], limit=2000).text, source="the worker")} if full else {}
        detail = detail if value.get("detail") else {}
        return {**value, "message": plain(value.get("message", ""), 400), **detail} if full else _brief_error(value)
    if name == "structured_output" and len(repr(value)) > MOST_STRUCTURED:
        return f"(too long to be told: {len(repr(value)):,} characters; it is in the task's log)"
    return scrubbed(value)


def _brief_error(error: Document) -> Document:
    told = {"code": error["code"], "message": plain(error.get("message", ""), 400)}
    return told | ({"hint": error["hint"]} if error.get("hint") else {})


_WITH_A_FENCE: Final = 10
"""More outputs than this in one answer are one short line each; pool_result has the whole."""
_LINE: Final = 120


def _outputs(parts: Sequence[BranchResult], limit: int) -> list[Document]:
    """What branches or steps brought, within `limit` characters together."""
    most = max(_LINE, limit // max(1, len(parts)))
    return [_part(one, _LINE if len(parts) > _WITH_A_FENCE else most) for one in parts]


def _part(one: BranchResult, most: int) -> Document:
    output = plain(one.output, most) if most <= _LINE else ""
    if one.output and not output:
        output = fence(page(one.output, limit=most).text, source=f"worker task {one.id}")
    document: Document = {"task_id": one.id, "state": one.state, "output": output}
    if one.cost_usd:
        document["cost_usd"] = round(one.cost_usd, 6)
    if one.structured_output is not None and len(repr(one.structured_output)) <= most:
        document["structured_output"] = scrubbed(one.structured_output)
    return document if one.error is None else {**document, "error": _brief_error(one.error.model_dump(mode="json"))}


def fan_out_document(result: FanOutResult, *, limit: int = 12_000) -> Document:
    """What a fan-out brought so far, in input order."""
    document: Document = {"fan_out_id": result.fan_out_id, "state": result.state.value, "cost_usd": result.cost_usd}
    document["results"] = _outputs(result.results, limit)
    if result.gather is not None:
        document["gather"] = _part(result.gather, limit)
    return document


def chain_document(result: ChainResult, *, limit: int) -> Document:
    """What a chain brought so far; the final output is a step's, so only its beginning is told twice."""
    steps = _outputs(result.steps, limit // 2)
    document: Document = {
        "chain_id": result.chain_id,
        "state": result.state.value,
        "cost_usd": result.cost_usd,
        "steps": [{"name": step.name, **told} for step, told in zip(result.steps, steps, strict=True)],
    }
    if result.error is not None:
        document["error"] = _brief_error(result.error.model_dump(mode="json"))
    if result.branch is not None:
        kept = result.branch.model_dump(mode="json", exclude_defaults=True)
        document["branch"] = _cleaned("branch", kept, full=False)
    final = page(result.final_output, limit=max(1, limit // 2)).text
    return document | {"final_output": fence(final, source=f"chain {result.chain_id}") if final else ""}


def task_line(task: Task) -> Document:
    """One task in a list; titles are worded by whoever submitted."""
    document = of_task(task)
    line: Document = {
        "task_id": task.id,
        "state": task.state.value,
        "title": plain(task.title, 80),
        "cost_usd": task.cost_usd,
        "by": plain(task.submitter.name, 40),
    }
    line |= {name: document[name] for name in ("tags", "slot", "parked_for", "until_ms") if document.get(name)}
    return line | ({"error": task.error.code.value} if task.error else {})


def finished_line(task: Task) -> Document:
    """One settled task in a wait's answer."""
    line: Document = {"id": task.id, "state": task.state.value}
    if task.cost_usd:
        line["cost_usd"] = round(task.cost_usd, 6)
    if task.parked_for:
        line["parked_for"] = task.parked_for.value
    return line | ({"error": task.error.code.value} if task.error else {})


_ALWAYS_COUNTED: Final = (
    "pool", "slots", "idle", "busy", "pending", "running", "parked", "pending_review", "spent_usd", "budget_usd",
)  # fmt: skip


def status_document(
    status: Any, *, notes: list[str], slots: list[Slot] | None = None, outlook: Outlook | None = None
) -> Document:
    """The pool's counts; zeros that nobody asks for are left out. Conflicts of open branches are told with files."""
    whole = of_status(status, outlook=outlook)
    if "branches" in whole:
        whole["branches"] = scrubbed(whole["branches"])
    document = {name: whole[name] for name in whole if name in _ALWAYS_COUNTED or (whole[name] and name != "accepting")}
    if not status.accepting:
        document["accepting"] = False
    if together := [*notes, *status.notes]:
        document["notes"] = together
    return document if slots is None else document | {"slot_list": [slot_line(slot) for slot in slots]}


def slot_line(slot: Slot) -> Document:
    """One slot."""
    return scrubbed(of_slot(slot, {}))
