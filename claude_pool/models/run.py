"""What one `claude` process told us: facts only, before anybody judges them.

The runner collects a `RunFacts`; `claude_pool.retry` turns it into a verdict. Field names follow the CLI's own where
it has them (claude CLI 2.1.330, stream-json `result` event).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from claude_pool.models.base import Record


class Usage(Record):
    """Tokens by kind."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields})


class ModelUsage(Usage):
    """Tokens and money of one model."""

    cost_usd: float = 0.0


class StopCause(StrEnum):
    """Why the pool itself ended a run; `NONE` when it ended by itself."""

    NONE = "none"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    SILENCE = "silence"
    DRAINED = "drained"
    FENCED = "fenced"
    OUTPUT_LIMIT = "output_limit"


class ExitFacts(Record):
    """How the process ended. `code` is None when a signal ended it or it never started."""

    code: int | None = None
    signal: int | None = None
    started: bool = True
    left_behind: int = 0
    """Processes of the run that had to be killed after the CLI itself was gone."""
    max_rss_kb: int | None = None
    cpu_s: float | None = None


class RateLimit(Record):
    """The last rejected quota the CLI reported. `resets_at` is Unix seconds, None when unknown."""

    status: str = "rejected"
    resets_at: float | None = None
    limit_type: str | None = None


class Denial(Record):
    """A tool call that was not allowed."""

    tool_name: str
    tool_input: dict[str, Any] = Field(default_factory=dict[str, Any])


class RunFacts(Record):
    """One run, as it was observed."""

    session_id: str | None = None
    saw_init: bool = False
    saw_output: bool = False
    """The model produced something: an assistant event was seen."""
    has_result: bool = False
    is_error: bool = False
    subtype: str | None = None
    terminal_reason: str | None = None
    stop_reason: str | None = None
    api_error_status: int | None = None
    api_error_type: str | None = None
    api_error_category: str | None = None
    """The CLI's own word for the failure, such as `usage_limit_reached`."""
    result_count: int = 0
    output: str = ""
    """The answer: the first result without an origin of its own; else the last assistant text (partial)."""
    errors: tuple[str, ...] = ()
    structured_output: Any = None
    has_structured_output: bool = False
    cost_usd: float = 0.0
    """Of this run alone."""
    session_cost_usd: float = 0.0
    """What the CLI said, cumulative over a resumed session."""
    cost_known: bool = False
    usage: Usage = Usage()
    model_usage: dict[str, ModelUsage] = Field(default_factory=dict[str, ModelUsage])
    model: str | None = None
    num_turns: int = 0
    duration_ms: int = 0
    duration_api_ms: int = 0
    denials: tuple[Denial, ...] = ()
    rate_limit: RateLimit | None = None
    api_retries: int = 0
    last_retry_status: int | None = None
    mcp_failed: tuple[str, ...] = ()
    """MCP servers that the CLI left out in silence."""
    cli_version: str | None = None
    stderr_tail: str = ""
    bad_lines: int = 0
    lines: int = 0
    stopped: StopCause = StopCause.NONE
    exit: ExitFacts = ExitFacts()
