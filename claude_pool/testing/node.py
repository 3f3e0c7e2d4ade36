"""A real node for tests and benchmarks: `claude-pool-worker` as a process tree of its own, with handles to hurt it.

    with TestNode(config) as node:
        node.pool.run("hello")
        os.kill(node.slot_pid(0), signal.SIGKILL)

Settings travel as `CLAUDE_POOL_*` variables, as they would for a person; nothing else of this process's environment
does, but what `env` names. Leaving the context drains with little patience and then kills: nothing outlives it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

from claude_pool import processes
from claude_pool.config import PREFIX, PoolConfig
from claude_pool.models.pool import slot_id
from claude_pool.pool import Pool

_PATIENCE_S: Final = 30.0


def until(true: Callable[[], bool], what: str, *, within_s: float = _PATIENCE_S) -> None:
    """Look until something is true; AssertionError, naming it, when that takes too long."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain: {what}"
        time.sleep(0.02)


def settings_env(config: PoolConfig) -> dict[str, str]:
    """The settings that differ from the defaults, as variables."""
    env: dict[str, str] = {}
    for name in config.model_fields_set:
        value: Any = getattr(config, name)
        if value is not None:
            env[PREFIX + name.upper()] = (
                ",".join(cast("tuple[str, ...]", value)) if isinstance(value, tuple) else str(value)
            )
    return env


class TestNode:
    """One node; `start` and `kill` may alternate."""

    __test__ = False  # no test class, whatever its name makes pytest think

    def __init__(
        self, config: PoolConfig, *, env: Mapping[str, str] | None = None, arguments: tuple[str, ...] = ()
    ) -> None:
        self.config = config
        self.pool = Pool.open(config)
        self._env = dict(env or {})
        self._arguments = arguments
        self.process: processes.Process | None = None
        self.log_path = config.home / f"{config.node}.log"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.pool.close()

    @property
    def pid(self) -> int:
        """The supervisor's pid."""
        assert self.process is not None, "the node was not started"
        return self.process.pid

    def start(self, *, ready: bool = True) -> None:
        """Start it and wait until all its slots are there."""
        program = Path(sys.executable).with_name("claude-pool-worker")
        env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "LANG": "C.UTF-8",
            **settings_env(self.config),
            **self._env,
        }
        with self.log_path.open("ab") as log:
            self.process = processes.start(
                [str(program), "--verbose", *self._arguments],
                env=env,
                cwd="/",
                stdout=log.fileno(),
                stderr=log.fileno(),
            )
        if ready:
            self.await_slots(self.config.slots)

    def await_slots(self, number: int) -> None:
        """Wait until this many slots of the node are alive."""

        def there() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"the node ended with {self.process.poll()}:\n{self.log()}"
            return sum(slot.node == self.config.node for slot in self.pool.slots()) == number

        until(there, f"{number} slots of {self.config.node}")

    def slot_pid(self, number: int) -> int:
        """The process of a slot that is alive."""
        wanted = slot_id(number, self.config.node)
        return next(slot.pid for slot in self.pool.slots() if slot.slot_id == wanted)

    def guard_pid(self, number: int) -> int:
        """The guard of that slot."""
        parent = self.slot_pid(number)
        return next(pid for pid in children_of(parent) if b"guard.py" in command_line(pid))

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, within_s: float = _PATIENCE_S) -> int:
        """Wait for the supervisor's end; its exit code."""
        assert self.process is not None
        return self.process.wait(within_s)

    def kill(self) -> None:
        """SIGKILL for the supervisor and all its slots and guards at once: the host lost power."""
        tree = [self.pid, *descendants_of(self.pid)]
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """Leave at once, checkpointing what runs; kill what does not."""
        if self.process is None or self.process.poll() is not None:
            return
        for _ in range(2):
            self.signal(signal.SIGTERM)
        try:
            self.wait(20)
        except processes.WaitTimeout:
            self.kill()

    def log(self) -> str:
        """What the node said."""
        return self.log_path.read_text(errors="replace")


def children_of(pid: int) -> list[int]:
    """The children of a process, now."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def descendants_of(pid: int) -> list[int]:
    """All processes below one, now."""
    found = children_of(pid)
    for child in found:
        found.extend(children_of(child))
    return found


def command_line(pid: int) -> bytes:
    """How a process was started; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
