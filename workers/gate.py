"""Gate: the command that has to exit 0 in a step's workspace before the step counts as completed.

It runs under the slot's guard like the CLI itself, so nothing of it outlives the slot, its lease or its time limit; and
with the small environment of set-up commands, for what it runs was written by a model. Its end and the end of what it
said are the error that a repeat of the step is shown.
"""

from __future__ import annotations

import os
import re
import selectors
import time
from collections.abc import Mapping
from typing import Final

from claude_pool.errors import CliError
from claude_pool.models.chain import Gate
from claude_pool.models.run import ExitFacts, StopCause
from claude_pool.models.task import ErrorCode, TaskError
from workers.controls import Controls
from workers.guarded import Child, Guard
from workers.transcript import Tail

_PASSED_ON: Final = re.compile(r"PATH|HOME|LANG|LC_[A-Z]+|SHELL|USER|LOGNAME|TMPDIR|TZ|CLAUDE_POOL_\w+")
_LOOK_S: Final = 0.25
_CHUNK: Final = 1 << 16


def check(gate: Gate, *, env: Mapping[str, str], cwd: str, guard: Guard, controls: Controls) -> TaskError | None:
    """What is wrong with the workspace, by the gate's command; None when it passed, or when there is no command."""
    if gate.command is None:
        return None
    small = {name: value for name, value in env.items() if _PASSED_ON.fullmatch(name)}
    try:
        child = guard.spawn(["/bin/sh", "-c", gate.command], small, cwd)
    except CliError as error:
        return TaskError(code=ErrorCode.GATE_FAILED, message=f"The gate could not be started: {error.message}")
    os.close(child.stdin)
    said = Tail()
    try:
        facts, timed_out = _watch(child, gate.timeout_s, said, guard, controls)
    finally:
        os.close(child.stdout)
        os.close(child.stderr)
    if facts.code == 0 and not timed_out:
        return None
    why = f"took more than {gate.timeout_s:g} s" if timed_out else _end_of(facts, controls)
    return TaskError(
        code=ErrorCode.GATE_FAILED,
        message=f"The gate `{gate.command[:200]}` {why}.",
        detail=said.text().strip() or "It said nothing.",
    )


def _end_of(facts: ExitFacts, controls: Controls) -> str:
    if controls.stopped is not StopCause.NONE:
        return "was stopped"
    return f"ended with {facts.code}" if facts.code is not None else f"was ended by signal {facts.signal}"


def _watch(child: Child, timeout_s: float, said: Tail, guard: Guard, controls: Controls) -> tuple[ExitFacts, bool]:
    """Read what it says until it has ended; kill its whole tree when time is over or the run is not wanted."""
    deadline, killed, timed_out = time.monotonic() + timeout_s, False, False
    with selectors.DefaultSelector() as selector:
        for stream in (child.stdout, child.stderr):
            os.set_blocking(stream, False)
            selector.register(stream, selectors.EVENT_READ)
        selector.register(guard, selectors.EVENT_READ)
        while (ended := guard.poll_exit(child)) is None:
            timed_out = timed_out or time.monotonic() >= deadline
            if not killed and (timed_out or controls.stopped is not StopCause.NONE):
                guard.kill(child)
                killed = True
            left_s = max(deadline - time.monotonic(), 0.01)
            for key, _ in selector.select(min(_LOOK_S, left_s)):
                if key.fd in {child.stdout, child.stderr} and not _read(key.fd, said):
                    selector.unregister(key.fd)
    for stream in (child.stdout, child.stderr):
        while _read(stream, said):
            pass
    return ended.facts, timed_out


def _read(stream: int, said: Tail) -> bool:
    """Take what is there; False at its end, and when there is nothing."""
    try:
        data = os.read(stream, _CHUNK)
    except BlockingIOError:
        return False
    said.add(data)
    return bool(data)
