"""The events of the fake `claude`, shaped like those of the real CLI 2.1.330 in stream-json. Pure.

Taken from recorded runs of the real binary against a simulated API; the keys that claude-pool reads are all there with
their real types, most of the others as well. `tests/e2e/test_real_cli_simulated.py` holds both against each other.
"""

from __future__ import annotations

TYPE_CHECKING = False  # spares the fake the 3 ms that importing typing costs, in every run
if TYPE_CHECKING:
    from typing import Any

    from claude_pool.testing.fake_options import Options

_TOOLS = ["Task", "Bash", "Edit", "Read", "WebFetch", "WebSearch", "Write"]
_SERVER_SIDE = " This is a server-side issue, usually temporary — try again in a moment."

# status: (the API's type, the CLI's category, the text that people see)
API_ERRORS: dict[int, tuple[str | None, str, str]] = {
    0: (None, "server_error", "API Error: Connection refused (ECONNREFUSED)"),
    400: ("invalid_request_error", "unknown", "API Error: 400 invalid request"),
    401: ("authentication_error", "authentication_failed", "Invalid API key · Fix external API key"),
    402: ("billing_error", "billing_error", "Credit balance is too low"),
    403: (
        "permission_error",
        "authentication_failed",
        "Failed to authenticate. API Error: 403 Your API key does not have permission to use the specified resource.",
    ),
    404: (
        "not_found_error",
        "model_not_found",
        (
            "There's an issue with the selected model ({model}). It may not exist or you may not have access to it. "
            "Run --model to pick a different model."
        ),
    ),
    413: ("request_too_large", "invalid_request", "Request too large (413)"),
    429: (
        "rate_limit_error",
        "rate_limit",
        "API Error: Request rejected (429) · This request would exceed your organization's rate limit.",
    ),
    500: ("api_error", "server_error", "API Error: 500 Internal server error." + _SERVER_SIDE),
    529: ("overloaded_error", "server_error", "API Error: 529 Overloaded." + _SERVER_SIDE),
}
RETRIED = frozenset({0, 401, 429, 500, 529})
"""What the real CLI tries again by itself, telling so by `system/api_retry`."""


def init(options: Options) -> dict[str, Any]:
    """The `system/init` event that opens every turn."""
    return {
        "type": "system",
        "subtype": "init",
        "tools": options.lists.get("--tools", _TOOLS),
        "mcp_servers": [],
        "model": options.model,
        "permissionMode": options.values.get("--permission-mode", "default"),
        "slash_commands": ["clear", "compact", "context", "model"],
        "apiKeySource": "ANTHROPIC_API_KEY",
        "agents": [],
        "skills": [],
        "plugins": [],
        "capabilities": ["interrupt_receipt_v1", "interrupt_cancel_queued_v1"],
        "output_style": "default",
    }


def usage(tokens: dict[str, int]) -> dict[str, Any]:
    """A message's or a result's `usage`."""
    return {
        "input_tokens": tokens.get("in", 0),
        "cache_creation_input_tokens": tokens.get("cache_write", 0),
        "cache_read_input_tokens": tokens.get("cache_read", 0),
        "output_tokens": tokens.get("out", 0),
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        "service_tier": "standard",
        "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
    }


def model_usage(model: str, tokens: dict[str, int], cost_usd: float) -> dict[str, Any]:
    """A result's `modelUsage`; nothing when nothing was spent."""
    if not cost_usd and not any(tokens.values()):
        return {}
    return {
        model: {
            "inputTokens": tokens.get("in", 0),
            "outputTokens": tokens.get("out", 0),
            "cacheReadInputTokens": tokens.get("cache_read", 0),
            "cacheCreationInputTokens": tokens.get("cache_write", 0),
            "webSearchRequests": 0,
            "costUSD": cost_usd,
            "contextWindow": 1_000_000,
            "maxOutputTokens": 128_000,
            "canonicalModel": model,
            "provider": "firstParty",
            "costBasis": "list",
        }
    }


def assistant(block: dict[str, Any], model: str, message_id: str) -> dict[str, Any]:
    """One content block of the model's answer."""
    return {
        "type": "assistant",
        "message": {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [block],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage({"out": 1}),
        },
        "parent_tool_use_id": None,
    }


def delta(text: str) -> dict[str, Any]:
    """One piece of text as it streams in, with `--include-partial-messages`."""
    piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return {"type": "stream_event", "event": piece, "parent_tool_use_id": None}


def tool_result(tool_use_id: str, text: str, *, is_error: bool = False) -> dict[str, Any]:
    """What a tool call gave, as the `user` event that follows it."""
    block = {"tool_use_id": tool_use_id, "type": "tool_result", "content": text, "is_error": is_error}
    told: Any = f"Error: {text}" if is_error else {"stdout": text, "stderr": "", "interrupted": False}
    return {
        "type": "user",
        "message": {"role": "user", "content": [block]},
        "parent_tool_use_id": None,
        "tool_use_result": told,
    }


def synthetic(text: str) -> dict[str, Any]:
    """A user message that the CLI wrote by itself."""
    return {
        "type": "user",
        "message": {"role": "user", "content": [{"type": "text", "text": text}]},
        "parent_tool_use_id": None,
        "isSynthetic": True,
    }


def api_retry(attempt: int, limit: int, status: int) -> dict[str, Any]:
    """The CLI is about to ask the API once more."""
    category = {0: "unknown", 529: "overloaded"}.get(status) or API_ERRORS.get(status, (None, "unknown", ""))[1]
    return {
        "type": "system",
        "subtype": "api_retry",
        "attempt": attempt,
        "max_retries": limit,
        "retry_delay_ms": 1,
        "error_status": status or None,
        "error": category,
    }


def api_failure(text: str, status: int, **more: Any) -> dict[str, Any]:
    """The `assistant` event that an API failure ends a turn with."""
    kind, category, _ = API_ERRORS.get(status, ("api_error", "unknown", ""))
    event = assistant({"type": "text", "text": text}, "<synthetic>", "synthetic")
    event["message"].update(stop_reason="stop_sequence", stop_sequence="", usage=usage({}))
    return {
        **event,
        "error": category,
        "is_api_error_message": True,
        "api_error_status": status or None,
        "api_error_type": kind,
        **more,
    }


def rate_limit(status: str, resets_at: float | None, limit_type: str) -> dict[str, Any]:
    """The quota as a subscription's answer tells it; `resets_at` None leaves it out."""
    info: dict[str, Any] = {"status": status, "rateLimitType": limit_type, "isUsingOverage": False}
    return info if resets_at is None else {**info, "resetsAt": resets_at}


def result(**changes: Any) -> dict[str, Any]:
    """A `result` event: a success unless changed; `None` for `result` leaves the key out, as errors do."""
    event: dict[str, Any] = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "num_turns": 1,
        "result": "",
        "stop_reason": "end_turn",
        "terminal_reason": "completed",
        "duration_ms": 1,
        "duration_api_ms": 1,
        "api_error_status": None,
        "permission_denials": [],
        "subagent_stats": {"spawned": 0, "completed": 0, "failed": 0},
        "safety_stops": 0,
        "queued_turn_count": 0,
        "result_index": 0,
        **changes,
    }
    if event["result"] is None:
        del event["result"]
    return event


def sample(schema: Any) -> Any:
    """A small value that satisfies a plain JSON Schema: what the fake gives as structured output."""
    if not isinstance(schema, dict):
        return None
    known: dict[str, Any] = schema  # pyright: ignore[reportUnknownVariableType] - JSON from the command line
    if "const" in known:
        return known["const"]
    if known.get("enum"):
        return known["enum"][0]
    properties: dict[str, Any] = known.get("properties") or {}
    if known.get("type") == "object" or properties:
        return {name: sample(properties.get(name, {})) for name in known.get("required", properties)}
    if known.get("type") == "array":
        return [sample(known.get("items", {})) for _ in range(known.get("minItems", 0))]
    simple: dict[str, Any] = {"string": "x", "integer": known.get("minimum", 1), "number": 1.0, "boolean": True}
    return simple.get(str(known.get("type")))
