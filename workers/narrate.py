"""Narrate: an event of the CLI as short, clean lines for people who watch.

Pure, one function per kind of event; an event that says nothing to a person gives no line. Whatever an event holds,
lines are bounded (`LINE_CHARS`) and free of control characters; the whole event is in the log file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from claude_pool.models.events import LogKind
from claude_pool.text import excerpt, one_line
from workers.fields import count_of, list_of, map_of, maps_of, money_of, number_of, text_of

LINE_CHARS: Final = 2000
NAME_CHARS: Final = 100

Event = dict[str, Any]


class Line(NamedTuple):
    """A log entry without its time and run."""

    kind: LogKind
    text: str
    tool: str | None = None
    data: dict[str, Any] = {}  # noqa: RUF012 - a NamedTuple's default that nobody writes to


def narrate(event: Event, tools: dict[str, str]) -> list[Line]:
    """The lines of one event; `tools` remembers the names of calls until their results come."""
    match event.get("type"):
        case "assistant":
            return _assistant(event, tools)
        case "user":
            return _user(event, tools)
        case "system":
            return _system(event)
        case "result":
            return [_result(event)]
        case "rate_limit_event":
            return _limit(event)
        case _:
            return []


def is_synthetic(event: Event) -> bool:
    """Whether the CLI itself wrote this assistant message, to tell of an API error."""
    return event.get("is_api_error_message") is True or map_of(event, "message").get("model") == "<synthetic>"


def _assistant(event: Event, tools: dict[str, str]) -> list[Line]:
    blocks = maps_of(map_of(event, "message"), "content")
    if is_synthetic(event):
        said = " ".join(text_of(block, "text") or "" for block in blocks)
        return [Line("error", excerpt(said, LINE_CHARS))]
    extra = {"sub_agent": True} if text_of(event, "parent_tool_use_id") else {}
    lines: list[Line] = []
    for block in blocks:
        match block.get("type"):
            case "text":
                lines.append(Line("text", excerpt(text_of(block, "text") or "", LINE_CHARS), None, extra))
            case "thinking":
                lines.append(Line("thinking", excerpt(text_of(block, "thinking") or "", LINE_CHARS), None, extra))
            case "tool_use" | "server_tool_use":
                lines.append(_call(block, tools, extra))
            case _:
                pass
    return [line for line in lines if line.text or line.tool]


_TELLING = ("command", "file_path", "pattern", "path", "url", "query", "description", "skill", "prompt")


def _call(block: Event, tools: dict[str, str], extra: dict[str, Any]) -> Line:
    name = one_line(text_of(block, "name") or "?", NAME_CHARS)
    if (call_id := text_of(block, "id")) and len(tools) < 1000:
        tools[call_id] = name
    given = map_of(block, "input")
    told = next((text for key in _TELLING if (text := text_of(given, key))), None)
    return Line("tool", excerpt(told or _compact(given), LINE_CHARS), name, extra)


def _compact(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else ""
    except (ValueError, TypeError, RecursionError):
        return "?"


def _user(event: Event, tools: dict[str, str]) -> list[Line]:
    lines: list[Line] = []
    for block in maps_of(map_of(event, "message"), "content"):
        if block.get("type") != "tool_result":
            continue
        name = tools.pop(text_of(block, "tool_use_id") or "", None)
        data = {"is_error": True} if block.get("is_error") is True else {}
        lines.append(Line("tool_result", excerpt(_content(block), LINE_CHARS), name, data))
    return lines


def _content(block: Event) -> str:
    if (text := text_of(block, "content")) is not None:
        return text
    parts = [text_of(part, "text") or f"[{text_of(part, 'type') or '?'}]" for part in maps_of(block, "content")]
    return "\n".join(parts)


def _init(event: Event) -> Line:
    words = [
        f"claude {text_of(event, 'claude_code_version') or '?'}",
        text_of(event, "model") or "",
        text_of(event, "permissionMode") or "",
    ]
    return Line("start", one_line(", ".join(word for word in words if word)))


def _retry(event: Event) -> Line:
    status, delay_ms = number_of(event, "error_status"), count_of(event, "retry_delay_ms")
    reason = text_of(event, "error") or "no answer"
    told = f"{reason}{f' ({status:.0f})' if status is not None else ''}"
    tries = f"try {count_of(event, 'attempt')} of {count_of(event, 'max_retries')}"
    return Line("retry", one_line(f"The API failed: {told}; {tries} in {delay_ms / 1000:.1f} s"))


def _denied(event: Event) -> Line:
    name = one_line(text_of(event, "tool_name") or "?", NAME_CHARS)
    return Line("notice", excerpt(f"Not allowed: {name}. {text_of(event, 'message') or ''}", LINE_CHARS), name)


def _fallback(event: Event) -> Line:
    names = (text_of(event, key) for key in ("original_model", "from_model", "fallback_model", "to_model", "model"))
    told = " to ".join(name for name in names if name)
    return Line("notice", one_line(f"Model fallback {told}"))


_SYSTEM: Final[dict[str, Callable[[Event], Line]]] = {
    "init": _init,
    "api_retry": _retry,
    "permission_denied": _denied,
    "model_fallback": _fallback,
    "informational": lambda event: Line("notice", excerpt(text_of(event, "content") or "", LINE_CHARS)),
    "compact_boundary": lambda _: Line("notice", "The conversation was compacted"),
}


def _system(event: Event) -> list[Line]:
    subtype = text_of(event, "subtype")
    telling = _SYSTEM.get(subtype or "")
    return [] if telling is None else [telling(event)]


def _limit(event: Event) -> list[Line]:
    info = map_of(event, "rate_limit_info")
    status = text_of(info, "status")
    if status is None or status == "allowed":
        return []
    window = one_line(text_of(info, "rateLimitType") or "usage", NAME_CHARS).replace("_", " ")
    return [
        Line("limit", one_line(f"Usage limit ({window}): {status}"), None, {"resets_at": number_of(info, "resetsAt")})
    ]


def _result(event: Event) -> Line:
    failed = event.get("is_error") is True or text_of(event, "subtype") not in {None, "success"}
    errors = "; ".join(item for item in list_of(event, "errors")[:20] if isinstance(item, str))
    told = text_of(event, "result") or errors or text_of(event, "terminal_reason") or text_of(event, "subtype") or ""
    data = {"cost_usd": money_of(event, "total_cost_usd"), "num_turns": count_of(event, "num_turns")}
    return Line("error" if failed else "result", excerpt(told, LINE_CHARS), None, data)
