"""Command: argv, environment and stdin lines of one run of the CLI. Pure; each choice was measured on claude 2.1.330.

Every value is part of its flag (`--flag=value`), so none can be read as a flag, and flags that take many values are
repeated instead, so none can swallow its neighbour. The prompt goes by stdin as composed text: no slash command, no
`@file`. What other users of the machine should not see in a process list (MCP servers may hold tokens), and
what is too long for an argument, goes into `files`, which are to be written before the start.

The environment is an allow-list. HOME is the node's own, since compilers, package managers, git and the macOS keychain
find their things by it; only without one it is the slot's. Config and temp directories are always the slot's.

Without a workspace of its own the default mode is `plan`: it reads anywhere, changes nothing (an `allowed_tools` rule
still allows what it names), and ends with exit 0 in stream-json mode. The CLI answers there with `sonnet` when the
alias `haiku` was asked for; a full model id is kept. `dontAsk` is the read-only choice without that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from claude_pool.config import PoolConfig
from claude_pool.errors import Refused
from claude_pool.models.base import Record
from claude_pool.models.options import Isolation, PermissionMode, TaskOptions
from workers.environment import build_env
from workers.places import Place

SessionId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]

MOST_ARGUMENT_BYTES: Final = 100_000
"""Linux takes 131,071 bytes an argument; longer texts travel as files."""

UNATTENDED: Final = (
    "ScheduleWakeup",
    "CronCreate",
    "CronDelete",
    "CronList",
    "Monitor",
    "RemoteTrigger",
    "SendMessage",
    "ListAgents",
    "EnterWorktree",
    "ExitWorktree",
)
"""Tools that outlive their answer, reach other sessions or leave the workspace: denied unless a task allows them."""


class LaunchRequest(Record):
    """What is known when a run is about to start. `resume` is the session to go on with."""

    binary: str
    options: TaskOptions
    task_id: str
    run_id: str
    slot_id: str
    session_id: SessionId
    resume: SessionId | None = None
    fork: bool = False
    cap_usd: float | None = None
    place: Place
    cwd: str
    config: PoolConfig
    node_env: Mapping[str, str] = Field(repr=False)
    isolation: Isolation | None = None
    """Of the workspace that the run got; None works it out from options and settings."""


class Launch(Record):
    """Everything needed to start one process. `files` maps paths to contents, to be written (0600) before."""

    argv: tuple[str, ...]
    env: dict[str, str] = Field(repr=False)
    cwd: str
    files: dict[str, str] = Field(default_factory=dict[str, str], repr=False)


def build_launch(request: LaunchRequest) -> Launch:
    """The process of one run. Raises Refused when the pool's owner did not allow what the task asks for."""
    files: dict[str, str] = {}
    argv = (
        request.binary,
        "-p",
        "--input-format=stream-json",
        "--output-format=stream-json",
        "--verbose",
        *_trust(request.config),
        *_model(request),
        f"--permission-mode={permission_mode(request.options, request.config, request.isolation)}",
        *_tools(request.options),
        *_limits(request),
        *_texts(request, files),
        *_session(request),
    )
    return Launch(argv=argv, env=build_env(_marks(request), request), cwd=request.cwd, files=files)


def isolation_of(options: TaskOptions, config: PoolConfig) -> Isolation:
    """What the task asks for, else the pool's setting, else a worktree where there is a repository."""
    return (
        options.isolation
        or config.isolation
        or ("worktree" if options.repo or config.repo or config.repo_url else "none")
    )


def permission_mode(options: TaskOptions, config: PoolConfig, isolation: Isolation | None = None) -> PermissionMode:
    """What the task asks for, else the pool's setting, else by isolation. Raises Refused for a bypass not allowed."""
    shut_in = isolation or isolation_of(options, config)
    by_isolation: PermissionMode = "plan" if shut_in == "none" else "acceptEdits"
    mode = options.permission_mode or config.permission_mode or by_isolation
    if mode == "bypassPermissions" and not config.allow_bypass:
        raise Refused(
            "Permission mode bypassPermissions is not allowed in this pool.",
            hint="The pool's owner can set allow_bypass.",
        )
    return mode


def user_line(text: str, *, uuid: str, task_id: str | None = None, run_id: str | None = None) -> bytes:
    """One message for a run's stdin; composed text is never read as a command.

    Task and run are for whoever reads along (the fake does); the CLI itself takes no notice of them.
    """
    message: dict[str, Any] = {
        "type": "user",
        "message": {"role": "user", "content": text},
        "parent_tool_use_id": None,
        "session_id": "",
        "uuid": uuid,
        "client_composed": True,
    }
    if task_id is not None:
        message["claude_pool"] = {"task": task_id, "run": run_id}
    return _line(message)


def clear_line(uuid: str) -> bytes:
    """Empties the conversation of an idle process; not composed, since it is to be a command."""
    message = {"role": "user", "content": "/clear"}
    return _line({"type": "user", "message": message, "parent_tool_use_id": None, "session_id": "", "uuid": uuid})


def interrupt_line(request_id: str) -> bytes:
    """Asks the CLI to end the turn; the result with the cost so far follows within milliseconds."""
    request = {"subtype": "interrupt", "cancel_queued": True}
    return _line({"type": "control_request", "request_id": request_id, "request": request})


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


PORTS: Final = 20
"""A slot's block of port numbers, from `CLAUDE_POOL_PORT_BASE` on."""


def _marks(request: LaunchRequest) -> dict[str, str]:
    return {
        "CLAUDE_POOL_NAME": request.config.name,
        "CLAUDE_POOL_NODE": request.config.node,
        "CLAUDE_POOL_SLOT": request.slot_id,
        "CLAUDE_POOL_RUN": request.run_id,
        "CLAUDE_POOL_TASK": request.task_id,
        "CLAUDE_POOL_PORT_BASE": str(request.config.port_base + request.place.number * PORTS),
    }


def _trust(config: PoolConfig) -> tuple[str, ...]:
    """Without these two a repository's hooks, helpers, servers and variables run with no question asked."""
    return () if config.trust_repo else ("--setting-sources=", "--strict-mcp-config")


def _model(request: LaunchRequest) -> tuple[str, ...]:
    options = request.options
    chosen = {
        "--model": options.model or request.config.model,
        "--fallback-model": options.fallback_model,
        "--effort": options.effort,
    }
    return tuple(f"{flag}={value}" for flag, value in chosen.items() if value is not None)


def _tools(options: TaskOptions) -> tuple[str, ...]:
    allowed = {rule.partition("(")[0] for rule in (*options.allowed_tools, *(options.tools or ()))}
    denied = (*(name for name in UNATTENDED if name not in allowed), *options.disallowed_tools)
    offered = () if options.tools is None else (f"--tools={','.join(options.tools)}",)
    return (
        *offered,
        *(f"--allowedTools={rule}" for rule in options.allowed_tools),
        *(f"--disallowedTools={rule}" for rule in denied),
    )


def _limits(request: LaunchRequest) -> tuple[str, ...]:
    turns = request.options.max_turns or request.config.max_turns
    caps = [cap for cap in (request.cap_usd, request.options.max_budget_usd) if cap is not None]
    return (
        *(() if turns is None else (f"--max-turns={turns}",)),
        *((f"--max-budget-usd={max(min(caps), 1e-6):.6f}",) if caps else ()),
    )


def _texts(request: LaunchRequest, files: dict[str, str]) -> tuple[str, ...]:
    options, flags = request.options, list[str]()
    if options.system_prompt:
        if len(options.system_prompt.encode()) <= MOST_ARGUMENT_BYTES:
            flags.append(f"--append-system-prompt={options.system_prompt}")
        else:
            path = _file(request, "system-prompt.txt", options.system_prompt, files)
            flags.append(f"--append-system-prompt-file={path}")
    if options.mcp_servers:
        path = _file(request, "mcp.json", json.dumps({"mcpServers": options.mcp_servers}), files)
        flags.append(f"--mcp-config={path}")
    if options.json_schema is not None:
        schema = json.dumps(options.json_schema, separators=(",", ":"))
        if len(schema) > MOST_ARGUMENT_BYTES:
            raise Refused(f"The JSON schema is {len(schema):,} bytes; the CLI takes at most {MOST_ARGUMENT_BYTES:,}.")
        flags.append(f"--json-schema={schema}")
    return tuple(flags)


def _file(request: LaunchRequest, name: str, content: str, files: dict[str, str]) -> str:
    path = str(request.place.root / name)
    files[path] = content
    return path


def _session(request: LaunchRequest) -> tuple[str, ...]:
    if request.resume is None:
        return (f"--session-id={request.session_id}",)
    if request.fork:
        return (f"--resume={request.resume}", "--fork-session", f"--session-id={request.session_id}")
    return (f"--resume={request.resume}",)
