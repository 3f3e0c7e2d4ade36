"""Spare: one CLI that was started before its task was known, or that waits for its next one.

It has spent nothing and been told nothing. `clear` empties its conversation: after a task (`warm = "reuse"`), and in
a repository also before the first one, since the CLI looks at the branch when it starts and when it is cleared, and
the branch comes later. What `/clear` does not undo shows in the events that answer it: another directory, permission
mode or model than it was started with, or anything said that was not asked for. Such a process is of no more use.
"""

from __future__ import annotations

import os
import select
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from claude_pool.errors import CliError
from workers import proctable
from workers.command import Launch, clear_line
from workers.fields import text_of
from workers.guarded import Child, Guard, boottime_s
from workers.profile import SESSION
from workers.stream import StreamParser

CLEAR_S: Final = 10.0
"""A spare that was started a moment ago needs its start-up first, and the machine may be busy."""
_KILLED_S: Final = 15.0
_CHUNK: Final = 1 << 16
_MOST_LINE_BYTES: Final = 1 << 22
_MODE: Final = "--permission-mode="
_SAME_MODE: Final = {"manual": "default"}


@dataclass
class Spare:
    """A process and what is known of it. `stays` says that it is to outlive its next task, `alive` that it did."""

    child: Child
    launch: Launch
    profile: str
    ground: tuple[int, int]
    """Device and inode of its working directory: under the same path may be another directory by now."""
    scratch: bool
    """The directory is ours, empty, and for whatever task comes next."""
    session_id: str
    born_s: float = field(default_factory=boottime_s)
    tasks: int = 0
    stays: bool = False
    alive: bool = True
    unclear: bool = False
    """It has to be cleared before it gets a task."""
    _face: tuple[str, ...] = ()

    @classmethod
    def begin(cls, guard: Guard, launch: Launch, profile: str, *, scratch: bool, until_s: float) -> Spare:
        """Order one; it boots while nobody waits. Raises CliError, OSError."""
        session_id = next(word.removeprefix(SESSION) for word in launch.argv if word.startswith(SESSION))
        ground = ground_of(launch.cwd)
        child = guard.begin(launch.argv, launch.env, launch.cwd, deadline=until_s)
        return cls(child, launch, profile, ground, scratch, session_id, unclear=not scratch)

    def settle(self, guard: Guard) -> bool:
        """Whether it is there: it was started, and has not ended."""
        if not self.child.pid:
            try:
                self.child = guard.settle(self.child)
            except CliError:
                self.alive = False
                return False
        return guard.poll_exit(self.child) is None

    def fits(self, launch: Launch, profile: str | None) -> bool:
        """Whether it can do what that launch would start a process for."""
        return (self.profile, self.launch.cwd) == (profile, launch.cwd) and ground_of(launch.cwd) == self.ground

    def clear(self) -> str:
        """Empty the conversation: a new session under the same arguments. Gives what is wrong, or nothing."""
        parser = StreamParser(max_line_bytes=_MOST_LINE_BYTES)
        deadline = time.monotonic() + CLEAR_S
        init: dict[str, Any] = {}
        try:
            os.write(self.child.stdin, clear_line(str(uuid.uuid4())))
            while (left_s := deadline - time.monotonic()) > 0:
                for event in parser.feed(_read(self.child.stdout, left_s)):
                    if event.get("subtype") == "init":
                        init = event
                    elif event.get("type") in {"assistant", "user"}:
                        return "it went on talking"
                    elif event.get("type") == "result":
                        return self._cleared(event, init)
        except OSError as error:
            return f"it is gone: {error.strerror or error}"
        return f"it was not cleared within {CLEAR_S:g} s"

    def _cleared(self, result: dict[str, Any], init: dict[str, Any]) -> str:
        session_id = text_of(result, "session_id")
        if result.get("is_error") or result.get("num_turns") or not session_id or session_id == self.session_id:
            return "it did not understand"
        mode = text_of(init, "permissionMode") or ""
        face = (text_of(init, "cwd") or "", mode, text_of(init, "model") or "")
        if face[0] != os.path.realpath(self.launch.cwd) or _SAME_MODE.get(mode, mode) != self._mode:
            return f"it is in {face[0]} and in mode {mode}"
        if self._face not in {(), face}:
            return "it has changed"
        self._face, self.session_id, self.unclear = face, session_id, False
        return ""

    @property
    def _mode(self) -> str:
        mode = next((word.removeprefix(_MODE) for word in self.launch.argv if word.startswith(_MODE)), "default")
        return _SAME_MODE.get(mode, mode)

    def resident_bytes(self) -> int:
        """Memory that it holds; 0 where that can't be seen."""
        try:
            pages = Path(f"/proc/{self.child.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def left(self, guard: Guard) -> int:
        """Processes that its task left: below it, or fallen to the guard, whose only child it is."""
        if guard.pid is None:
            return 0
        below = proctable.descendants(proctable.table(), [guard.pid])
        return len({proc.pid for proc in below} - {self.child.pid})

    def end(self, guard: Guard) -> None:
        """End it and everything of it, if it is still there. Its directory may be in use and stays."""
        if self.alive and self.settle(guard):
            guard.kill(self.child)
        if self.alive:
            self.alive = False
            guard.wait_exit(_KILLED_S, self.child)
            self.child.close()


def ground_of(path: str) -> tuple[int, int]:
    """Which directory is there now. Raises OSError when there is none."""
    found = os.stat(path)  # noqa: PTH116 - a string comes and a tuple goes
    return found.st_dev, found.st_ino


def _read(descriptor: int, patience_s: float) -> bytes:
    """The next bytes, or none when they do not come in time. Raises OSError at the end."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(patience_s * 1000):
        return b""
    if data := os.read(descriptor, _CHUNK):
        return data
    raise BrokenPipeError("it closed its output")
