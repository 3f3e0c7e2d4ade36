"""One turn of the fake `claude`: what modes say, spend and end with goes through here.

A turn ends by exactly one of: `finish` (once; modes that want two or none go around it), an exception that
`fake_claude` turns into a result (`Interrupted`, `Limit`), or the death of the process.
"""

from __future__ import annotations

import math
import os
import time

from claude_pool.testing import fake_shapes as shapes
from claude_pool.testing.fake_options import VERSION
from claude_pool.testing.fake_session import fresh_id

TYPE_CHECKING = False  # spares the fake the 3 ms that importing typing costs, in every run
if TYPE_CHECKING:
    from typing import Any

    from claude_pool.testing.fake_io import Pipes
    from claude_pool.testing.fake_options import Options
    from claude_pool.testing.fake_script import Step
    from claude_pool.testing.fake_session import Book, Session

_TOKENS = ("in", "out", "cache_read", "cache_write")


class Limit(Exception):
    """The run's turns or its money are used up; the name says which."""


class Turn:
    """The prompt being answered, and everything that has come of it so far."""

    def __init__(self, options: Options, pipes: Pipes, session: Session, book: Book) -> None:
        self.options = options
        self.pipes = pipes
        self.session = session
        self.book = book
        self.process_usd = 0.0
        """Spent by this process, what `--max-budget-usd` limits; the session may have spent more."""
        self.exit_code = 0
        self.results = 0
        self.begin("", None)

    def begin(self, prompt: str, uuid: str | None) -> None:
        self.prompt = prompt
        self.uuid = uuid
        self.calls = 0
        self.turn_usd = 0.0
        self.tokens: dict[str, int] = dict.fromkeys(_TOKENS, 0)
        self.denials: list[dict[str, Any]] = []
        self.odd_cost: str | None = None
        """A cost that is no sane number (`missing`, `nan`, `-1`): reported as it is, never counted."""
        self.began = time.monotonic()

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event with what every event carries."""
        stamped = {**event, "session_id": self.session.id, "uuid": fresh_id()}
        if self.uuid and event["type"] in ("assistant", "result"):
            stamped.update(user_message_uuid=self.uuid, user_message_uuids=[self.uuid])
        return stamped

    def emit(self, event: dict[str, Any]) -> None:
        self.pipes.emit(self.event(event))

    def lifecycle(self, state: str) -> None:
        if self.uuid:
            self.emit({"type": "command_lifecycle", "command_uuid": self.uuid, "state": state})

    def init(self) -> None:
        self.emit({**shapes.init(self.options), "cwd": os.getcwd(), "claude_code_version": VERSION})

    def say(self, text: str) -> None:
        """The model says something."""
        if self.options.partial:
            self.emit(shapes.delta(text))
        self.emit(shapes.assistant({"type": "text", "text": text}, self.options.model, "msg_" + fresh_id()[:8]))

    def use(self, tool: str, tool_input: dict[str, Any], output: str, *, is_error: bool = False) -> str:
        """The model calls a tool and gets its output; gives the call's id."""
        call = "toolu_" + fresh_id().replace("-", "")[:24]
        block = {"type": "tool_use", "id": call, "name": tool, "input": tool_input}
        self.emit(shapes.assistant(block, self.options.model, "msg_" + fresh_id()[:8]))
        self.emit(shapes.tool_result(call, output, is_error=is_error))
        return call

    def call(self, usd: float, tokens: dict[str, int] | None = None) -> None:
        """One model call: it counts, it costs, and it may be the one too many. Raises Limit."""
        limit = self.options.max_turns
        if limit is not None and self.calls >= limit:
            raise Limit("turns")
        self.calls += 1
        for kind, amount in (tokens or {}).items():
            self.tokens[kind] += amount
        if usd:
            self.turn_usd += usd
            self.process_usd += usd
            self.session.paid(usd)
            self.book.paid(usd)
        budget = self.options.max_budget_usd
        if budget is not None and self.process_usd > budget:
            raise Limit("budget")

    def spend(self, step: Step, default_usd: float = 0.0) -> None:
        """What a directive says its model calls cost: `cost= in= out= cache_read= cache_write= turns=`."""
        cost = self._cost(step, default_usd)
        if not cost and not step.has("turns"):
            return
        given = {kind: step.whole(kind) for kind in _TOKENS if step.has(kind)}
        tokens = given or {"in": 100, "out": 20}
        calls = max(1, step.whole("turns", 1))
        for number in range(calls):
            self.call(cost / calls, tokens if number == 0 else None)
            if number < calls - 1:
                self.use("Bash", {"command": f"echo {number + 1}"}, str(number + 1))

    def _cost(self, step: Step, default_usd: float) -> float:
        raw = step.text("cost", str(default_usd))
        try:
            cost = float(raw)
        except ValueError:
            cost = math.nan
        if 0 <= cost < 1e6:
            return cost
        self.odd_cost = raw
        return default_usd

    def heard(self) -> list[str]:
        """The messages that came in since; they are folded into this turn."""
        texts = [message_text(message) for message in self.pipes.messages]
        self.pipes.messages.clear()
        return texts

    def result(self, **changes: Any) -> dict[str, Any]:
        """The result event of this turn, with all sums; `finish` sends it."""
        model_usage = shapes.model_usage(self.options.model, self.tokens, self.turn_usd)
        event = shapes.result(
            **{
                "num_turns": max(1, self.calls),
                "duration_ms": round((time.monotonic() - self.began) * 1000),
                "duration_api_ms": 1,
                "total_cost_usd": self.session.cost_usd,
                "usage": shapes.usage(self.tokens),
                "modelUsage": shapes.model_usage(self.options.model, self.tokens, self.session.cost_usd),
                "model_usage_since_last_result": model_usage,
                "permission_denials": self.denials,
                "result_index": self.results,
                **changes,
            }
        )
        if self.odd_cost is not None:
            _odd(event, self.odd_cost)
        return self.event(event)

    def close(self, event: dict[str, Any]) -> None:
        """Book this result as the turn's end, without sending it."""
        self.results += 1
        self.exit_code = 1 if event["is_error"] else 0
        self.session.answered(str(event.get("result", "")))
        self.book.end(outcome_of(event))

    def finish(self, **changes: Any) -> None:
        """Send the result and end the turn."""
        event = self.result(**changes)
        self.close(event)
        self.pipes.emit(event)
        self.lifecycle("cancelled" if event["is_error"] and event["terminal_reason"] != "max_turns" else "completed")


def _odd(event: dict[str, Any], raw: str) -> None:
    """Put a cost into the result that no sane CLI would tell."""
    del event["modelUsage"], event["model_usage_since_last_result"]
    if raw == "missing":
        del event["total_cost_usd"]
        return
    try:
        event["total_cost_usd"] = float(raw)
    except ValueError:
        event["total_cost_usd"] = raw


def outcome_of(event: dict[str, Any]) -> str:
    """A result in one word, for the ledger."""
    if event["subtype"] != "success":
        return str(event["subtype"])
    return f"api_error_{event['api_error_status'] or 0}" if event["is_error"] else "success"


def message_text(message: dict[str, Any]) -> str:
    """The text of a user message, be it a string or blocks."""
    body: dict[str, Any] = message.get("message") or {}
    content: str | list[dict[str, Any]] = body.get("content", "")
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text", "")) for block in content)
