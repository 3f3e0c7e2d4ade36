"""Documents: what `claude-pool VERB --json` prints and what the MCP tools return, made from records. Pure.

One builder per kind of answer, so that both doors say the same in the same words; `docs/cli.md` lists the fields.
Fields that programs rely on are always there, the rest only when it says something. Text of a model goes in unchanged:
whoever shows a document to a person or to another model sees to the fence or the cleaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from claude_pool.errors import PoolError
from claude_pool.models.base import Record
from claude_pool.models.context import ContextEntry
from claude_pool.models.events import LogEntry
from claude_pool.models.pool import DrainSummary, Finding, Node, PoolStatus, Slot
from claude_pool.models.route import AutoRoute, AutoSubmitted
from claude_pool.models.task import Task, TaskResult
from claude_pool.models.workspace import Branch, Diff, FileChange, Forecast, GcReport, MergeResult, Outlook

if TYPE_CHECKING:  # for names alone: the desks bring Celery with them
    from claude_pool.desks.tasks import Waited
    from claude_pool.models.review import Approved, Rejected, Review
    from claude_pool.store.base import Page, Submitted

Document = dict[str, Any]


def spare(record: Record, *, but: Iterable[str] = ()) -> Document:
    """The fields of a record that are not at their default, as plain JSON values."""
    return record.model_dump(mode="json", exclude_defaults=True, exclude=set(but))


def of_submitted(answer: Submitted) -> Document:
    """`task_id state`; `created` is there, and false, when the idempotency key gave an earlier task."""
    document: Document = {"task_id": answer.task_id, "state": answer.state.value}
    return document if answer.created else {**document, "created": False}


def of_context(entry: ContextEntry, *, values: bool = True) -> Document:
    """`key namespace bytes set_ms by`, and the value."""
    document: Document = {"key": entry.key, "namespace": entry.namespace, "bytes": len(entry.value.encode())}
    return document | {"set_ms": entry.set_ms, "by": entry.by} | ({"value": entry.value} if values else {})


def of_context_list(entries: Iterable[ContextEntry], *, values: bool = True) -> Document:
    """`entries`, in the order in which workers are told."""
    return {"entries": [of_context(entry, values=values) for entry in entries]}


def of_task(task: Task) -> Document:
    """One task as it is now."""
    document: Document = {
        "task_id": task.id,
        "state": task.state.value,
        "title": task.title,
        "created_ms": task.created_ms,
        "since_ms": task.since_ms,
        "cost_usd": task.cost_usd,
    }
    if task.options.tags:
        document["tags"] = list(task.options.tags)
    names = ("slot", "session_id", "parked_for", "until_ms", "cancel_requested", "error", "progress", "counters")
    noted = spare(task)
    return document | {name: noted[name] for name in names if noted.get(name)}


def of_result(result: TaskResult) -> Document:
    """`task_id state output cost_usd session_id`, and whatever else the task brought back."""
    document: Document = {
        "task_id": result.task_id,
        "state": result.state.value,
        "output": result.output,
        "cost_usd": result.cost_usd,
        "session_id": result.session_id,
    }
    extra = spare(result, but=(*document, *(() if result.output_path else ("output_bytes",))))
    if extra.get("branch"):  # counts are worth saying even when nothing changed
        assert result.branch is not None
        counts = {name: getattr(result.branch, name) for name in ("commits", "files", "insertions", "deletions")}
        extra["branch"] = {**extra["branch"], **counts}
    return document | extra


def of_reviews(tasks: Iterable[Task]) -> Document:
    """`reviews: […]`: tasks as in a list, the longest waiting first."""
    return {"reviews": [of_task(task) for task in tasks]}


def of_review(review: Review) -> Document:
    """A result's document, and `run_id tip prompt rejections max_rejections feedback forecast` for the decision."""
    task = review.task
    document = of_result(review.result) | {
        "run_id": review.run_id,
        "tip": review.tip,
        "title": task.title,
        "prompt": review.prompt,
        "rejections": task.counters.rejections,
        "max_rejections": task.options.max_rejections,
        "feedback": list(review.feedback),
        "waits_since_ms": task.since_ms,
        "expires_ms": task.until_ms,
        "forecast": None if review.forecast is None else spare(review.forecast) | {"state": review.forecast.state},
    }
    if review.collisions:
        document["collisions"] = [_between(one) for one in review.collisions]
    if review.moved:
        document["moved"] = True
    return document | ({"note": review.note} if review.note else {})


def of_approved(approved: Approved) -> Document:
    """`task_id state`, and `merge` if one was asked for."""
    document: Document = {"task_id": approved.task.id, "state": approved.task.state.value}
    return document if approved.merge is None else {**document, "merge": approved.merge.model_dump(mode="json")}


def of_rejected(rejected: Rejected) -> Document:
    """`task_id state rejections max_rejections`; state failed when that was the last one."""
    return {
        "task_id": rejected.task.id,
        "state": rejected.task.state.value,
        "rejections": rejected.rejections,
        "max_rejections": rejected.max_rejections,
    }


def of_diff(diff: Diff) -> Document:
    """`branch tip base files files_total insertions deletions patch next_offset`: counts, and a page of the patch."""
    files = [
        {"path": one.path, "kind": one.kind, **_counts(one), **spare(one, but=("path", "kind"))} for one in diff.files
    ]
    return diff.model_dump(mode="json") | {"files": files}


def _counts(change: FileChange) -> Document:
    return {"insertions": change.insertions, "deletions": change.deletions}


def of_merge(result: MergeResult) -> Document:
    """`branch target how merged commit`, and `conflicts check message resolving` where there is something to say."""
    names = ("branch", "tip", "target", "how", "merged", "commit")
    return {name: getattr(result, name) for name in names} | spare(result, but=names)


def of_branches(branches: Iterable[Branch]) -> Document:
    """`branches: [{name, tip, age_s, ahead, behind, merged, subject, …}]`, the youngest first."""
    return {"branches": [branch.model_dump(mode="json", exclude_none=True) for branch in branches]}


def of_gc(report: GcReport) -> Document:
    """`branches worktrees leftovers kept`: what went, and what was due and could not go."""
    return report.model_dump(mode="json")


def of_outlook(outlook: Outlook) -> Document:
    """`target open conflicts collisions`: each conflict with the branches it is between, and its files."""
    return {
        "target": outlook.target,
        "open": outlook.open,
        "conflicts": [_between(one) for one in outlook.conflicts],
        "collisions": [_between(one) for one in outlook.collisions],
    }


def _between(found: Forecast) -> Document:
    files = [conflict.path for conflict in found.conflicts]
    return {"branch": found.branch, "into": found.into, "state": found.state, "files": files}


def of_waited(waited: Waited) -> Document:
    """`finished: [{id, state}] running cursor timed_out`."""
    return {
        "finished": [{"id": task.id, "state": task.state.value} for task in waited.finished],
        "running": list(waited.running),
        "cursor": waited.cursor,
        "timed_out": waited.timed_out,
    }


def of_route(route: AutoRoute) -> Document:
    """`route confidence parts`, and what else there is to say of a plan."""
    document: Document = {
        "route": route.route.value,
        "confidence": route.confidence,
        "parts": [part.model_dump(mode="json", exclude_none=True) for part in route.parts],
    }
    return document | spare(route, but=document)


def of_auto(submitted: AutoSubmitted) -> Document:
    """`id task_ids` of what was handed in, and the plan as `plan`."""
    return {"id": submitted.id, "task_ids": list(submitted.task_ids), "plan": of_route(submitted.route)}


def of_page(page: Page) -> Document:
    """`tasks next`: newest first; `next` is what the next page begins after."""
    return {"tasks": [of_task(task) for task in page.tasks], "next": page.next}


def of_cancelled(tasks: Iterable[Task]) -> Document:
    """`cancelled: [{task_id, state, stopping}]`; `stopping` while a running task is still being stopped."""
    return {"cancelled": [of_stopped(task) for task in tasks]}


def of_stopped(task: Task) -> Document:
    """`task_id state` of a task whose cancel was asked for."""
    document: Document = {"task_id": task.id, "state": task.state.value}
    return {**document, "stopping": True} if task.cancel_requested and not task.state.final else document


_COUNTS = (
    "pool", "accepting", "slots", "idle", "busy", "nodes", "blocked", "pending", "claimed", "running", "parked",
    "pending_review", "completed", "failed", "cancelled", "spent_usd", "reserved_usd", "budget_usd",
)  # fmt: skip


def of_status(
    status: PoolStatus,
    *,
    slots: Iterable[Slot] = (),
    nodes: Iterable[Node] = (),
    tasks: Mapping[str, Task] | None = None,
    outlook: Outlook | None = None,
) -> Document:
    """Counts and money; with slots and nodes also who is there (`slot_list`, `node_list`) and what they run.

    With an outlook that has open branches, how these stand (`branches`).
    """
    document: Document = {name: getattr(status, name) for name in _COUNTS}
    if status.simulated:
        document["simulated"] = True
    if status.notes:
        document["notes"] = list(status.notes)
    if slot_list := [of_slot(slot, tasks or {}) for slot in slots]:
        document["slot_list"] = slot_list
    if node_list := [of_node(node) for node in nodes]:
        document["node_list"] = node_list
    if outlook is not None and outlook.open:
        document["branches"] = of_outlook(outlook)
    return document


def of_slot(slot: Slot, tasks: Mapping[str, Task]) -> Document:
    """One slot, and its task's title and latest sign of life where they are known."""
    document: Document = {"slot": slot.slot_id, "node": slot.node, "state": slot.state.value}
    if slot.task_id:
        document["task_id"] = slot.task_id
        if task := tasks.get(slot.task_id):
            document |= {"title": task.title, "progress": task.progress}
    return document | spare(slot, but=("slot_id", "node", "state", "number", "task_id", "run_id"))


def of_node(node: Node) -> Document:
    """One node: who it is, how many slots it shall have, and what is asked of it."""
    who = node.identity
    document: Document = {
        "node": who.node,
        "host": who.host,
        "pid": who.pid,
        "version": who.version,
        "slots": node.orders.slots,
        "mode": node.orders.mode.value,
        "alive": node.alive,
    }
    return {**document, "simulated": True} if who.simulated else document


def of_drain(summary: DrainSummary) -> Document:
    """What a drain left behind, all fields."""
    return summary.model_dump(mode="json")


def of_log(entry: LogEntry) -> Document:
    """One line of a task's log."""
    return {
        "id": entry.id,
        "at_ms": entry.at_ms,
        "run_id": entry.run_id,
        "kind": entry.kind,
        "text": entry.text,
    } | spare(entry, but=("id", "at_ms", "run_id", "kind", "text"))


def of_findings(findings: Iterable[Finding]) -> Document:
    """`healthy findings: [{name, health, detail, hint}]`."""
    listed = [finding.model_dump(mode="json") for finding in findings]
    return {"healthy": all(finding["health"] != "error" for finding in listed), "findings": listed}


def of_settings(values: Mapping[str, Any], origins: Mapping[str, str]) -> Document:
    """`settings: {name: {value, origin}}`, with the password in an address replaced."""
    return {
        "settings": {
            name: {"value": masked(value) if name == "redis_url" else value, "origin": origins.get(name, "default")}
            for name, value in values.items()
        }
    }


def masked(url: str | None) -> str | None:
    """An address that may be shown: user and password, and a password among the parameters, are replaced."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:  # an address that is none may still have a password in it
        return "***"
    _, at, host = parts.netloc.rpartition("@")
    query = "&".join(
        name + "=***" if equals and name.lower() in {"password", "username"} else name + equals + value
        for name, equals, value in (pair.partition("=") for pair in parts.query.split("&"))
    )
    return f"{parts.scheme}://{'***@' if at else ''}{host}{parts.path}" + (f"?{query}" if query else "")


def of_error(error: PoolError) -> Document:
    """`error: {code, message, hint}`."""
    return {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
