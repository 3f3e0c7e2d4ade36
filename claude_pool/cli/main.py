"""The program `claude-pool`: arguments in, exit code out. Only here an error becomes a sentence and a number.

Exit codes: 0 done · 1 the task failed · 2 wrong usage · 3 the pool can't be reached · 4 refused · 5 not finished when
time ran out, or waiting for somebody · 130 interrupted. With `--json` an error is one document on stdout, too.
A person's mistake never ends in a stack trace; a mistake of ours does, because somebody has to mend it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer.exceptions

from claude_pool.cli import output
from claude_pool.cli.app import PROGRAM, build
from claude_pool.errors import InvalidRequest, PoolError


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)
    try:
        try:
            return _run(arguments)
        except PoolError as error:
            return output.fail(error, as_json=as_json)
        except typer.exceptions.TyperException as error:
            return output.fail(_usage(error, arguments), as_json=as_json)
    except typer.exceptions.Exit as end:  # stdout closed under us
        return end.exit_code
    except (KeyboardInterrupt, typer.exceptions.Abort):
        return output.INTERRUPTED


def _run(arguments: list[str]) -> int:
    verb = next((word for word in arguments if not word.startswith("-")), None)
    everything = "_CLAUDE_POOL_COMPLETE" in os.environ
    app = build(None if everything else verb)
    code: object = typer.main.get_command(app)(arguments, prog_name=PROGRAM, standalone_mode=False)
    return code if isinstance(code, int) else output.DONE


def _usage(error: typer.exceptions.TyperException, arguments: Sequence[str]) -> InvalidRequest:
    """A misspelt flag or verb as one of our errors."""
    verb = next((word for word in arguments if not word.startswith("-")), "")
    text = error.format_message().rstrip()
    named = f"{PROGRAM} {verb} --help" if "No such command" not in text else f"{PROGRAM} --help"
    return InvalidRequest(text if text.endswith((".", "?", "!")) else text + ".", hint=f"See `{named}`.")
