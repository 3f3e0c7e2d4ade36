"""Where the command line speaks: answers on stdout, messages on stderr, one JSON document with `--json`.

People's text is plain where the stream is no terminal. A reader that goes away (`| head`) ends the program quietly with
141, as a shell reports it. JSON is pure ASCII: no locale can spoil it, and no model can move a terminal's cursor by it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO

import typer

from claude_pool.cli.render import Block
from claude_pool.documents import Document, of_error
from claude_pool.errors import PoolError
from claude_pool.models.task import TaskState

if TYPE_CHECKING:
    from rich.console import Console

DONE: Final = 0
TASK_FAILED: Final = 1
WRONG_USAGE: Final = 2
REFUSED: Final = 4
UNFINISHED: Final = 5
"""Time ran out before the task was done, or it waits for somebody to act."""
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141

SEVERITY: Final = (DONE, UNFINISHED, TASK_FAILED)
"""Of several tasks' codes, the last of these is the program's."""


def code_of(state: TaskState) -> int:
    """The exit code for work in this state."""
    if state in {TaskState.COMPLETED, TaskState.PENDING_REVIEW}:
        return DONE
    return TASK_FAILED if state.final else UNFINISHED


def say(text: str) -> None:
    """A line, or several, of the answer."""
    _write(sys.stdout, text + "\n")


def piece(text: str) -> None:
    """A piece of an answer, as it is."""
    _write(sys.stdout, text)


def note(text: str) -> None:
    """A message beside the answer."""
    _write(sys.stderr, text + "\n")


def document(value: Document, *, pretty: bool = False) -> None:
    """The one JSON document of this call."""
    say(json.dumps(value, ensure_ascii=True, allow_nan=False, indent=2 if pretty or sys.stdout.isatty() else None))


def json_line(value: Any) -> None:
    """One line of JSON; only for `logs --raw`, which is a stream by its nature."""
    say(json.dumps(value, ensure_ascii=True, allow_nan=False))


def answer(value: Document, *blocks: Block, as_json: bool) -> None:
    """The same answer for a program or for a person."""
    if as_json:
        document(value)
    else:
        show(*blocks)


def show(*blocks: Block) -> None:
    """Text and tables: as wide as the terminal is; into a file or a pipe, as wide as they need to be."""
    if not sys.stdout.isatty():
        say("\n".join(block if isinstance(block, str) else block.plain() for block in blocks))
        return
    where = console(sys.stdout)
    try:
        for block in blocks:
            where.print(block if isinstance(block, str) else block.rich())
    except BrokenPipeError:
        _gone()


def fail(error: PoolError, *, as_json: bool) -> int:
    """Say what went wrong in one sentence, with the next step; the exit code."""
    hint = f"\n  {error.hint}" if error.hint else ""
    note(f"claude-pool: {error.message}{hint}")
    if as_json:
        document(of_error(error))
    return error.exit_code


def console(stream: TextIO) -> Console:
    """A rich console on a stream; colours only where a terminal wants them."""
    from rich.console import Console  # noqa: PLC0415 - rich takes 0.1 s that most verbs can do without

    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except UnicodeEncodeError:  # a terminal of another age
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        _gone()


def _gone() -> None:
    """Nobody reads any more. What is still buffered goes nowhere, so that Python does not complain at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(nowhere, stream.fileno())
        except (OSError, ValueError):  # a stream that is no file
            continue
    os.close(nowhere)
    raise typer.Exit(PIPE_CLOSED)
