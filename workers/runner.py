"""One run of the CLI, from the prompt's first byte to the last process's end.

`run` blocks its thread, drives the five descriptors of a run (stdin, stdout, stderr, the guard, a wake-up pipe) in one
loop, and gives facts. It never judges them. Whatever happens, also an exception in `on_entries`, nothing of the run is
alive when it returns.

    prompt written, stdin held open → first result → stdin closed → the CLI leaves
    stop wanted:  interrupt (brings the cost) → stdin closed, TERM → the guard kills the tree
                  DRAINED skips the interrupt, so that the turn can be resumed; FENCED kills at once

Each step has `grace_s`; after its result the CLI has `LEAVE_S` to go by itself. Any byte on stdout is a sign of life.
What was said before a stop is kept. A log file that can't be written stops with a notice, and the run goes on.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from claude_pool.errors import CliError
from claude_pool.models.base import Record
from claude_pool.models.events import LogEntry
from claude_pool.models.run import ExitFacts, RunFacts, StopCause
from workers.command import Launch, interrupt_line, user_line
from workers.controls import Controls, outranks
from workers.guarded import RUN_MARK, Child, Ended, Guard
from workers.spare import Spare
from workers.stream import StreamParser
from workers.transcript import Batch, RawLog, Tail

__all__ = ["LEAVE_S", "Controls", "Limits", "Report", "run"]

LEAVE_S: Final = 10.0
"""After its result, until it is told to go."""
STREAMS: Final = ("stdin", "stdout", "stderr")
_CHUNK: Final = 1 << 18
_DRAIN_MOST: Final = 1 << 24
"""What is still read from a pipe after everybody is dead; a pipe holds 64 KiB, a stranger's end could hold more."""
_KILL_LOOK_S: Final = 0.25
_FOREVER: Final = float("inf")


class Limits(Record):
    """How long, how silent and how talkative one run may be."""

    timeout_s: float
    silence_s: float
    grace_s: float
    max_run_bytes: int
    max_line_bytes: int


class Report(Protocol):
    """Who makes sense of the events: `workers.report.RunReport`."""

    @property
    def has_result(self) -> bool: ...

    def feed(self, event: dict[str, Any], /) -> list[LogEntry]:
        """Take one event in; the lines that it gives."""
        ...

    def facts(self) -> RunFacts:
        """All that is known now."""
        ...


def run(  # noqa: PLR0913 - what one run is made of; all but the first two go by name
    launch: Launch, prompt: str, *, guard: Guard, limits: Limits, controls: Controls, report: Report, log_path: Path,
    on_entries: Callable[[list[LogEntry]], None], spare: Spare | None = None, task_id: str | None = None,
) -> RunFacts:  # fmt: skip
    """Run the CLI once and give what was observed. Raises only what `on_entries` raises, after everything is dead.

    With a `spare` nothing is started: its process gets the prompt. One that `stays` and answers well outlives the run;
    any other is ended and no longer `alive`.

    A CLI that can't be executed is a fact as well: `exit.started` is False and `stderr_tail` says why. So is one that
    was not wanted any more: then nothing is started.
    """
    unstarted = report.facts().evolve(exit=ExitFacts(started=False), stopped=controls.stopped)
    if controls.stopped is not StopCause.NONE:
        return unstarted
    try:
        child = guard.spawn(launch.argv, launch.env, launch.cwd) if spare is None else spare.child
    except CliError as error:
        return unstarted.evolve(stderr_tail=str(error))
    if spare is not None:
        guard.adopt(child)
    log = RawLog(log_path, most=limits.max_run_bytes)
    one = _Run(guard, child, limits, controls, report, log, Batch(on_entries), spare)
    run_id = launch.env.get(RUN_MARK)
    try:
        with controls.heard() as ear, one.streams(ear):
            one.send(user_line(prompt, uuid=str(uuid.uuid4()), task_id=task_id, run_id=run_id))
            while not one.step():
                pass
    finally:
        one.make_sure()
    return one.facts()


class _Run:
    """The loop's state: what is still to be written, what was read, which rung of which ladder we stand on."""

    def __init__(  # noqa: PLR0913, PLR0917 - what one run is made of
        self, guard: Guard, child: Child, limits: Limits, controls: Controls, report: Report, log: RawLog, batch: Batch,
        spare: Spare | None,
    ) -> None:  # fmt: skip
        self._spare = spare
        self._stays = False
        self._guard = guard
        self._child = child
        self._limits = limits
        self._controls = controls
        self._report = report
        self._log = log
        self._batch = batch
        self._parser = StreamParser(max_line_bytes=limits.max_line_bytes)
        self._stderr = Tail()
        self._selector = selectors.DefaultSelector()
        self._open: dict[int, str] = {}
        self._unsent = bytearray()
        self._read = 0
        now = time.monotonic()
        self._wall_at = now + limits.timeout_s
        self._alive_at = now
        self._stopped = StopCause.NONE
        self._rungs: Iterator[tuple[Callable[[], None], float]] | None = None
        self._next_rung_at = _FOREVER
        self._killing = False
        self._interrupted = False
        self._ended: Ended | None = None

    @contextlib.contextmanager
    def streams(self, ear: int) -> Generator[None]:
        """Own the run's descriptors for as long as it lasts."""
        child = self._child
        self._open = dict(zip((child.stdin, child.stdout, child.stderr), STREAMS, strict=True))
        try:
            for descriptor in self._open:
                os.set_blocking(descriptor, False)
            self._selector.register(child.stdout, selectors.EVENT_READ)
            self._selector.register(child.stderr, selectors.EVENT_READ)
            self._selector.register(ear, selectors.EVENT_READ, "ear")
            self._selector.register(self._guard, selectors.EVENT_READ, "guard")
            yield
        finally:
            self._selector.close()
            for descriptor in () if self._stays else self._open:
                os.close(descriptor)
            if self._spare is not None:
                self._spare.alive = self._stays
            self._log.close()

    def step(self) -> bool:
        """Wait for the next thing to happen and deal with it; True once the run is over."""
        for key, _ in self._selector.select(self._wait_s()):
            if key.data == "ear":
                self._obey(key.fd)
            elif key.data == "guard":
                self._ended = self._guard.poll_exit(self._child)
            elif self._open.get(key.fd) == "stdin":
                self._write(key.fd)
            elif key.fd in self._open:
                self._take(key.fd)
        if self._killing and self._ended is None:
            self._ended = self._guard.poll_exit(self._child)
        if self._stays:
            self._batch.flush()
            return True
        if self._ended is None:
            self._keep_time()
            return False
        self._read_the_rest()
        return True

    def make_sure(self) -> None:
        """After an exception: nothing stays alive."""
        if self._ended is None and not self._stays:
            self._guard.kill(self._child)
            while self._ended is None:
                self._guard.wait_exit(1.0, self._child)
                self._ended = self._guard.poll_exit(self._child)

    def facts(self) -> RunFacts:
        """What was observed, with everything that only the runner knows."""
        ended = self._ended or Ended(ExitFacts())
        stopped = self._stopped
        if ended.cause == "lease" and stopped is StopCause.NONE:
            stopped = StopCause.FENCED
        return self._report.facts().evolve(
            exit=ended.facts,
            stderr_tail=self._stderr.text(),
            stopped=stopped,
            lines=self._parser.lines,
            bad_lines=self._parser.bad_lines + self._parser.oversized,
        )

    # Time

    def _wait_s(self) -> float:
        due = [self._next_rung_at, self._batch.due_at]
        if self._rungs is None:
            due += [self._wall_at, self._alive_at + self._limits.silence_s]
        if self._killing:
            due.append(time.monotonic() + _KILL_LOOK_S)
        return max(0.0, min(min(due) - time.monotonic(), 3600.0))

    def _keep_time(self) -> None:
        now = time.monotonic()
        self._batch.flush_if_due(now)
        if self._rungs is None and now >= self._wall_at:
            self._stop(StopCause.TIMEOUT)
        elif self._rungs is None and now >= self._alive_at + self._limits.silence_s:
            self._stop(StopCause.SILENCE)
        elif self._rungs is not None and (now >= self._next_rung_at or self._interrupt_answered()):
            self._climb()

    def _interrupt_answered(self) -> bool:
        return self._interrupted and self._report.has_result

    # The ladders

    def _obey(self, ear: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(ear, 4096)
        for text in self._controls.take_said():
            if self._rungs is None:
                self.send(user_line(text, uuid=str(uuid.uuid4())))
        if self._controls.stopped is not StopCause.NONE:
            self._stop(self._controls.stopped)

    def _stop(self, cause: StopCause) -> None:
        """Begin to end the run. A weightier cause that comes later changes the name only, unless it kills.

        A run that has its result is ending anyway: what it said stands, whoever wants it stopped now.
        """
        if not outranks(cause, self._stopped):
            return
        fresh = self._stopped is StopCause.NONE
        if cause is StopCause.FENCED or not (fresh and self._report.has_result):
            self._stopped = cause
            if cause is StopCause.FENCED or fresh:
                self._rungs = self._stopping(cause)
                self._climb()

    def _stopping(self, cause: StopCause) -> Iterator[tuple[Callable[[], None], float]]:
        grace_s = self._limits.grace_s
        if cause is not StopCause.FENCED:
            if cause is not StopCause.DRAINED and not self._unsent and "stdin" in self._open.values():
                yield self._interrupt, grace_s
            if self._report.has_result:
                yield self._close_stdin, grace_s
            yield self._terminate, grace_s
        yield self._kill, _FOREVER

    def _leaving(self) -> Iterator[tuple[Callable[[], None], float]]:
        yield self._close_stdin, LEAVE_S
        yield self._terminate, self._limits.grace_s
        yield self._kill, _FOREVER

    def _climb(self) -> None:
        """The next rung of the ladder."""
        self._interrupted = False
        if self._rungs is not None:
            action, grace_s = next(self._rungs)
            self._next_rung_at = time.monotonic() + grace_s
            action()

    def _interrupt(self) -> None:
        self._interrupted = True
        self.send(interrupt_line(str(uuid.uuid4())))

    def _close_stdin(self) -> None:
        for descriptor, name in list(self._open.items()):
            if name == "stdin":
                self._close(descriptor)

    def _terminate(self) -> None:
        self._close_stdin()
        self._guard.terminate(self._child)

    def _kill(self) -> None:
        self._killing = True
        self._guard.kill(self._child)

    # The streams

    def send(self, line: bytes) -> None:
        """Queue a line for the CLI; it is written as fast as it is read."""
        for descriptor, name in self._open.items():
            if name == "stdin":
                if not self._unsent:
                    self._selector.register(descriptor, selectors.EVENT_WRITE)
                self._unsent += line

    def _write(self, descriptor: int) -> None:
        try:
            done = os.write(descriptor, memoryview(self._unsent)[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:  # it does not read any more; its end tells why
            self._close(descriptor)
            return
        del self._unsent[:done]
        if not self._unsent:
            self._selector.unregister(descriptor)

    def _close(self, descriptor: int) -> None:
        if self._open.pop(descriptor) == "stdin":
            self._unsent.clear()
        with contextlib.suppress(KeyError):
            self._selector.unregister(descriptor)
        os.close(descriptor)

    def _take(self, descriptor: int) -> int:
        """Read what is there; the number of bytes, 0 when there is no more to come or nothing now."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return 0
        if self._open[descriptor] == "stderr":
            self._stderr.add(data)
        elif data:
            self._hear(data)
        if not data:
            self._hang_up(descriptor)
        return len(data)

    def _hear(self, data: bytes) -> None:
        self._alive_at = time.monotonic()
        self._read += len(data)
        if trouble := self._log.write(data):
            self._notice(trouble)
        self._feed(self._parser.feed(data))
        if self._read > self._limits.max_run_bytes and self._rungs is None and self._ended is None:
            self._stop(StopCause.OUTPUT_LIMIT)

    def _feed(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            self._batch.add(self._report.feed(event))
        if self._report.has_result and self._rungs is None and self._ended is None:
            self._leave()

    def _leave(self) -> None:
        """It has said all it will say: it may go now, or stay for the next task."""
        said = self._report.facts()
        calm = self._stopped is StopCause.NONE and not self._unsent and len(self._open) == len(STREAMS)
        spare = self._spare if calm and said.has_result and not said.is_error else None
        if spare is not None and spare.stays and not spare.left(self._guard):
            self._stays = True
            return
        self._rungs = self._leaving()
        self._climb()

    def _hang_up(self, descriptor: int) -> None:
        """A stream that ended. Without stdout there is nothing left to wait for but the exit."""
        was_stdout = self._open[descriptor] == "stdout"
        self._close(descriptor)
        if was_stdout and self._rungs is None and self._ended is None:
            self._leave()

    def _notice(self, text: str) -> None:
        run_id = self._child.mark.partition("=")[2]
        self._batch.add([LogEntry(at_ms=time.time_ns() // 10**6, run_id=run_id, kind="notice", text=text)])

    def _read_the_rest(self) -> None:
        """Everybody is dead: take what they left in the pipes."""
        for descriptor, name in list(self._open.items()):
            left = _DRAIN_MOST
            while name != "stdin" and descriptor in self._open and left > 0 and (size := self._take(descriptor)):
                left -= size
        self._feed(self._parser.end())
        self._batch.flush()
