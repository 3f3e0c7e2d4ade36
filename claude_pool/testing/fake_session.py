"""What the fake `claude` leaves on disk: the session's transcript, and the ledger that tests hold against the pool.

A transcript lies where the real CLI puts it, `$CLAUDE_CONFIG_DIR/projects/<cwd with - for />/<session>.jsonl`, and
carries the session's cost, so that a resumed session goes on counting. The ledger is one file outside the system, named
by `CLAUDE_POOL_FAKE_LEDGER`, one `O_APPEND` write a line, so that no crash and no other process can tear a line
(`claude_pool.testing.ledger` reads it):

    S task run pid time                a paid turn began
    A task run pid time                the process is still alive (about ten times a second while it waits)
    P task run pid time usd            this much was spent just now
    E task run pid time usd outcome    the turn ended; usd is all that this turn spent

`time` is CLOCK_BOOTTIME in seconds, the same for all processes of a machine and moved by nobody. A turn without `E`
died.
"""

from __future__ import annotations

import json
import os
import re
import time

TYPE_CHECKING = False  # spares the fake the 3 ms that importing typing costs, in every run
if TYPE_CHECKING:
    from typing import Any

LEDGER = "CLAUDE_POOL_FAKE_LEDGER"
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS has no BOOTTIME


def fresh_id() -> str:
    """A uuid4; the uuid module would cost every run 2 ms."""
    raw = bytearray(os.urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def append(path: str, line: str) -> int:
    """Append in one write; gives where the line ended, which counts the writers of equal lines."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, line.encode())
        return os.lseek(fd, 0, os.SEEK_CUR)
    finally:
        os.close(fd)


class Book:
    """This process's entries in the ledger; silent when no ledger was asked for."""

    def __init__(self) -> None:
        self.path = os.environ.get(LEDGER, "")
        self.task = os.environ.get("CLAUDE_POOL_TASK") or "-"
        self.run = os.environ.get("CLAUDE_POOL_RUN") or "-"
        """As the environment says, or, in a process that was started before its task was known, the message."""
        self.open = False
        self.spent_usd = 0.0

    def _note(self, kind: str, *more: str) -> None:
        if self.path:
            words = (kind, self.task, self.run, str(os.getpid()), f"{time.clock_gettime(_CLOCK):.6f}", *more)
            append(self.path, " ".join(words) + "\n")

    def meet(self, message: dict[str, Any]) -> None:
        """Take the task and the run from a message that names them."""
        told: dict[str, str] = message.get("claude_pool") or {}
        self.task = told.get("task") or self.task
        self.run = told.get("run") or self.run

    def start(self) -> None:
        self.open, self.spent_usd = True, 0.0
        self._note("S")

    def alive(self) -> None:
        if self.open:
            self._note("A")

    def paid(self, usd: float) -> None:
        self.spent_usd += usd
        self._note("P", f"{usd:.9f}")

    def end(self, outcome: str) -> None:
        if self.open:
            self.open = False
            self._note("E", f"{self.spent_usd:.9f}", outcome)

    def times(self, key: str) -> int:
        """How often this was asked for the task so far, this time included: counted in a folder beside the ledger."""
        if not self.path:
            msg = f"times= needs {LEDGER} to name a file: the count is kept beside it"
            raise ValueError(msg)
        folder = self.path + ".state"
        os.makedirs(folder, exist_ok=True)
        name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{self.task}-{key}")
        return append(os.path.join(folder, name), "x")


class Session:
    """One conversation: its id, its money, its transcript."""

    def __init__(self, identifier: str | None = None, *, persists: bool = True) -> None:
        self.id = identifier or fresh_id()
        self.cost_usd = 0.0
        self.prompts: list[tuple[str, str]] = []
        """(task, prompt) of every turn so far, the newest last."""
        self._persists = persists
        self._path = os.path.join(projects(), re.sub(r"[^A-Za-z0-9]", "-", os.getcwd()), self.id + ".jsonl")

    @property
    def in_use(self) -> bool:
        return os.path.exists(self._path)

    @classmethod
    def resumed(cls, wanted: str, *, fork_to: str | None, persists: bool) -> Session | None:
        """The session of that id or path, from whatever folder it was begun in; None if there is none."""
        path = wanted if wanted.endswith(".jsonl") else _find(wanted)
        if not path or not os.path.isfile(path):
            return None
        session = cls(fork_to or os.path.basename(path)[: -len(".jsonl")], persists=persists)
        with open(path, encoding="utf-8") as file:
            lines = file.readlines()
        for line in lines:
            session._recall(json.loads(line))
        if fork_to:
            session._save("".join(lines))
        else:
            session._path = path
        return session

    def _recall(self, entry: dict[str, Any]) -> None:
        if entry.get("type") == "cost-state":
            self.cost_usd = float(entry["totalCostUsd"])
        elif entry.get("type") == "user":
            self.prompts.append((str(entry.get("task", "-")), str(entry["message"]["content"])))

    def asked(self, prompt: str, task: str) -> None:
        self.prompts.append((task, prompt))
        self._entry({"type": "user", "task": task, "message": {"role": "user", "content": prompt}})

    def answered(self, text: str) -> None:
        self._entry({"type": "assistant", "message": {"role": "assistant", "content": text}})

    def paid(self, usd: float) -> None:
        self.cost_usd += usd
        self._entry({"type": "cost-state", "totalCostUsd": self.cost_usd})

    def _entry(self, entry: dict[str, Any]) -> None:
        entry = {**entry, "sessionId": self.id, "uuid": fresh_id(), "cwd": os.getcwd()}
        self._save(json.dumps(entry) + "\n")

    def _save(self, text: str) -> None:
        if self._persists:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            append(self._path, text)


def projects() -> str:
    """The folder of all transcripts."""
    config = os.environ.get("CLAUDE_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".claude")
    return os.path.join(config, "projects")


def _find(identifier: str) -> str | None:
    try:
        folders = sorted(os.listdir(projects()))
    except OSError:
        return None
    paths = (os.path.join(projects(), folder, identifier + ".jsonl") for folder in folders)
    return next((path for path in paths if os.path.isfile(path)), None)
