"""Outlook: what merging a finished task's branch would do, for its reviewer; told from the node that has the branch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from claude_pool.config import PoolConfig
from claude_pool.errors import PoolError
from claude_pool.models.task import BranchFacts, MergeOutlook
from claude_pool.workspace import Repository

_log = logging.getLogger(__name__)

MOST_PATHS: Final = 100


def outlook(branch: BranchFacts, config: PoolConfig) -> MergeOutlook | None:
    """The forecast, as far as a result carries it. None when none can be made: that is no reason to hold the answer."""
    try:
        forecast = Repository.open(config, Path(branch.repo) if branch.repo else None).forecast(branch.branch)
    except (PoolError, OSError) as error:
        _log.info("no forecast for %s: %s", branch.branch, error)
        return None
    return MergeOutlook(
        into=forecast.into,
        into_tip=forecast.into_tip,
        state=forecast.state,
        conflicts=tuple(conflict.path for conflict in forecast.conflicts[:MOST_PATHS]),
        message=forecast.message,
    )
