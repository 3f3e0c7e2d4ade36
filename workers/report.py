"""RunReport: what the events of one run add up to.

Duties: feed it every event, get lines for the live log, and at any moment the facts of the run so far, also when it was
cut short. The first result without an origin of its own is the answer (later ones belong to background work), the last
one tells the cost. Money is of this run alone: `model_usage_since_last_result` where the CLI gives it, else the
difference to the session's last total; a figure that can't be right is not believed, and `cost_known` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from claude_pool.models.events import LogEntry
from claude_pool.models.run import Denial, RateLimit, RunFacts
from workers.fields import count_of, json_of, list_of, map_of, maps_of, number_of, text_of
from workers.narrate import is_synthetic, narrate
from workers.spending import Spending

Event = dict[str, Any]

MOST_DENIALS = 200
MOST_ERRORS = 50


class RunReport:
    """One run as its events tell it. Not thread-safe: one reader feeds it."""

    def __init__(self, run_id: str, *, session_cost_before_usd: float, now_ms: Callable[[], int]) -> None:
        self._run_id = run_id
        self._now_ms = now_ms
        self._tools: dict[str, str] = {}
        self._spending = Spending(session_cost_before_usd)
        self._results = 0
        self._answer: Event | None = None
        self._follow_up: Event | None = None
        self._said: tuple[str, list[str]] = ("", [])
        self._denials: dict[str, Denial] = {}
        self._model: str | None = None
        self._facts: dict[str, Any] = {}

    @property
    def has_result(self) -> bool:
        """True once the run has its answer."""
        return self._answer is not None

    def feed(self, event: Event) -> list[LogEntry]:
        """Take one event in; the lines that it gives."""
        self._note_session(event)
        match event.get("type"):
            case "system":
                self._system(event)
            case "assistant":
                self._assistant(event)
            case "rate_limit_event":
                self._limit(map_of(event, "rate_limit_info"))
            case "result":
                self._result(event)
            case _:
                pass
        at_ms = self._now_ms()
        return [
            LogEntry(at_ms=at_ms, run_id=self._run_id, kind=line.kind, text=line.text, tool=line.tool, data=line.data)
            for line in narrate(event, self._tools)
        ]

    def facts(self) -> RunFacts:
        """All that is known now; exit, stderr and stop cause are the runner's to add."""
        answer = self._answer or self._follow_up
        facts = {**self._facts, **self._spending.facts(), "result_count": self._results, "model": self._model}
        facts["denials"] = tuple(self._denials.values())[:MOST_DENIALS]
        if answer is None:
            return RunFacts.model_validate({**facts, "output": "".join(self._said[1])})
        return RunFacts.model_validate({**facts, **_told_by(answer), "output": self._output(answer)})

    def _output(self, answer: Event) -> str:
        """The answer; of a failed run what the model said last, as its `result` is the CLI's own error text."""
        told = None if _failed(answer) else text_of(answer, "result")
        return "".join(self._said[1]) if told is None else told

    def _note_session(self, event: Event) -> None:
        if (session := text_of(event, "session_id")) and len(session) <= 200:
            self._facts["session_id"] = session

    def _system(self, event: Event) -> None:
        match event.get("subtype"):
            case "init":
                self._init(event)
            case "api_retry":
                self._facts["api_retries"] = self._facts.get("api_retries", 0) + 1
                status = number_of(event, "error_status")
                self._facts["last_retry_status"] = None if status is None else int(status)
            case "permission_denied":
                self._deny(event, map_of(event, "tool_input"))
            case _:
                pass

    def _init(self, event: Event) -> None:
        self._facts["saw_init"] = True
        self._facts["cli_version"] = text_of(event, "claude_code_version")
        self._model = self._model or text_of(event, "model")
        servers = [*maps_of(event, "mcp_servers"), *maps_of(event, "mcp_server_errors")]
        out = {text_of(server, "name") or "?" for server in servers if not _usable(server)}
        self._facts["mcp_failed"] = tuple(sorted({*self._facts.get("mcp_failed", ()), *out}))[:100]

    def _assistant(self, event: Event) -> None:
        if category := text_of(event, "api_error") or text_of(event, "error"):
            self._facts["api_error_category"] = category
        self._limit(map_of(map_of(event, "api_error_params"), "rate_limit_info"))
        if is_synthetic(event):
            return
        message = map_of(event, "message")
        self._facts["saw_output"] = True
        self._spending.message(message)
        if text_of(event, "parent_tool_use_id"):
            return
        self._model = text_of(message, "model") or self._model
        texts = [text for block in maps_of(message, "content") if (text := text_of(block, "text"))]
        if not texts:
            return
        message_id = text_of(message, "id") or ""
        if message_id == self._said[0]:  # one event per content block: this one goes on
            self._said[1].extend(texts)
        else:
            self._said = (message_id, texts)

    def _limit(self, info: Event) -> None:
        if text_of(info, "status") != "rejected":
            return
        resets_at = number_of(info, "resetsAt")
        if resets_at is not None and resets_at > 1e11:  # milliseconds: seconds would be the year 5138
            resets_at /= 1000
        limit_type = text_of(info, "rateLimitType")
        self._facts["rate_limit"] = RateLimit(resets_at=resets_at, limit_type=limit_type)

    def _result(self, event: Event) -> None:
        self._results += 1
        self._spending.result(event)
        for denial in maps_of(event, "permission_denials"):
            self._deny(denial, map_of(denial, "tool_input"))
        if event.get("origin"):
            self._follow_up = self._follow_up or event
        elif self._answer is None:
            self._answer = event

    def _deny(self, denial: Event, tool_input: dict[str, Any]) -> None:
        key = text_of(denial, "tool_use_id") or str(len(self._denials))
        if tool_input or key not in self._denials:
            self._denials[key] = Denial(
                tool_name=text_of(denial, "tool_name") or "?", tool_input=json_of(tool_input) or {}
            )


def _usable(server: Event) -> bool:
    return text_of(server, "status") in {"connected", "pending"}


def _failed(result: Event) -> bool:
    return result.get("is_error", text_of(result, "subtype") != "success") is not False


def _errors(result: Event) -> tuple[str, ...]:
    """What the CLI says about a failure: in `errors`, or, when the API failed, as the result's text."""
    said: list[Any] = [*list_of(result, "errors")[:MOST_ERRORS], *([result.get("result")] if _failed(result) else [])]
    return tuple(text for item in said if (text := text_of({"text": item}, "text")))


def _told_by(result: Event) -> dict[str, Any]:
    """The fields of one result event, as the facts name them."""
    status = number_of(result, "api_error_status")
    structured = json_of(result.get("structured_output"))
    told: dict[str, Any] = {
        "has_result": True,
        "is_error": _failed(result),
        "subtype": text_of(result, "subtype"),
        "terminal_reason": text_of(result, "terminal_reason"),
        "stop_reason": text_of(result, "stop_reason"),
        "api_error_status": None if status is None else int(status),
        "api_error_type": text_of(result, "api_error_type"),
        "errors": _errors(result),
        "structured_output": structured,
        "has_structured_output": "structured_output" in result and structured is not None,
        "num_turns": count_of(result, "num_turns"),
        "duration_ms": count_of(result, "duration_ms"),
        "duration_api_ms": count_of(result, "duration_api_ms"),
    }
    if category := text_of(result, "api_error"):
        told["api_error_category"] = category
    return told
