"""A stand-in for the `claude` CLI: fast, scripted by its prompt, and without any model behind it.

`install(folder)` writes an executable `claude` that speaks the real CLI's stream-json (2.1.330), with its exit codes,
sessions, budgets and control requests, and does what the prompt's directives say (`docs/testing.md` lists them all):

    [[fake:slow s=2]] [[fake:ok text="done" cost=0.02]]     work for two seconds, then answer
    [[fake:api status=529 times=2]] [[fake:ok]]             fail twice for this task, then answer
    [[fake:write path=a.txt content="hi"]] [[fake:tree]]    write a file, leave six processes, then answer

Directives are played in order; the first that ends the turn is the last one played, and without any the turn is `ok`.
`times=N` on any of them plays it only the first N times for its task; `early` plays it before the first output. A
prompt without directives is echoed, unless it resumes a session for the same task: then the session's last script is
played again, so that a retry that says only "continue" meets what it should.

What was really executed and paid is in the ledger (`fake_session`). A directive that makes no sense exits 2 and says so
on stderr: a test must not pass by a typo. It starts as `-I -S` with bare module objects in the place of the packages
`claude_pool` and `claude_pool.testing`, so that a run imports these files and six small standard modules, no more.
"""

from __future__ import annotations

import os
import signal
import sys

from claude_pool.testing import fake_shapes as shapes
from claude_pool.testing.fake_deeds import DEEDS
from claude_pool.testing.fake_endings import ENDINGS, Exit, ok
from claude_pool.testing.fake_io import BadLine, Interrupted, Pipes
from claude_pool.testing.fake_noise import NOISE
from claude_pool.testing.fake_options import VERSION, Options, Wrong
from claude_pool.testing.fake_script import Step, steps
from claude_pool.testing.fake_session import LEDGER, Book, Session
from claude_pool.testing.fake_turn import Limit, Turn, message_text

TYPE_CHECKING = False  # spares the fake the 3 ms that importing typing costs, in every run
if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType
    from typing import Any, NoReturn

MODES = {**NOISE, **DEEDS, **ENDINGS}
"""Every directive by name; each takes the turn and the directive, and gives True when it has ended the turn."""

_BOOT = """\
import sys
for name, folder in (("claude_pool", {library!r}), ("claude_pool.testing", {testing!r})):
    module = type(sys)(name)
    module.__path__ = [folder]
    sys.modules[name] = module
from claude_pool.testing.fake_claude import main
main()
"""


def install(folder: Path, *, ledger: Path | None = None) -> Path:
    """Write an executable `claude` into the folder (made if needed) and give its path; it runs this interpreter.

    `ledger` is where it keeps its ledger unless its environment names another, so no allow-list can lose it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    testing = os.path.dirname(os.path.abspath(__file__))
    boot = folder / "fake-claude-boot.py"
    boot.write_text(_BOOT.format(library=os.path.dirname(testing), testing=testing))
    program = folder / "claude"
    words = " ".join(_quoted(word) for word in (sys.executable, "-I", "-S", str(boot.resolve())))
    keep = "" if ledger is None else f': "${{{LEDGER}:={ledger}}}"\nexport {LEDGER}\n'
    program.write_text(f'#!/bin/sh\n{keep}exec {words} "$@"\n')
    program.chmod(0o755)
    return program


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def main() -> NoReturn:
    """Be `claude`."""
    try:
        options = Options(sys.argv[1:])
        if options.version:
            os.write(1, f"{os.environ.get('CLAUDE_POOL_FAKE_VERSION', VERSION)} (Claude Code)\n".encode())
            os._exit(0)
        options.check()
    except Wrong as error:
        _leave(1, str(error))
    book = Book()
    pipes = Pipes(book.alive)
    session = _session(options, pipes)
    turn = Turn(options, pipes, session, book)
    _signals(book)
    try:
        _serve(turn)
    except Exit as error:
        book.end(f"exit_{error.code}")
        os._exit(error.code)
    except BadLine as error:
        _leave(1, str(error))
    except (ValueError, KeyError, OSError) as error:
        book.end("misused")
        _leave(2, f"fake claude: {type(error).__name__}: {error}")
    os._exit(turn.exit_code)  # nothing is buffered, and taking the interpreter down would cost every run 3 ms


def _leave(code: int, text: str) -> NoReturn:
    os.write(2, text.encode() + b"\n")
    os._exit(code)


def _signals(book: Book) -> None:
    """As the real CLI: TERM and HUP end it at once, INT ends the turn with a result and exit 0."""

    def end(number: int, _frame: FrameType | None) -> None:
        book.end(f"signal_{number}")
        os._exit(128 + number)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted("signal")

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    signal.signal(signal.SIGINT, interrupt)


def _session(options: Options, pipes: Pipes) -> Session:
    """The session to work in, new or resumed; ends the process when there is none to be had."""
    if options.resume is None:
        session = Session(options.session_id, persists=options.persists)
        if options.session_id and session.in_use:
            _leave(1, f"Error: Session ID {session.id} is already in use.")
        return session
    fork_to = (options.session_id or Session().id) if options.forks else None
    session = Session.resumed(options.resume, fork_to=fork_to, persists=options.persists)
    if session is None:
        text = f"No conversation found with session ID: {options.resume}"
        result = shapes.result(
            subtype="error_during_execution",
            is_error=True,
            num_turns=0,
            result=None,
            errors=[text],
            total_cost_usd=0,
            session_id=options.resume,
        )
        del result["terminal_reason"]
        pipes.emit(result)
        _leave(1, text)
    return session


def _serve(turn: Turn) -> None:
    """Answer message after message until stdin ends."""
    if turn.options.prompt is not None or turn.options.values.get("--input-format") != "stream-json":
        _one_shot(turn)
        return
    while (message := _next(turn.pipes)) is not None:
        text = message_text(message)
        if text.strip() == "/clear" and not message.get("client_composed"):
            _clear(turn)
            continue
        turn.book.meet(message)
        if turn.options.replays:
            turn.emit({**message, "isReplay": True})
        try:
            _answer(turn, text, message.get("uuid"))
        except Interrupted as error:
            _interrupted(turn)
            if error.args:
                turn.exit_code = 0
                return


def _next(pipes: Pipes) -> dict[str, Any] | None:
    """The next message; an interrupt while idle has no effect, one by signal ends the process."""
    while True:
        try:
            return pipes.next_message()
        except Interrupted as error:
            if error.args:
                return None


def _one_shot(turn: Turn) -> None:
    """A prompt on the command line or as plain text on stdin; `text` and `json` print the result only."""
    prompt = turn.options.prompt
    if prompt is None:
        prompt = sys.stdin.read()
    form = turn.options.values.get("--output-format", "text")
    if form == "stream-json":
        _answer(turn, prompt, None)
        return
    emit = turn.pipes.emit

    def last_only(event: dict[str, Any]) -> None:
        if event["type"] == "result" and form == "json":
            emit(event)
        elif event["type"] == "result":
            turn.pipes.write(str(event.get("result", "")).encode() + b"\n")

    turn.pipes.emit = last_only
    _answer(turn, prompt, None)


def _clear(turn: Turn) -> None:
    """An empty conversation under a new id, its cost at zero."""
    turn.session = Session(persists=turn.options.persists)
    turn.process_usd = 0.0
    turn.begin("", None)
    turn.init()
    turn.pipes.emit(turn.result(num_turns=0, result=""))


def _answer(turn: Turn, prompt: str, uuid: str | None) -> None:
    """Play one prompt's script."""
    script = _script(turn, prompt)
    turn.begin(prompt, uuid)
    turn.session.asked(prompt, turn.book.task)
    turn.book.start()
    try:
        if _play(turn, [step for step in script if step.has("early")]):
            return
        turn.lifecycle("queued")
        turn.lifecycle("started")
        turn.init()
        if not turn.options.model.startswith("claude-"):
            MODES["api"](turn, Step("api", {"status": "404"}))
        elif not _play(turn, [step for step in script if not step.has("early")]):
            ok(turn, Step("ok", index=0 if script else -1))
    except Limit as error:
        _limited(turn, str(error))


def _script(turn: Turn, prompt: str) -> list[Step]:
    """What to play: the prompt's directives, or those of the last prompt when the same task only says "go on"."""
    found = steps(prompt)
    earlier: list[str] = [text for task, text in turn.session.prompts if task == turn.book.task != "-"]
    if not found and turn.options.resume:
        scripts = (steps(text) for text in reversed(earlier))
        found = next(filter(None, scripts), found)
    if unknown := [step.name for step in found if step.name not in MODES]:
        msg = f"no such directive: {', '.join(unknown)}; there are {', '.join(sorted(MODES))}"
        raise ValueError(msg)
    return found


def _play(turn: Turn, script: list[Step]) -> bool:
    for step in script:
        if step.has("times") and turn.book.times(f"{step.name}-{step.index}") > step.whole("times"):
            continue
        if MODES[step.name](turn, step):
            return True
    return False


def _limited(turn: Turn, what: str) -> None:
    """The result of a run whose turns or money are used up."""
    if what == "turns":
        limit = turn.options.max_turns or turn.calls
        text, subtype, terminal = f"Reached maximum number of turns ({limit})", "error_max_turns", "max_turns"
        changes: dict[str, Any] = {"num_turns": limit + 1}
    else:
        text = f"Reached maximum budget (${turn.options.max_budget_usd or turn.turn_usd:g})"
        subtype, terminal = "error_max_budget_usd", "budget_exhausted"
        changes = {"usage": shapes.usage({})}
    turn.finish(
        subtype=subtype,
        is_error=True,
        result=None,
        errors=[text],
        terminal_reason=terminal,
        stop_reason="tool_use",
        **changes,
    )


def _interrupted(turn: Turn) -> None:
    """The result of a turn that the host ended; it brings the cost so far."""
    turn.emit(shapes.synthetic("[Request interrupted by user]"))
    turn.finish(
        subtype="error_during_execution",
        is_error=True,
        result=None,
        errors=["the turn was interrupted"],
        terminal_reason="aborted_streaming",
        stop_reason=None,
    )
