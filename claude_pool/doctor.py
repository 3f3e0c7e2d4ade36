"""Doctor: looks at everything a pool needs on this machine and says, for each, how it is and what to do.

It looks; what it sees is judged in doctor_rules.py. It changes nothing, starts nothing that stays and spends nothing. A
look that fails in an unforeseen way becomes a finding of its own, and the others go on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from claude_pool import doctor_rules as rules
from claude_pool import launch, processes
from claude_pool.binary import credentials_hint, find_claude
from claude_pool.config import PoolConfig
from claude_pool.embedded import Place, running
from claude_pool.embedded_binary import Version, check_data, find_binary, parse_version
from claude_pool.errors import PoolError, Unreachable
from claude_pool.models.pool import Finding
from claude_pool.store.client import address_of, connect


def diagnose(config: PoolConfig, origins: Mapping[str, str]) -> list[Finding]:
    """One finding or more for each thing a pool needs here; `origins` is what `config.load` gave. Never raises."""
    looks: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("python", lambda: [rules.judge_python(sys.version_info[:3], sys.executable)]),
        ("git", lambda: [rules.judge_git(_git_version(), needed=config.repo is not None)]),
        ("redis", lambda: _redis(config)),
        ("claude", lambda: [rules.judge_claude(find_claude(config))]),
        ("sign-in", lambda: [rules.judge_sign_in(credentials_hint(os.environ, Path.home()))]),
        ("home", lambda: _home(config.home)),
        ("repository", lambda: [_repository(config.repo)]),
        ("packages", launch.check),
        ("settings", lambda: rules.judge_settings(config, origins, uid=os.geteuid())),
    )
    return [finding for name, look in looks for finding in _safely(name, look)]


def _safely(name: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(look())
    except PoolError as error:
        found.append(Finding(name=name, health="error", detail=error.message, hint=error.hint))
    except Exception as error:  # noqa: BLE001 - a doctor that dies of one illness can't name the others
        detail = f"Looking failed: {type(error).__name__}: {error}"
        found.append(Finding(name=name, health="error", detail=detail, hint="Please report this: it is our fault."))
    return found


def _git_version() -> Version | None:
    done = _git("--version")
    return parse_version(done.text) if done is not None and done.ok else None


def _git(*arguments: str) -> processes.Completed | None:
    """git, read-only and asking nobody; None if there is none."""
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env |= {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        return processes.run(["git", *arguments], env=env, timeout_s=10)
    except OSError:
        return None


def _redis(config: PoolConfig) -> Iterator[Finding]:
    if config.redis_url is not None:
        yield from _given_redis(config.redis_url, config.name)
    elif (info := running(config)) is not None:
        yield rules.judge_running(info)
    else:
        place, binary = Place.of(config), find_binary()
        check_data(place.folder, binary, parse_version(place.record().get("version", "")))
        yield rules.judge_binary(binary, last_failure=place.failure())


def _given_redis(url: str, pool: str) -> Iterator[Finding]:
    address = address_of(url)
    yield from rules.judge_url(url, address)
    with contextlib.closing(connect(url, pool=pool)) as client:
        try:
            facts = client.facts()
        except Unreachable as error:
            raise Unreachable(error.message, hint="Start that server, or correct CLAUDE_POOL_REDIS_URL.") from None
    if facts is not None:
        yield from rules.judge_server(facts, address)


def _home(home: Path) -> list[Finding]:
    """Try to write there, or in the nearest folder that exists, and look how much room is left."""
    folder = next(path for path in (home, *home.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            writable = ""
    except OSError as error:
        writable = error.strerror or str(error)
    usage = shutil.disk_usage(folder)
    return [rules.judge_home(home, folder, writable), rules.judge_disk(home, usage.free, usage.total)]


def _repository(repo: Path | None) -> Finding:
    if repo is None:
        return rules.judge_repository(None, exists=False)
    inside = _git("-C", str(repo), "rev-parse", "--git-dir")
    commit = _git("-C", str(repo), "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    refused = "" if inside is not None and inside.ok else (inside.error_text if inside else "there is no git").strip()
    return rules.judge_repository(repo, exists=repo.is_dir(), refused=refused, has_commit=bool(commit and commit.ok))
