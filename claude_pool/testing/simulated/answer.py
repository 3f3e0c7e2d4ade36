"""From a scripted turn to an answer of the Messages API: a whole message, or the events of its stream. Pure."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from typing import Final

from claude_pool.testing.simulated.request import last_tool_result, messages_of, tool_names
from claude_pool.testing.simulated.script import Json, Turn

ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
ERROR_MESSAGES: Final = {
    400: "invalid request",
    401: "invalid x-api-key",
    402: "Your credit balance is too low to access the Anthropic API.",
    403: "Your API key does not have permission to use the specified resource.",
    404: "not found",
    413: "Request exceeds the maximum size",
    429: "This request would exceed your organization's rate limit.",
    500: "Internal server error",
    529: "Overloaded",
}
_SHOWN: Final = 60


def failure(status: int, message: str = "") -> Json:
    """The body of a failed request; the message defaults to what the real API says."""
    text = message or ERROR_MESSAGES.get(status, "error")
    error = {"type": ERROR_TYPES.get(status, "api_error"), "message": text}
    return {"type": "error", "error": error, "request_id": "req_" + uuid.uuid4().hex[:20]}


def prompt_sha(prompt: str) -> str:
    """A prompt's short fingerprint."""
    return hashlib.sha256(prompt.encode(errors="surrogatepass")).hexdigest()[:12]


def unscripted(prompt: str) -> str:
    """The answer to a prompt without a script: the same for the same prompt, and plainly no model's."""
    first = prompt.strip().partition("\n")[0]
    head = first[:_SHOWN] + ("…" if len(first) > _SHOWN else "")
    return (
        f'This is the simulated model: no real one has read "{head}" ({len(prompt)} characters, {prompt_sha(prompt)}).'
    )


def message(turn: Turn, body: Json, prompt: str, body_bytes: int) -> Json:
    """The assistant's message of this turn."""
    content = _content(turn, body, prompt)
    said = "".join(block.get("text") or block.get("thinking") or json.dumps(block.get("input")) for block in content)
    has_tool = any(block["type"] == "tool_use" for block in content)
    return {
        "id": "msg_" + uuid.uuid4().hex[:24],
        "type": "message",
        "role": "assistant",
        "model": turn.model or body.get("model"),
        "content": content,
        "stop_reason": turn.stop or ("tool_use" if has_tool else "end_turn"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": turn.usage.get("in", max(1, body_bytes // 4)),
            "cache_creation_input_tokens": turn.usage.get("cache_write", 0),
            "cache_read_input_tokens": turn.usage.get("cache_read", 0),
            "output_tokens": turn.usage.get("out", max(1, len(said) // 4)),
            "service_tier": "standard",
        },
    }


def _content(turn: Turn, body: Json, prompt: str) -> list[Json]:
    texts, tools = list(turn.texts), list(turn.tools)
    if turn.structured is not None and "StructuredOutput" in tool_names(body):
        tools.append(("StructuredOutput", turn.structured))
    elif turn.structured is not None:
        texts.append(json.dumps(turn.structured))
    if turn.echo_tool_result:
        texts.append(last_tool_result(messages_of(body)))
    if not texts and not tools:
        texts = [unscripted(prompt)]
    thoughts = [{"type": "thinking", "thinking": thought, "signature": "ZmFrZQ=="} for thought in turn.thinking]
    calls = [{"type": "tool_use", "id": "toolu_" + uuid.uuid4().hex[:24], "name": n, "input": a} for n, a in tools]
    return [*thoughts, *({"type": "text", "text": text} for text in texts), *calls]


def _pieces(text: str, wanted: int | None) -> list[str]:
    count = min(wanted or max(1, min(8, len(text) // 40)), max(1, len(text)))
    step = -(-len(text) // count) or 1
    return [text[at : at + step] for at in range(0, len(text), step)] or [""]


def _deltas(block: Json, turn: Turn) -> tuple[Json, list[Json]]:
    """A content block as it begins, and what is streamed into it."""
    if block["type"] == "text":
        pieces = _pieces(block["text"], turn.pieces)
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]
    if block["type"] == "thinking":
        pieces = _pieces(block["thinking"], turn.pieces)
        deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    pieces = _pieces(json.dumps(block["input"]), None)
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def sse_events(whole: Json, turn: Turn) -> Iterator[tuple[str, Json, float]]:
    """(event, data, seconds to wait before it) for a whole streamed message."""
    usage: Json = whole["usage"]
    begun: Json = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield "message_start", {"message": begun}, 0.0
    yield "ping", {}, 0.0
    for index, block in enumerate(whole["content"]):
        empty, deltas = _deltas(block, turn)
        yield "content_block_start", {"index": index, "content_block": empty}, 0.0
        for delta in deltas:
            yield "content_block_delta", {"index": index, "delta": delta}, turn.gap_s
        yield "content_block_stop", {"index": index}, 0.0
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"delta": end, "usage": {"output_tokens": usage["output_tokens"]}}, 0.0
    yield "message_stop", {}, 0.0
