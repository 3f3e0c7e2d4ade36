"""Talking to a `claude`, fake or real, as the runner does: stream-json over pipes, in an environment that is given.

`Claude.run` asks one prompt and reads to the end; `Claude.start` gives a `Dialogue` for whoever wants to act in
between. Meant for tests: it reads everything into memory, and what is still alive at `end` is killed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from claude_pool import processes

Event = dict[str, Any]
STREAM: Final = ("-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose")
PATIENCE_S: Final = 60.0


def user(text: str, **more: Any) -> bytes:
    """The line of a user message, its text to be taken literally."""
    message = {"role": "user", "content": text}
    return json.dumps({"type": "user", "message": message, "client_composed": True, **more}).encode() + b"\n"


def control(subtype: str, **more: Any) -> bytes:
    """The line of a control request."""
    request = {"subtype": subtype, **more}
    return json.dumps({"type": "control_request", "request_id": "q", "request": request}).encode() + b"\n"


def is_type(kind: str) -> Callable[[Event], bool]:
    """A condition for `Dialogue.until`."""
    return lambda event: event["type"] == kind


def parse(line: bytes) -> Event | None:
    """The event on a line; None when there is none."""
    try:
        value: Any = json.loads(line)
    except ValueError:
        return None
    if isinstance(value, dict) and isinstance(cast("Event", value).get("type"), str):
        return cast("Event", value)
    return None


@dataclass(frozen=True, slots=True)
class Answer:
    """All that one process said."""

    out: bytes
    err: str
    code: int

    @property
    def lines(self) -> list[bytes]:
        return self.out.split(b"\n")

    @property
    def events(self) -> list[Event]:
        return [event for line in self.lines if (event := parse(line)) is not None]

    @property
    def results(self) -> list[Event]:
        return [event for event in self.events if event["type"] == "result" and "is_error" in event]

    @property
    def result(self) -> Event:
        """The one and only result; ValueError when there is not exactly one."""
        (only,) = self.results
        return only

    @property
    def texts(self) -> list[str]:
        """What the model said, block by block."""
        blocks = [event["message"]["content"][0] for event in self.events if event["type"] == "assistant"]
        return [block["text"] for block in blocks if block["type"] == "text"]


@dataclass(slots=True)
class Dialogue:
    """One running process."""

    process: processes.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, data: bytes) -> None:
        """Write this to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def until(self, wanted: Callable[[Event], bool]) -> Event:
        """Read on to the first event that is wanted; EOFError when stdout ends before it comes."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if (event := parse(line)) is not None and wanted(event):
                return event
        raise EOFError

    def close(self) -> None:
        """End its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit code; `processes.WaitTimeout` when it lives on."""
        return self.process.wait(timeout_s)

    def finish(self, data: bytes = b"") -> Answer:
        """Send this as the last of its stdin and read the rest."""
        out, err = self.process.communicate(data, timeout=PATIENCE_S)
        return Answer(out, err.decode(errors="replace"), self.process.returncode)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        """Kill what is left of its process group, and close the pipes."""
        processes.end(self.process, grace_s=0)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


@dataclass(slots=True)
class Claude:
    """A program to talk to."""

    program: Path
    env: Mapping[str, str]
    cwd: Path
    argv: tuple[str, ...] = STREAM
    started: list[Dialogue] = field(default_factory=list[Dialogue])

    def start(self, *argv: str, cwd: Path | None = None, **env: str) -> Dialogue:
        """Start it with further arguments and variables."""
        process = processes.start(
            (str(self.program), *self.argv, *argv),
            env={**self.env, **env},
            cwd=cwd or self.cwd,
            stdin=processes.PIPE,
            stdout=processes.PIPE,
            stderr=processes.PIPE,
        )
        self.started.append(Dialogue(process))
        return self.started[-1]

    def run(self, prompt: str, *argv: str, cwd: Path | None = None, **env: str) -> Answer:
        """Ask one prompt, to the end."""
        return self.start(*argv, cwd=cwd, **env).finish(user(prompt))

    def end(self) -> None:
        """Nothing that was started here lives on."""
        while self.started:
            self.started.pop().end()
