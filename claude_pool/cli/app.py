"""The verbs, and which file has each. Only the file of the verb that was asked for is imported: `status` stays quick.

A file of verbs has functions of the verbs' names, with `_` for `-` and a `_` behind Python's own words; each takes its
arguments as typer reads them from the signature and gives the exit code. Its docstring is the help, and `EXAMPLES` ends
it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Final, cast

import typer

PROGRAM: Final = "claude-pool"

VERBS: Final = {
    "run": ("tasks", "Work"),
    "submit": ("tasks", "Work"),
    "wait": ("tasks", "Work"),
    "result": ("tasks", "Work"),
    "cancel": ("tasks", "Work"),
    "hold": ("tasks", "Work"),
    "wake": ("tasks", "Work"),
    "chain": ("chains", "Work"),
    "fan-out": ("fan_outs", "Work"),
    "review": ("reviews", "Review"),
    "approve": ("reviews", "Review"),
    "reject": ("reviews", "Review"),
    "diff": ("branches", "Branches"),
    "merge": ("branches", "Branches"),
    "discard": ("branches", "Branches"),
    "branches": ("branches", "Branches"),
    "gc": ("branches", "Branches"),
    "context": ("context", "Workers"),
    "status": ("watching", "Look"),
    "list": ("watching", "Look"),
    "logs": ("watching", "Look"),
    "up": ("nodes", "Pool"),
    "worker": ("nodes", "Pool"),
    "scale": ("nodes", "Pool"),
    "drain": ("nodes", "Pool"),
    "down": ("nodes", "Pool"),
    "mcp": ("machine", "Machine"),
    "doctor": ("machine", "Machine"),
    "config": ("machine", "Machine"),
    "demo": ("demo", "Machine"),
}
"""verb → the file below `claude_pool.cli` and its heading in the help."""

GROUPS: Final = {
    "chain": ("run", "submit", "check", "list", "show", "resume"),
    "context": ("set", "get", "delete", "list"),
}
"""verb → its second words; the function behind `chain run` is `chain_run`."""

_HELP: Final = """A pool of slots that run the Claude CLI: hand out tasks, watch them, take the results.

Every verb takes --json and then prints one JSON document on stdout. Exit codes: 0 done, 1 the task failed,
2 wrong usage, 3 the pool can't be reached, 4 refused, 5 not finished in time.
"""
_EPILOG: Final = """Begin with:  claude-pool up --detach  &&  claude-pool run "Summarise README.md in one sentence"

Settings: CLAUDE_POOL_* variables over claude-pool.toml; `claude-pool config` shows them."""


def build(verb: str | None = None) -> typer.Typer:
    """The application; with a verb that exists, only that one."""
    app = typer.Typer(
        name=PROGRAM,
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_version)
    for name in [verb] if verb in VERBS else VERBS:
        _add(app, name)
    return app


def _add(app: typer.Typer, verb: str) -> None:
    file, heading = VERBS[verb]
    module = importlib.import_module(f"claude_pool.cli.{file}")
    if verb in GROUPS:
        group = typer.Typer(name=verb, help=module.HELP, no_args_is_help=True, rich_markup_mode="rich")
        for word in GROUPS[verb]:
            _add_command(group, word, module, f"{verb} {word}", heading="Commands")
        app.add_typer(group, rich_help_panel=heading)
    else:
        _add_command(app, verb, module, verb, heading=heading)


def _add_command(app: typer.Typer, name: str, module: ModuleType, verb: str, *, heading: str) -> None:
    function = getattr(module, function_name(verb))
    examples = cast("dict[str, str]", module.EXAMPLES)[verb]
    others = verb in {"worker", "mcp"}  # programs of their own, with options of their own
    passing: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True} if others else {}
    app.command(
        name,
        rich_help_panel=heading,
        epilog="Examples:\n\n" + "\n\n".join(f"  {line}" for line in examples.strip().splitlines()),
        context_settings=passing,
    )(function)


def function_name(verb: str) -> str:
    """The function behind a verb; a verb that hides one of Python's names has a `_` behind it."""
    return verb.replace("-", "_").replace(" ", "_") + ("_" if verb == "list" else "")


def _tell_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    from claude_pool._version import __version__  # noqa: PLC0415 - wanted by this flag only
    from claude_pool.cli.output import say  # noqa: PLC0415 - the same

    if wanted:
        say(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _version(
    *,
    version: bool = typer.Option(
        default=False, help="Show the version.", is_eager=True, callback=_tell_version, show_default=False
    ),
) -> None:
    """Flags before the verb."""
    del version
