"""TaskOptions: everything that can be chosen per task, in one model that every entry point uses.

CLI flags, MCP arguments, chain steps, fan-out branches and `Pool.submit` all end here; an unknown field is refused by
name. `None` always means "not chosen here": the pool's settings, then the CLI's own default, decide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from claude_pool.models.base import Record

MAX_PROMPT_BYTES = 8 << 20
"""Prompts above this are refused at submit; the CLI itself refuses 10 MB and the API 32 MB."""

Effort = Literal["low", "medium", "high", "xhigh", "max"]
PermissionMode = Literal["default", "plan", "acceptEdits", "dontAsk", "auto", "bypassPermissions"]
Isolation = Literal["worktree", "clone", "none"]
Warmth = Literal["off", "spare", "reuse"]
OnLost = Literal["resume", "restart", "hold", "fail"]

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,127}$")]
"""Never starts with a dash: it becomes a command-line argument of the CLI."""
ToolRule = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][^\x00-\x1f]{0,999}$")]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
GitRef = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/@{}^~+-]{0,254}$")]
SessionChoice = Annotated[
    str, StringConstraints(pattern=r"^(fresh|(continue|fork):t-[0-9a-z]{10}|name:[A-Za-z0-9][A-Za-z0-9._-]{0,63})$")
]


def plain_text(text: str) -> str:
    """The text, if it can travel: no NUL, no lone surrogate. Raises ValueError."""
    if "\x00" in text:
        msg = "must not contain a NUL character"
        raise ValueError(msg)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"is not valid Unicode: lone surrogate at character {error.start}"
        raise ValueError(msg) from None
    return text


def prompt_text(text: str) -> str:
    """The prompt, if a model could be asked it: not empty, plain text, at most 8 MiB. Raises ValueError."""
    if not plain_text(text).strip():
        msg = "must not be empty"
        raise ValueError(msg)
    if (size := len(text.encode())) > MAX_PROMPT_BYTES:
        msg = f"is {size:,} bytes; at most {MAX_PROMPT_BYTES:,} (8 MiB) are accepted"
        raise ValueError(msg)
    return text


PlainText = Annotated[str, AfterValidator(plain_text)]
Prompt = Annotated[str, AfterValidator(prompt_text)]

_DEEPEST = 64


def _inside(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return cast("dict[str, Any]", node).values()
    return cast("list[Any]", node) if isinstance(node, list) else ()


def _depth(value: Any) -> int:
    level: list[Any] = [value]
    for depth in range(_DEEPEST + 1):
        if not level:
            return depth
        level = [item for node in level for item in _inside(node)]
    return _DEEPEST + 1


def json_object(value: dict[str, Any]) -> dict[str, Any]:
    """The object, if it is plain JSON of sane depth. Raises ValueError."""
    if _depth(value) > _DEEPEST:
        msg = f"is nested more than {_DEEPEST} levels deep"
        raise ValueError(msg)
    try:
        plain_text(json.dumps(value, allow_nan=False, ensure_ascii=False))
    except (TypeError, ValueError) as error:
        msg = f"is not JSON: {error}"
        raise ValueError(msg) from None
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(json_object)]


class TaskOptions(Record):
    """How one task is to be run. Durations are seconds, money is US dollars.

    Limits on repeats are separate on purpose: `max_attempts` counts paid fresh starts, `max_continuations` runs that
    resume an earlier session, so that "never paid twice without need" is a number in the record.
    """

    model: ModelName | None = Field(default=None, description="model alias or id, such as haiku, sonnet, opus")
    fallback_model: ModelName | None = Field(default=None, description="model to use when the first is overloaded")
    effort: Effort | None = Field(default=None, description="how hard the model should think")
    permission_mode: PermissionMode | None = Field(
        default=None, description="default: acceptEdits in a workspace of its own, plan (read-only) without one"
    )
    max_turns: Annotated[int, Field(ge=1, le=10_000)] | None = Field(default=None, description="limit on model calls")
    system_prompt: PlainText | None = Field(default=None, max_length=1 << 20, description="appended to the CLI's own")
    allowed_tools: tuple[ToolRule, ...] = Field(default=(), description="rules granted ahead, such as Bash(git:*)")
    disallowed_tools: tuple[ToolRule, ...] = Field(default=(), description="rules that always deny")
    tools: tuple[ToolRule, ...] | None = Field(
        default=None, description="built-in tools offered at all; [] offers none"
    )
    mcp_servers: JsonObject = Field(default_factory=dict, description="MCP servers for the worker, by name")
    json_schema: JsonObject | None = Field(default=None, description="JSON Schema the answer must satisfy")
    max_budget_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = Field(
        default=None, description="most to spend"
    )
    timeout_s: Annotated[float, Field(gt=0, le=604_800)] | None = Field(default=None, description="limit per run")
    silence_timeout_s: Annotated[float, Field(gt=0, le=604_800)] | None = Field(
        default=None, description="limit without any sign of life from the CLI"
    )
    tags: tuple[Tag, ...] = Field(default=(), max_length=32, description="labels to filter by")
    repo: PlainText | None = Field(default=None, description="repository to work on: a path on the node, or a URL")
    working_dir: PlainText | None = Field(default=None, description="directory to work in, with isolation none")
    env: tuple[EnvName, ...] = Field(default=(), description="names of further variables the node passes to the CLI")
    isolation: Isolation | None = Field(default=None, description="worktree (default with a repository), clone or none")
    base_ref: GitRef | None = Field(default=None, description="what the task's branch starts from")
    session: SessionChoice = Field(default="fresh", description="fresh, continue:<task>, fork:<task> or name:<n>")
    warm: Warmth | None = Field(
        default=None, description="at most this much of the pool's warm setting: spare shares no process, off none"
    )
    on_lost: OnLost = Field(default="resume", description="what to do when the run's slot is lost")
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=1, description="limit on paid fresh starts; 3 unless chosen with on_lost restart"
    )
    max_continuations: Annotated[int, Field(ge=0, le=100)] = Field(default=5, description="limit on resumed runs")
    max_infra_retries: Annotated[int, Field(ge=0, le=1000)] = Field(default=10, description="limit on free repeats")
    max_crashes: Annotated[int, Field(ge=1, le=100)] = Field(default=3, description="crashes until dead letter")
    priority: Annotated[int, Field(ge=0, le=4)] = Field(default=2, description="0 is the most urgent, 4 the least")
    review: bool = Field(default=False, description="a success waits for somebody to approve or reject it")
    max_rejections: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="rejections until the task fails; each before that is one more run"
    )
    review_expires_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = Field(
        default=None, description="a review that nobody decides for so long fails the task"
    )

    @model_validator(mode="before")
    @classmethod
    def _restarts(cls, data: Any) -> Any:
        """A task that is to be started afresh when it is lost needs more than one start to be so."""
        if not isinstance(data, dict):
            return data
        given = cast("dict[str, Any]", data)
        return {"max_attempts": 3, **given} if given.get("on_lost") == "restart" else given

    @field_validator("mcp_servers")
    @classmethod
    def _server_names(cls, servers: dict[str, Any]) -> dict[str, Any]:
        for name, entry in servers.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or not isinstance(entry, dict):
                msg = f"{name!r} must be a plain name with an object that describes the server"
                raise ValueError(msg)
        return servers
