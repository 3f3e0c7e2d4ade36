"""Starting other programs: the one gate to the `subprocess` module.

Always an argument list, never a shell; always an explicit environment, so that nothing of ours leaks by accident;
always a session of its own, so that a signal meant for us does not hit them and the group can be ended as a whole.

    run              a short program, bounded in time and output; nothing of its group outlives the call
    start            a program that we keep beside us and end ourselves
    spawn_detached   a program that shall outlive us, its output in a log file

A program that can't be started raises `OSError` from all three. One that fails is no exception: see `Completed.code`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

DEVNULL: Final = subprocess.DEVNULL
PIPE: Final = subprocess.PIPE
STDOUT: Final = subprocess.STDOUT
Process = subprocess.Popen[bytes]
"""What `start` returns: `pid`, `poll()`, `wait(timeout)` and the streams. Wait for it, or it stays a zombie."""
WaitTimeout = subprocess.TimeoutExpired
"""What `Process.wait(timeout)` raises."""

_CHUNK: Final = 1 << 16
_POLL_S: Final = 0.05
"""How often a program is looked at whose output pipe somebody else may be holding open."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a short program ended. `code` is negative for a signal, as in `subprocess`."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False
    truncated: bool = False
    """More than `max_output` bytes came on one of the two; the rest was read and dropped."""

    @property
    def ok(self) -> bool:
        return self.code == 0 and not self.timed_out

    @property
    def text(self) -> str:
        """Its standard output as text, for people; not UTF-8 is replaced."""
        return self.stdout.decode(errors="replace")

    @property
    def error_text(self) -> str:
        """Its standard error as text, for people; not UTF-8 is replaced."""
        return self.stderr.decode(errors="replace")


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | Path | None = None,
    stdin: bytes = b"",
    timeout_s: float = 60.0,
    max_output: int = 1 << 20,
) -> Completed:
    """Run a program to its end, or for `timeout_s` at most, keeping `max_output` bytes of each output.

    Whatever is left of its process group when it ends is killed: a server that it put in the background does not stay.
    """
    process = start(argv, env=env, cwd=cwd, stdin=PIPE if stdin else DEVNULL, stdout=PIPE, stderr=PIPE)
    talk = _Talk(process, stdin, max_output)
    try:
        timed_out = talk.until(time.monotonic() + timeout_s)
    finally:
        _end_group(process)
        talk.close()
    return Completed(
        argv=tuple(argv),
        code=process.returncode,
        stdout=talk.kept(process.stdout),
        stderr=talk.kept(process.stderr),
        timed_out=timed_out,
        truncated=talk.truncated,
    )


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | Path | None = None,
    stdin: int | IO[bytes] = DEVNULL,
    stdout: int | IO[bytes] = DEVNULL,
    stderr: int | IO[bytes] = DEVNULL,
    pass_fds: Sequence[int] = (),
) -> Process:
    """Start a program in a session of its own; it sees exactly this environment and only the descriptors named."""
    return subprocess.Popen(
        list(argv),
        env=dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
    )


def spawn_detached(argv: Sequence[str], *, env: Mapping[str, str], cwd: str | Path | None = None, log: Path) -> int:
    """Start a program that lives on when we end; its output is appended to `log` (mode 0600). Gives its pid.

    It is our child until we end, so it is reaped by a thread: a detached program that dies early leaves no zombie.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = start(argv, env=env, cwd=cwd, stdout=descriptor, stderr=STDOUT)
    finally:
        os.close(descriptor)
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
    return process.pid


def end(process: Process, *, grace_s: float = 5.0) -> int:
    """End a program that `start` gave: TERM to its group, after `grace_s` KILL. Gives its exit code."""
    _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while not _exited(process) and time.monotonic() < deadline:
        time.sleep(min(_POLL_S, grace_s))
    _end_group(process)
    return process.returncode


def _exited(process: Process) -> bool:
    """Whether the program has ended. It stays a zombie, so that its number, and its group's, can't be reused yet."""
    if process.returncode is not None:
        return True
    if sys.platform == "darwin":
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(process: Process, number: signal.Signals) -> None:
    """Signal the whole group, unless its leader was reaped: then the number may be a stranger's by now."""
    if process.returncode is None or sys.platform == "darwin":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _end_group(process: Process) -> None:
    """Kill what is left of the group, then reap its leader."""
    _signal_group(process, signal.SIGKILL)
    process.wait()


class _Talk:
    """Feeds one program and reads its two outputs at the same time, so that no full pipe can stop it."""

    def __init__(self, process: Process, stdin: bytes, max_output: int) -> None:
        self.truncated = False
        self._process = process
        self._unsent = memoryview(stdin)
        self._max_output = max_output
        self._selector = selectors.DefaultSelector()
        self._kept: dict[IO[bytes], bytearray] = {}
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                self._kept[stream] = bytearray()
                self._watch(stream, selectors.EVENT_READ)
        if process.stdin is not None:
            self._watch(process.stdin, selectors.EVENT_WRITE)

    def until(self, deadline: float) -> bool:
        """Talk until the program has ended, or the deadline; True if that came first."""
        while not _exited(self._process):
            left = deadline - time.monotonic()
            if left <= 0:
                return True
            if self._selector.get_map():
                self._step(min(left, _POLL_S))
            else:
                time.sleep(min(left, _POLL_S / 50))
        self._drain()
        return False

    def kept(self, stream: IO[bytes] | None) -> bytes:
        return b"" if stream is None else bytes(self._kept[stream])

    def close(self) -> None:
        self._selector.close()
        for stream in (self._process.stdin, *self._kept):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _watch(self, stream: IO[bytes], events: int) -> None:
        os.set_blocking(stream.fileno(), False)
        self._selector.register(stream, events)

    def _step(self, timeout_s: float) -> bool:
        """Move what can be moved; False if nothing could be."""
        ready = self._selector.select(timeout_s)
        for key, events in ready:
            stream = cast("IO[bytes]", key.fileobj)
            if events & selectors.EVENT_WRITE:
                self._write(stream)
            else:
                self._read(stream)
        return bool(ready)

    def _drain(self) -> None:
        """Read what the program left in the pipes; whoever holds them open after it is not waited for."""
        stdin = self._process.stdin
        if stdin is not None and stdin in {key.fileobj for key in self._selector.get_map().values()}:
            self._selector.unregister(stdin)
        while self._selector.get_map() and self._step(0):
            pass

    def _write(self, stream: IO[bytes]) -> None:
        try:
            self._unsent = self._unsent[os.write(stream.fileno(), self._unsent[:_CHUNK]) :]
        except BrokenPipeError:  # it does not want to hear the rest: its affair
            self._unsent = self._unsent[:0]
        if not self._unsent:
            self._selector.unregister(stream)
            stream.close()

    def _read(self, stream: IO[bytes]) -> None:
        data = os.read(stream.fileno(), _CHUNK)
        if not data:
            self._selector.unregister(stream)
            return
        room = self._max_output - len(self._kept[stream])
        self._kept[stream] += data[:room]
        self.truncated |= len(data) > room
