"""What a request to the Messages API asks: the user's last prompt, and how far its script has been played. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from claude_pool.testing.simulated.script import Json, directives

CLIENT_NUDGES: Final = (
    "[structured-output-enforce]",
    "Output token limit hit.",
    "[Request interrupted by user",
    "Your response above was stopped by a safety classifier",
    "<task-notification>",
    "Continue from where you left off",
    "Your tool call was malformed",
)
"""User messages that Claude Code writes by itself; they continue the script of the prompt before."""

_CLIENT_NOTES: Final = re.compile(r"<(system-reminder|local-command-[a-z]+|command-[a-z]+)>.*?</\1>", re.DOTALL)
_SESSION: Final = re.compile(r'session(?:_id"\s*:\s*"|_)([0-9a-f-]{36})')


def blocks(content: Any) -> list[Json]:
    """A message's content as blocks."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return cast("list[Json]", content or [])


def messages_of(body: Json) -> list[Json]:
    """The conversation."""
    return cast("list[Json]", body.get("messages") or [])


def tool_names(body: Json) -> list[str]:
    """The tools that are offered to the model."""
    return [str(tool.get("name")) for tool in cast("list[Json]", body.get("tools") or [])]


def own_text(message: Json) -> str:
    """The user's own words in a message: its last text block that no client wrote by itself.

    Only the last one, because a client merges messages that follow each other: an interrupted prompt and the next one
    arrive as two blocks of one message.
    """
    for block in reversed(blocks(message.get("content"))):
        if block.get("type") == "text":
            text = _CLIENT_NOTES.sub("", str(block.get("text", ""))).strip()
            if text and not text.startswith(CLIENT_NUDGES):
                return text
    return ""


def last_prompt(messages: list[Json]) -> tuple[str, int]:
    """The last prompt of the user, and how many assistant messages came after it.

    Skipped on the way back: texts without directives beside tool results.
    """
    after = 0
    for message in reversed(messages):
        role = message.get("role")
        if role == "assistant":
            after += 1
        elif role == "user":
            text = own_text(message)
            kinds = {block.get("type") for block in blocks(message.get("content"))}
            if text and ("tool_result" not in kinds or directives(text)):
                return text, after
    return "", after


def last_tool_result(messages: list[Json]) -> str:
    """The text of the newest tool result."""
    for message in reversed(messages):
        for block in reversed(blocks(message.get("content"))):
            if block.get("type") == "tool_result":
                parts = blocks(block.get("content"))
                return "\n".join(str(part.get("text", f"<{part.get('type')}>")) for part in parts)
    return ""


def session_of(body: Json, headers: Mapping[str, str]) -> str | None:
    """The client's session id, where it tells one (Claude Code does, in a header or in `metadata.user_id`)."""
    if told := headers.get("x-claude-code-session-id"):
        return told
    metadata = cast("Json", body.get("metadata") or {})
    match = _SESSION.search(str(metadata.get("user_id") or ""))
    return match[1] if match else None
