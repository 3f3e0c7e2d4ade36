"""Diagnosis: why a run did not bring an answer, as one `TaskError`. Pure.

Read in this order: what the pool itself did, the CLI's structured fields, its exit, and texts only where nothing else
tells. `subtype` alone decides nothing: an API failure arrives as `success` with `is_error`.
"""

from __future__ import annotations

import re
from typing import Final

from claude_pool.models.run import RunFacts, StopCause
from claude_pool.models.task import ErrorCode, TaskError
from claude_pool.text import ending, excerpt, one_line

E = ErrorCode

BY_STOP: Final = {
    StopCause.CANCELLED: (E.CANCELLED, "The task was cancelled."),
    StopCause.TIMEOUT: (E.TIMEOUT, "The run took longer than its time limit."),
    StopCause.SILENCE: (E.SILENCE_TIMEOUT, "The run gave no sign of life for longer than allowed."),
    StopCause.DRAINED: (E.DRAINED, "The run was stopped because its slot had to leave."),
    StopCause.FENCED: (E.LOST, "The run was superseded by another."),
    StopCause.OUTPUT_LIMIT: (E.OUTPUT_LIMIT, "The run wrote more output than allowed."),
}

BY_TERMINAL: Final = {
    "max_turns": E.MAX_TURNS,
    "budget_exhausted": E.BUDGET_EXHAUSTED,
    "prompt_too_long": E.CONTEXT_TOO_LONG,
    "blocking_limit": E.CONTEXT_TOO_LONG,
    "image_error": E.CONTEXT_TOO_LONG,
    "aborted_tools": E.LOST,
    "aborted_streaming": E.LOST,
}

BY_SUBTYPE: Final = {
    "error_max_turns": E.MAX_TURNS,
    "error_max_budget_usd": E.BUDGET_EXHAUSTED,
    "error_max_structured_output_retries": E.SCHEMA_UNMET,
}

BY_CATEGORY: Final = {
    "usage_limit_reached": E.USAGE_LIMIT,
    "authentication_failed": E.AUTH,
    "oauth_org_not_allowed": E.AUTH,
    "billing_error": E.BILLING,
    "rate_limit": E.THROTTLED,
    "connection_failed": E.NETWORK,
    "model_not_found": E.MODEL_NOT_FOUND,
    "max_output_tokens": E.MAX_OUTPUT,
}
"""The CLI's own words that decide; `server_error`, `invalid_request` and `unknown` are told better by the status."""

BY_STATUS: Final = {
    400: E.INVALID_REQUEST,
    401: E.AUTH,
    402: E.BILLING,
    403: E.AUTH,
    404: E.MODEL_NOT_FOUND,
    408: E.NETWORK,
    413: E.CONTEXT_TOO_LONG,
    422: E.INVALID_REQUEST,
    429: E.THROTTLED,
}

BY_TEXT: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), code)
    for pattern, code in (
        (r"not logged in|invalid api key|please run /login|token (has )?expired|failed to authenticate", E.AUTH),
        (r"credit balance|spend(ing)? limit", E.BILLING),
        (r"prompt is too long|context (length|window)", E.CONTEXT_TOO_LONG),
        (r"hit your .*limit|usage limit", E.USAGE_LIMIT),
        (r"overloaded", E.OVERLOADED),
        (r"usage policy", E.REFUSED),
        (r"incomplete|mid-?response|stream (ended|closed|stalled)|stopped responding", E.BROKEN_STREAM),
        (r"ECONN\w+|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|socket|timed out|connection|network", E.NETWORK),
    )
)
"""For failures that no field explains."""

HINTS: Final = {
    E.AUTH: "Sign in with claude, or give the node a valid ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN.",
    E.BILLING: "Add credit to the account, then close the breaker.",
    E.MODEL_NOT_FOUND: "Check the model's name, and whether the account may use it.",
    E.CONTEXT_TOO_LONG: "Split the task, or give it less to read.",
    E.MAX_TURNS: "Continue the session, or raise max_turns.",
    E.BUDGET_EXHAUSTED: "Continue the session with a new budget, or raise max_budget_usd.",
    E.SCHEMA_UNMET: "Simplify the schema, or say in the prompt what is wanted.",
    E.CLI_MISSING: "Install claude, or name it in CLAUDE_POOL_CLAUDE.",
    E.TIMEOUT: "Raise timeout_s, or split the task.",
    E.SILENCE_TIMEOUT: "Raise silence_timeout_s if the task runs long commands.",
}

SESSION_GONE: Final = "No conversation found with session ID"
SESSION_TAKEN: Final = re.compile(r"Session ID \S+ is already in use")


def succeeded(facts: RunFacts) -> bool:
    """The model gave its answer, as far as the CLI can tell."""
    return facts.has_result and not facts.is_error


def session_gone(facts: RunFacts) -> bool:
    """The session that was to be resumed is not on this node."""
    return SESSION_GONE in facts.stderr_tail or any(SESSION_GONE in error for error in facts.errors)


def diagnose(facts: RunFacts, *, wants_schema: bool = False) -> TaskError | None:
    """What went wrong; None when the answer is there and is what was asked for."""
    if (succeeded(facts) and facts.stopped is not StopCause.FENCED) or facts.stopped is StopCause.NONE:
        code, message = _by_itself(facts, wants_schema=wants_schema)
    else:
        code, message = BY_STOP[facts.stopped]
    if code is None:
        return None
    detail = "\n".join([*facts.errors, ending(facts.stderr_tail)]).strip()
    return TaskError(
        code=code,
        message=one_line(message, 500),
        hint=HINTS.get(code, ""),
        api_status=facts.api_error_status,
        detail=excerpt(detail, 4000),
    )


def _by_itself(facts: RunFacts, *, wants_schema: bool) -> tuple[ErrorCode | None, str]:
    if succeeded(facts):
        return _answered(facts, wants_schema=wants_schema)
    if facts.has_result:
        code = _of_result(facts)
        return code, " ".join(
            facts.errors
        ) or f"The run ended with {facts.terminal_reason or facts.subtype or 'an error'}."
    return _without_result(facts)


def _answered(facts: RunFacts, *, wants_schema: bool) -> tuple[ErrorCode | None, str]:
    if facts.stop_reason == "refusal":
        return E.REFUSED, "The model refused."
    if facts.stop_reason == "max_tokens":
        return E.MAX_OUTPUT, "The answer was cut at the model's output limit."
    if wants_schema and not facts.has_structured_output:
        return E.SCHEMA_UNMET, "The answer does not satisfy the JSON schema."
    return None, ""


def _of_result(facts: RunFacts) -> ErrorCode:
    text = " ".join(facts.errors)
    if SESSION_GONE in text:
        return E.LOST
    told = (
        BY_TERMINAL.get(facts.terminal_reason or "")
        or BY_SUBTYPE.get(facts.subtype or "")
        or BY_CATEGORY.get(facts.api_error_category or "")
        or _of_status(facts)
    )
    if told is E.THROTTLED and facts.rate_limit is not None:
        return E.USAGE_LIMIT
    if told is E.INVALID_REQUEST or told is None:  # a 400 is also how low credit and long prompts are told
        told = _of_text(text) or told
    if told in {None, E.NETWORK} and facts.terminal_reason == "api_error" and facts.saw_output:
        return E.BROKEN_STREAM
    return told or (E.NETWORK if facts.terminal_reason == "api_error" else E.EXECUTION)


def _of_status(facts: RunFacts) -> ErrorCode | None:
    status = facts.api_error_status
    if status is None:
        return None
    return BY_STATUS.get(status) or (E.OVERLOADED if status >= 500 else E.INVALID_REQUEST)


def _of_text(text: str) -> ErrorCode | None:
    return next((code for pattern, code in BY_TEXT if pattern.search(text)), None)


def _without_result(facts: RunFacts) -> tuple[ErrorCode, str]:
    exit_ = facts.exit
    last = one_line(ending(facts.stderr_tail).rpartition("\n")[2], 300)
    if not exit_.started:
        return E.CLI_MISSING, f"The claude program could not be started. {last}"
    if SESSION_TAKEN.search(facts.stderr_tail) or session_gone(facts):
        return E.LOST, last
    signal = exit_.signal or (exit_.code - 128 if exit_.code is not None and 128 < exit_.code < 160 else None)
    if signal is not None:
        return E.CRASHED, f"The claude program was ended by signal {signal}. {last}"
    if not facts.saw_init and exit_.code:
        return E.CLI_START, f"The claude program did not start its work (exit {exit_.code}). {last}"
    return E.NO_RESULT, f"The claude program ended without a result (exit {exit_.code}). {last}"
