"""Retention: what a node keeps on its disk, and for how long.

Event logs, whole outputs, session transcripts, tasks' own directories and set-aside journal entries go when nothing has
changed in them for `keep_days`. Branches have a rule of their own (`branch_days`), and the store forgets its records by
the housekeeper. What can't be deleted stays and is tried again the next time.
"""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Final

from claude_pool.config import PoolConfig
from claude_pool.workspace.plain import forget_scratch

_log = logging.getLogger(__name__)

EVERY_S: Final = 3_600.0
_DAY_S: Final = 86_400
_KEPT: Final = (("logs", "*"), ("projects", "**/*.jsonl"), ("journal", "*.bad"), ("journal", "*.tmp"))


def clear_old(config: PoolConfig) -> int:
    """Delete what is past its time; how many files and directories went."""
    before_s = time.time() - config.keep_days * _DAY_S
    gone = sum(_clear(config.node_dir / folder, pattern, before_s) for folder, pattern in _KEPT)
    gone += forget_scratch(config.node_dir / "scratch", before_s=before_s)
    if gone:
        _log.info("deleted %d files that were older than %g days", gone, config.keep_days)
    return gone


def _clear(folder: Path, pattern: str, before_s: float) -> int:
    gone = 0
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if path.is_file() and path.lstat().st_mtime < before_s:
                path.unlink()
                gone += 1
    return gone
