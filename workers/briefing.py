"""Briefing: what a worker is told besides its prompt, appended to the CLI's own system prompt.

    the repository's CLAUDE.md · shared context for all · that of the task's tags · the task's own system prompt

What most tasks share comes first and the order never changes, so that prompt caches stay warm. CLAUDE.md is taken from
the pool's own repository alone, as text: a strange repository's never speaks with that weight, and with `trust_repo`
the CLI reads it by itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from claude_pool.config import PoolConfig
from claude_pool.models.context import ContextEntry
from claude_pool.models.options import TaskOptions

MOST_BYTES: Final = 64 << 10
_NAME: Final = "CLAUDE.md"


def briefing(options: TaskOptions, entries: Iterable[ContextEntry], instructions: str = "") -> str | None:
    """The system prompt to append; None when there is nothing to say. `entries` come in the store's order."""
    told = [entry for entry in entries if not entry.namespace or entry.namespace in options.tags]
    parts = [
        f"Instructions of this repository ({_NAME}):\n\n{instructions}" if instructions else "",
        _context(told),
        options.system_prompt or "",
    ]
    return "\n\n".join(part for part in parts if part) or None


def _context(entries: Sequence[ContextEntry]) -> str:
    if not entries:
        return ""
    blocks = (f"## {entry.key}\n\n{entry.value}" for entry in entries)
    return "\n\n".join(("# Context shared by the workers of this pool", *blocks))


def instructions_of(directory: Path, options: TaskOptions, config: PoolConfig) -> str:
    """The CLAUDE.md of a workspace, if it may speak: "" without one, for a strange repository, or for no plain file."""
    own = (str(config.repo) if config.repo else None, config.repo_url)
    if config.trust_repo or not config.claude_md or options.isolation == "none" or not any(own):
        return ""
    if options.repo is not None and options.repo not in own:
        return ""
    try:
        handle = os.open(directory / _NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # absent, or a link that an agent made to somewhere else
        return ""
    try:
        plain = stat.S_ISREG(os.fstat(handle).st_mode)
        return os.read(handle, MOST_BYTES).decode(errors="ignore").replace("\0", "").strip() if plain else ""
    finally:
        os.close(handle)
