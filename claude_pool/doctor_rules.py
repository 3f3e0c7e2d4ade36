"""What the doctor makes of what it saw: from facts to findings, each saying what to do. Pure.

No value of a secret ever enters a finding: keys are named, URLs lose their passwords.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from claude_pool.binary import ClaudeBinary
from claude_pool.config import PoolConfig
from claude_pool.embedded import ServerInfo
from claude_pool.embedded_binary import OLDEST, OLDEST_ON_PATH, Binary, Version, parse_version
from claude_pool.models.pool import Finding, Health
from claude_pool.store.client import ServerFacts

OLDEST_PYTHON: Final = (3, 11)
OLDEST_GIT: Final = (2, 38, 0)
"""The first with `git merge-tree --write-tree`, which forecasts conflicts."""
LOW_DISK_BYTES: Final = 2 << 30
FULL_DISK_BYTES: Final = 200 << 20

_COMMANDING: Final = (
    "claude",
    "setup_command",
    "merge_check",
    "allow_bypass",
    "trust_repo",
    "permission_mode",
    "redis_url",
)
"""Settings that decide what is run, and how freely."""
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1", "")


def judge_python(version: tuple[int, ...], executable: str) -> Finding:
    """The interpreter that runs us."""
    text = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON:
        return Finding(name="python", health="error", detail=f"Python {text}.", hint="Install Python 3.11 or newer.")
    return Finding(name="python", health="ok", detail=f"Python {text} at {executable}.")


def judge_git(version: Version | None, *, needed: bool) -> Finding:
    """`needed`: the pool has a repository, so nothing works without git."""
    bad: Health = "error" if needed else "warning"
    if version is None:
        return Finding(name="git", health=bad, detail="There is no git on the PATH.", hint="Install git 2.38 or newer.")
    text = ".".join(map(str, version))
    if version < OLDEST_GIT:
        return Finding(
            name="git",
            health=bad,
            detail=f"git {text} can't forecast merge conflicts (merge-tree --write-tree).",
            hint="Install git 2.38 or newer.",
        )
    return Finding(name="git", health="ok", detail=f"git {text}.")


def judge_running(info: ServerInfo) -> Finding:
    """A private server that runs now."""
    if not info.version:
        return Finding(
            name="redis",
            health="error",
            detail=f"The private Redis (process {info.pid}) does not answer.",
            hint="claude-pool down ends it; the next command starts it again, with its data.",
        )
    size = f"{info.memory_bytes / 1e6:.1f} MB"
    detail = f"The private Redis {info.version} ({info.origin}, {info.binary}) runs as process {info.pid}, {size}."
    return _aged(parse_version(info.version), detail)


def judge_binary(binary: Binary, *, last_failure: tuple[int, str] | None) -> Finding:
    """A private server that would be started."""
    detail = f"redis-server {binary.version_text} ({binary.origin}, {binary.path}) is started when it is needed."
    if last_failure is not None:
        return Finding(
            name="redis",
            health="error",
            detail=f"The private Redis could not be brought up the last time: {last_failure[1]}.",
            hint="Any command tries again and shows the end of its log.",
        )
    return _aged(binary.version, detail)


def _aged(version: Version | None, detail: str) -> Finding:
    if version is not None and version < OLDEST_ON_PATH:
        return Finding(
            name="redis",
            health="warning",
            detail=f"{detail} Redis 6.2 has known flaws in its script engine that are mended in newer ones only.",
            hint="Install Redis 7.0 or newer; its data is taken over.",
        )
    return Finding(name="redis", health="ok", detail=detail)


def judge_server(facts: ServerFacts, address: str) -> Iterator[Finding]:
    """A server that somebody else runs: whether it may evict, whether it may forget."""
    version = ".".join(map(str, facts.version))
    if facts.version < OLDEST:
        yield _redis_finding(
            "error", f"Redis {version} at {address} is too old.", "Use Redis 7.0 or newer (6.2 at the least)."
        )
    else:
        yield _redis_finding("ok", f"Redis {version} at {address} answers.")
    if facts.eviction != "noeviction":
        yield _redis_finding(
            "error",
            f"maxmemory-policy is {facts.eviction or 'unknown'}: the server may throw tasks away.",
            "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file.",
        )
    if not facts.append_only:
        yield _redis_finding(
            "warning",
            "appendonly is off: tasks that were accepted can be lost when the server dies.",
            "CONFIG SET appendonly yes and appendfsync always, and the same in its configuration file.",
        )
    elif facts.fsync != "always":
        yield _redis_finding(
            "warning",
            f"appendfsync is {facts.fsync or 'unknown'}: the last second can be lost when the machine dies.",
            "CONFIG SET appendfsync always, and the same in its configuration file.",
        )


def judge_url(url: str, address: str) -> Iterator[Finding]:
    """Who else may come in. `address` is the URL as people may see it."""
    parts = urlsplit(url)
    if parts.scheme == "unix" or (parts.hostname or "") in _LOOPBACK:
        return
    if not parts.password:
        yield _redis_finding(
            "warning",
            f"{address} asks for no password: whoever reaches it can have any prompt run by the pool.",
            "Give the server a password (requirepass or ACL) and put it into the URL.",
        )
    if parts.scheme != "rediss":
        yield _redis_finding(
            "warning", f"{address} is not encrypted.", "Use rediss:// or a tunnel between the machines."
        )


def _redis_finding(health: Health, detail: str, hint: str = "") -> Finding:
    return Finding(name="redis", health=health, detail=detail, hint=hint)


def judge_claude(found: ClaudeBinary) -> Finding:
    """The binary that carries out the tasks."""
    where = {"setting": "as set", "path": "from the PATH", "package": "from the package claude-agent-sdk"}[found.origin]
    return Finding(name="claude", health="ok", detail=f"claude {found.version}, {where}, at {found.path}.")


def judge_sign_in(name: str | None) -> Finding:
    """From the name of what could serve as a sign-in; whether it is valid would cost money to learn."""
    if name is None:
        return Finding(
            name="sign-in",
            health="error",
            detail="There is no sign-in and no key.",
            hint="Run claude once and sign in, or set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN.",
        )
    return Finding(
        name="sign-in", health="ok", detail=f"{name} is there; whether it is valid shows with the first task."
    )


def judge_home(home: Path, folder: Path, refused: str) -> Finding:
    """`folder` is where writing was tried, `refused` why it failed; empty if it did not."""
    if refused:
        return Finding(
            name="home",
            health="error",
            detail=f"{folder} can't be written to: {refused}.",
            hint="Give this user the folder, or set CLAUDE_POOL_HOME to another one.",
        )
    detail = f"{home} is writable." if folder == home else f"{home} can be made."
    return Finding(name="home", health="ok", detail=detail)


def judge_disk(home: Path, free_bytes: int, total_bytes: int) -> Finding:
    """The room that is left for workspaces, logs and data."""
    room = f"{free_bytes / (1 << 30):.1f} GiB of {total_bytes / (1 << 30):.0f} GiB are free for {home}."
    if free_bytes >= LOW_DISK_BYTES:
        return Finding(name="disk", health="ok", detail=room)
    return Finding(
        name="disk",
        health="error" if free_bytes < FULL_DISK_BYTES else "warning",
        detail=room,
        hint="Make room: workspaces, logs and the private Redis stop working when the disk is full.",
    )


def judge_repository(repo: Path | None, *, exists: bool, refused: str = "", has_commit: bool = True) -> Finding:
    """`refused` is what git says about it, if it does."""
    if repo is None:
        detail = "No repository: tasks work in an empty folder each, without branches."
        return Finding(name="repository", health="ok", detail=detail)
    problem, hint = "", ""
    if not exists:
        problem, hint = f"{repo} does not exist.", "Correct CLAUDE_POOL_REPO."
    elif "dubious ownership" in refused:
        problem, hint = f"{repo} belongs to another user.", f"git config --global --add safe.directory {repo}"
    elif refused:
        problem, hint = f"{repo} is no usable repository: {refused.splitlines()[0]}", "Correct CLAUDE_POOL_REPO."
    elif not has_commit:
        problem, hint = f"{repo} has no commit yet, so no branch can begin.", "Make a first commit."
    if problem:
        return Finding(name="repository", health="error", detail=problem, hint=hint)
    return Finding(name="repository", health="ok", detail=f"{repo} is usable.")


@dataclass(frozen=True, slots=True)
class _Rule:
    """One combination of settings that is worth a word."""

    health: Health
    detail: str
    hint: str


def judge_settings(config: PoolConfig, origins: Mapping[str, str], *, uid: int) -> list[Finding]:
    """Where the settings come from, and which of them don't go together."""
    rules = [*_root(config, uid), *_freedoms(config), *_contradictions(config), *_foreign(origins)]
    given = [f"{name} from {origin}" for name, origin in sorted(origins.items()) if origin != "default"]
    source = Finding(name="settings", health="ok", detail=f"{', '.join(given) or 'All settings are the defaults'}.")
    return [
        source,
        *(Finding(name="settings", health=rule.health, detail=rule.detail, hint=rule.hint) for rule in rules),
    ]


def _root(config: PoolConfig, uid: int) -> Iterator[_Rule]:
    if uid:
        return
    yield _Rule("warning", "The pool runs as root, and so does all that its tasks do.", "Run it as an ordinary user.")
    if config.permission_mode == "bypassPermissions":
        yield _Rule("error", "claude refuses bypassPermissions as root.", "Run the pool as an ordinary user.")


def _freedoms(config: PoolConfig) -> Iterator[_Rule]:
    isolated = config.repo is not None and config.isolation != "none"
    if config.permission_mode == "bypassPermissions" and not config.allow_bypass:
        yield _Rule(
            "error",
            "permission_mode is bypassPermissions, which allow_bypass forbids: every task would be refused.",
            "Choose another permission_mode, or set allow_bypass where nothing but the pool is at stake.",
        )
    if config.allow_bypass:
        where = "" if isolated else " and has no workspace of its own"
        yield _Rule(
            "warning",
            f"allow_bypass: a task may do whatever this user may{where}.",
            "Use it in a container or a virtual machine only.",
        )
    if config.trust_repo:
        yield _Rule(
            "warning",
            "trust_repo: hooks and MCP servers that the repository brings are run.",
            "Keep it off for repositories whose every branch you don't trust.",
        )


def _contradictions(config: PoolConfig) -> Iterator[_Rule]:
    if config.isolation in {"worktree", "clone"} and config.repo is None:
        yield _Rule("error", f"isolation is {config.isolation}, but there is no repository.", "Set CLAUDE_POOL_REPO.")
    if config.min_slots > config.max_slots:
        yield _Rule(
            "error",
            f"min_slots ({config.min_slots}) is more than max_slots ({config.max_slots}).",
            "Correct one of the two.",
        )
    if config.task_budget_usd and config.budget_usd is not None and config.task_budget_usd > config.budget_usd:
        yield _Rule(
            "error",
            f"task_budget_usd ({config.task_budget_usd:g}) is more than budget_usd ({config.budget_usd:g}).",
            "Correct one of the two, or no task ever fits.",
        )


def _foreign(origins: Mapping[str, str]) -> Iterator[_Rule]:
    """A settings file inside a repository speaks with the voice of whoever wrote that repository."""
    for path in sorted({Path(origin) for origin in origins.values() if origin.endswith(".toml")}):
        names = [name for name in _COMMANDING if origins.get(name) == str(path)]
        if names and any((folder / ".git").exists() for folder in path.parents):
            yield _Rule(
                "warning",
                f"{', '.join(names)} come from {path}, a file inside a repository.",
                "Make sure that you wrote it, or set them by CLAUDE_POOL_ variables instead.",
            )
