"""Codec: what the store's scripts read and write, and the records that callers see.

Redis knows strings only. Money is whole micro-dollars, times are milliseconds, an absent field is an empty one;
structured values are JSON. Everything that comes back is validated by the records' own models, which refuse what they
do not know: a record written by a newer version fails loudly here instead of being half understood.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from claude_pool.errors import PoolError
from claude_pool.models.base import to_micros, to_usd
from claude_pool.models.task import RunRecord, Task, TaskRequest, TaskResult
from claude_pool.models.verdict import Verdict
from claude_pool.store.base import Doorbell

FACTS: Final = (
    "state", "queue", "priority", "scopes", "account", "cap", "on_lost",
    "max_attempts", "max_continuations", "max_infra_retries", "max_crashes",
    "runs", "attempts", "continuations", "infra_retries", "crashes", "next_kind",
    "run_id", "run_kind", "run_cap", "slot", "node", "session_id", "session_cost", "claimed_ms", "started_ms", "paid",
    "cost", "reserved", "estimates", "settled", "lost", "lost_charge", "lost_before",
    "parked_for", "until_ms", "waits", "need", "cancel_requested", "rings",
    "rejections", "max_rejections", "review_expires",
    "session", "locks", "source", "forks", "begins", "sits",
    "parent", "position", "on_fail", "skipped", "session_of", "tip",
)  # fmt: skip
"""Fields that transitions look at; small ones only."""

RECORD: Final = (
    "state", "title", "options", "submitter", "created_ms", "since_ms", "queue",
    "runs", "attempts", "continuations", "infra_retries", "crashes", "next_kind",
    "run_id", "slot", "node", "session_id", "parked_for", "until_ms", "cancel_requested",
    "cost", "reserved", "error", "progress", "estimates", "event_id", "rejections",
    "started_ms", "parent", "step", "skipped", "branch_note",
)  # fmt: skip
"""Fields of a `Task`. Prompt, result and feedback are never among them: lists stay cheap however large those are."""

_COUNTERS: Final = ("runs", "attempts", "continuations", "infra_retries", "crashes", "rejections")
_PLAIN: Final = (
    "state", "title", "created_ms", "since_ms", "queue", "next_kind", "run_id", "slot", "node", "session_id",
    "parked_for", "until_ms", "cancel_requested", "progress", "event_id", "started_ms", "parent", "step", "skipped",
    "branch_note",
)  # fmt: skip
_JSON: Final = ("options", "submitter", "error")

TITLE_CHARS: Final = 80
REASON_CHARS: Final = 500


def one_line(text: str, limit: int) -> str:
    """The beginning of a text as one clean line."""
    clean = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text[: limit * 4]).strip()
    return clean if len(clean) <= limit else clean[: limit - 1].rstrip() + "…"


def digest(text: str) -> str:
    """A name of fixed length for any text."""
    return hashlib.sha256(text.encode()).hexdigest()


def request_hash(request: TaskRequest) -> str:
    """Equal for two requests that ask for the same work, in whatever order their objects were written.

    Title and submitter do not count: they change nothing about what is done.
    """
    asked = {"prompt": request.prompt, "options": request.options.model_dump(mode="json", exclude_defaults=True)}
    return digest(json.dumps(asked, sort_keys=True, separators=(",", ":")))


def new_fields(request: TaskRequest, *, queue: str) -> list[str]:
    """The first fields of a task's record, as alternating fields and values."""
    options = request.options
    fields = {
        "title": one_line(request.title or request.prompt, TITLE_CHARS),
        "prompt": request.prompt,
        "options": options.model_dump_json(exclude_unset=True),
        "submitter": request.submitter.model_dump_json(exclude_defaults=True),
        "queue": queue,
        "priority": str(options.priority),
        "scopes": "pool",
        "account": "default",
        "on_lost": options.on_lost,
        "max_attempts": str(options.max_attempts),
        "max_continuations": str(options.max_continuations),
        "max_infra_retries": str(options.max_infra_retries),
        "max_crashes": str(options.max_crashes),
        "max_rejections": str(options.max_rejections),
    }
    if options.session != "fresh":
        fields["session"] = options.session
    if options.review_expires_s is not None:
        fields["review_expires"] = str(round(options.review_expires_s * 1000))
    if options.max_budget_usd is not None:
        fields["cap"] = str(to_micros(options.max_budget_usd))
    if options.tags:
        fields["tags"] = ",".join(dict.fromkeys(options.tags))
    return flat(fields)


def flat(fields: Mapping[str, str]) -> list[str]:
    """A mapping as alternating fields and values."""
    return [part for pair in fields.items() for part in pair]


def pairs(flattened: Sequence[str]) -> dict[str, str]:
    """The other way round."""
    return dict(zip(flattened[::2], flattened[1::2], strict=True))


def micros(value: str | None) -> float:
    """Stored money as dollars."""
    return to_usd(int(value or 0))


def task_of(task_id: str, values: Sequence[str | None]) -> Task:
    """A `Task` from the values of `RECORD`. Raises PoolError when it is not one of ours."""
    found = {name: value for name, value in zip(RECORD, values, strict=True) if value}
    try:
        return Task.model_validate(
            {
                "id": task_id,
                **{name: found[name] for name in _PLAIN if name in found},
                **{name: json.loads(found[name]) for name in _JSON if name in found},
                "title": found.get("title", ""),
                "counters": {name: int(found.get(name, 0)) for name in _COUNTERS},
                "cost_usd": micros(found.get("cost")),
                "reserved_usd": micros(found.get("reserved")),
            }
        )
    except (ValidationError, ValueError) as error:
        raise _unreadable(f"the record of {task_id}", error) from None


def run_of(text: str) -> RunRecord:
    """A run from the JSON line that the scripts keep of it."""
    try:
        entry: dict[str, Any] = json.loads(text)
        cost, estimated = entry.pop("cost"), entry.pop("estimated", "") == "1"
        return RunRecord.model_validate({**entry, "cost_usd": micros(cost), "cost_estimated": estimated})
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise _unreadable("a run's record", error) from None


def current_run(task: Task, kind: str, claimed_ms: str, started_ms: str | None) -> RunRecord:
    """The run that is not over, as far as it is known."""
    return RunRecord.model_validate(
        {
            "run_id": task.run_id,
            "number": task.counters.runs,
            "kind": kind,
            "slot": task.slot,
            "node": task.node,
            "session_id": task.session_id,
            "claimed_ms": claimed_ms,
            "started_ms": started_ms or None,
        }
    )


def result_of(task: Task, text: str | None, *, estimated: bool) -> TaskResult | None:
    """The result as a run wrote it, with what only the record knows; a final task always has one."""
    if not text and not task.state.final:
        return None
    try:
        result = TaskResult.model_validate_json(text) if text else TaskResult(task_id=task.id, state=task.state)
    except ValidationError as error:
        raise _unreadable(f"the result of {task.id}", error) from None
    error = task.error if task.state.final else result.error
    return result.evolve(
        task_id=task.id,
        state=task.state,
        error=error,
        cost_usd=task.cost_usd,
        cost_estimated=estimated,
        run_id=result.run_id or task.run_id,
        session_id=result.session_id or task.session_id,
        node=result.node or task.node,
    )


def verdict_fields(verdict: Verdict) -> list[str]:
    """A verdict as alternating names and values for `finish.lua`."""
    error, breaker, result = verdict.error, verdict.breaker, verdict.result
    fields: dict[str, str | None] = {
        "to": verdict.to,
        "reason": one_line(verdict.reason, REASON_CHARS),
        "outcome": error.code if error else str(verdict.to),
        "error": error.model_dump_json(exclude_defaults=True) if error else None,
        "counts_as": verdict.counts_as,
        "next_kind": verdict.next_kind,
        "parked_for": verdict.parked_for,
        "delay_ms": _text(verdict.delay_ms),
        "until_ms": _text(verdict.until_ms),
        "cost": str(to_micros(max(verdict.cost_usd, 0.0))),
        "estimated": "1" if verdict.cost_estimated else None,
        "session_id": verdict.session_id,
        "session_cost": str(to_micros(verdict.session_cost_usd)) if verdict.session_id else None,
        "result": _with_branch(verdict, result).model_dump_json(exclude_defaults=True) if result else None,
        "tip": verdict.branch.tip if verdict.branch else None,
        "note": verdict.note.model_dump_json(exclude_defaults=True) if verdict.note else None,
        "vars": json.dumps(verdict.vars) if verdict.vars else None,
        "skipped": "1" if verdict.skipped else None,
        "session_gone": "1" if verdict.session_gone else None,
        "breaker": breaker.kind if breaker else None,
        "breaker_code": breaker.code if breaker else None,
        "breaker_until": _text(breaker.until_ms) if breaker else None,
        "breaker_message": one_line(breaker.message, REASON_CHARS) if breaker else None,
    }
    return flat({name: str(value) for name, value in fields.items() if value is not None})


def _with_branch(verdict: Verdict, result: TaskResult) -> TaskResult:
    return result if verdict.branch is None else result.evolve(branch=verdict.branch)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def bell_of(values: Sequence[str]) -> Doorbell:
    """A doorbell from what the scripts answer."""
    task_id, queue, priority, group, *links = values
    return Doorbell(task_id=task_id, queue=queue, priority=int(priority), group=group, then=tuple(links))


def feedback_of(text: str) -> tuple[str, ...]:
    """What reviewers said, oldest first."""
    return tuple(json.loads(text)) if text else ()


def _unreadable(what: str, error: Exception) -> PoolError:
    return PoolError(f"{what[0].upper()}{what[1:]} in the store can't be read: {error}")
