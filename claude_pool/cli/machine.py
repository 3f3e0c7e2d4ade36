"""Verbs about this machine: mcp, doctor, config."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

import typer

from claude_pool.cli import output
from claude_pool.cli.counter import Json
from claude_pool.cli.render import NOTHING, Table, finding_table
from claude_pool.config import PoolConfig, load
from claude_pool.documents import Document, masked, of_findings, of_settings
from claude_pool.launch import load as load_program
from claude_pool.nodes import script

EXAMPLES: Final = {
    "mcp": """claude-pool mcp --print-config > .mcp.json
claude mcp add pool -- claude-pool mcp --slots 4
claude-pool mcp --slots 4""",
    "doctor": """claude-pool doctor
claude-pool doctor --json""",
    "config": """claude-pool config
CLAUDE_POOL_SLOTS=8 claude-pool config --json""",
}


def mcp(
    context: typer.Context,
    *,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print a ready .mcp.json and start nothing; so does --json.")
    ] = False,
    slots: Annotated[int | None, typer.Option(help="Slots of a node that it has to start.", min=0, max=256)] = None,
    as_json: Json = False,
) -> int:
    """Serve the pool to a coordinator over MCP, on stdin and stdout.

    It starts what is missing, in the background: Redis and a node with its slots, which outlive the session.
    """
    arguments = ["--slots", str(slots)] if slots is not None else []
    if print_config or as_json:  # serving, stdout belongs to the protocol
        output.document(_mcp_config(["mcp", *arguments]), pretty=True)
        return output.DONE
    try:
        return int(load_program("mcp_server.main").main([*arguments, *context.args]) or 0)
    except SystemExit as end:  # its own parser's
        return end.code if isinstance(end.code, int) else output.WRONG_USAGE


def _mcp_config(arguments: list[str]) -> Document:
    """The time limit is eight hours: it is also what keeps the client from giving up on a long, quiet wait."""
    command = str(script("claude-pool"))
    entry = {"type": "stdio", "command": command, "args": arguments, "timeout": 28_800_000}
    return {"mcpServers": {"claude-pool": entry}}


def doctor(*, as_json: Json = False) -> int:
    """Check what a pool needs on this machine, and say what to do about what is missing. Exit code 1 for an error."""
    from claude_pool.doctor import diagnose  # noqa: PLC0415 - looks at much that no other verb needs

    findings = diagnose(*load())
    output.answer(of_findings(findings), *finding_table(findings), as_json=as_json)
    return output.TASK_FAILED if any(finding.health == "error" for finding in findings) else output.DONE


def config(*, as_json: Json = False) -> int:
    """Every setting in force, and where it came from."""
    values, origins = load()
    rows = tuple((name, _shown(name, values), origins[name]) for name in PoolConfig.model_fields)
    table = Table(("SETTING", "VALUE", "FROM"), rows)
    output.answer(of_settings(values.model_dump(mode="json"), origins), table, as_json=as_json)
    return output.DONE


def _shown(name: str, values: PoolConfig) -> str:
    value: Any = getattr(values, name)
    if value is None:
        return NOTHING
    if name == "redis_url":
        return masked(value) or ""
    return ", ".join(cast("tuple[str, ...]", value)) if isinstance(value, tuple) else str(value)
