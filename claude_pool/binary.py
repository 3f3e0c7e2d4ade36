"""The `claude` binary: where it is, which version it is, and whether it can sign in at all.

Order: the setting `claude` (`CLAUDE_POOL_CLAUDE`), else `claude` on the PATH, else the one that the package
`claude-agent-sdk` carries (extra `claude-pool[cli]`). A binary that was named but can't be used is an error; nothing
else is tried in its place. Whether a key works is not tried here: that would cost money.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from claude_pool import processes
from claude_pool.config import PoolConfig
from claude_pool.errors import CliError
from claude_pool.models.base import Record

Origin = Literal["setting", "path", "package"]

HINT = (
    "Install it (npm install -g @anthropic-ai/claude-code, or pip install 'claude-pool[cli]'),"
    " or name it by CLAUDE_POOL_CLAUDE."
)
_PACKAGE = "claude_agent_sdk"
_VERSION = re.compile(r"(\d+\.\d+\.\d+\S*) \(Claude Code\)")
_VERSION_TIMEOUT_S = 20.0

_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_PROVIDERS = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
_OFF = frozenset({"", "0", "false", "no", "off"})


class ClaudeBinary(Record):
    """A binary that ran and said its version."""

    path: Path
    version: str
    origin: Origin


def find_claude(config: PoolConfig, *, env: Mapping[str, str] | None = None) -> ClaudeBinary:
    """The binary in force. Raises CliError, saying what to do, when there is none or it can't be run."""
    env = os.environ if env is None else env
    path, origin = _locate(config, env)
    status = path.stat()
    return ClaudeBinary(path=path, version=_version(path, status.st_mtime_ns, status.st_size), origin=origin)


def _locate(config: PoolConfig, env: Mapping[str, str]) -> tuple[Path, Origin]:
    if config.claude is not None:
        return _usable(config.claude), "setting"
    if found := shutil.which("claude", path=env.get("PATH", os.defpath)):
        return Path(found).absolute(), "path"
    if (bundled := bundled_claude()) is not None:
        return _usable(bundled), "package"
    raise CliError("There is no claude binary.", hint=HINT)


def bundled_claude() -> Path | None:
    """The binary that the package `claude-agent-sdk` carries; not by importing it, which takes most of a second."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    candidates = (Path(folder) / "_bundled" / "claude" for folder in folders or ())
    return next((path for path in candidates if path.is_file()), None)


def _usable(path: Path) -> Path:
    if not path.is_file():
        raise CliError(f"The claude binary {str(path)!r} does not exist.", hint=HINT)
    if not os.access(path, os.X_OK):
        raise CliError(f"The claude binary {str(path)!r} is not executable.", hint=f"Try: chmod +x {path}")
    return path


@cache
def _version(path: Path, changed_ns: int, size: int) -> str:
    """What `--version` says, asked once for each state of the file: it may update itself under us."""
    del changed_ns, size
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    try:
        done = processes.run((str(path), "--version"), env=env, timeout_s=_VERSION_TIMEOUT_S, max_output=1 << 16)
    except OSError as error:
        raise CliError(f"The claude binary {str(path)!r} can't be started: {error.strerror}.", hint=HINT) from None
    if done.timed_out:
        raise CliError(
            f"The claude binary {str(path)!r} did not tell its version in {_VERSION_TIMEOUT_S:g} s.", hint=HINT
        )
    if not done.ok or not (match := _VERSION.search(done.text)):
        said = (done.text or done.error_text).strip()[:200]
        raise CliError(f"{str(path)!r} is not the claude CLI: --version gave {said!r} (exit {done.code}).", hint=HINT)
    return match[1]


def credentials_hint(env: Mapping[str, str], home: Path) -> str | None:
    """Where a sign-in seems to be, by name only; None when nothing is there. No value is read or told."""
    for name in _KEYS:
        if env.get(name):
            return name
    for name in _PROVIDERS:
        if env.get(name, "").lower() not in _OFF:
            return name
    stored = Path(env.get("CLAUDE_CONFIG_DIR") or home / ".claude") / ".credentials.json"
    return str(stored) if stored.is_file() else None
