"""Workspaces: a slot's way to its directories. It opens one workspace at a time, of the kind that a job asks for.

    with workspaces.open(job) as workspace:
        … run the CLI in workspace.path …
        facts = workspace.save("what was done")

Isolation is kept or the opening fails with a WorkspaceError, which says why in one sentence: it never falls back to the
user's checkout. WorkspaceBusy, a kind of it, says that the same job can be had later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from claude_pool.config import PoolConfig
from claude_pool.models.parcel import ParcelStore
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace.base import Workspace
from claude_pool.workspace.carry import Carrier
from claude_pool.workspace.clone import CloneManager
from claude_pool.workspace.ground import digest
from claude_pool.workspace.plain import PlainWorkspace, lend
from claude_pool.workspace.prepare import left_alone
from claude_pool.workspace.tree import TreeWorkspace
from claude_pool.workspace.worktree import WorktreeManager

PLAIN_WAIT_S: Final = 5.0


class Workspaces:
    """Opens the workspaces of one slot, all below its own folder."""

    def __init__(
        self, config: PoolConfig, *, slot_dir: Path, pool: str, slot_id: str, parcels: ParcelStore | None = None
    ) -> None:
        """`parcels`: by which branches travel between nodes that have no git remote in common."""
        self._carrier = Carrier(config, parcels)
        self._config = config
        self._slot_dir = slot_dir
        self._owner = (str(config.pool_dir), pool, slot_id)
        self._states = config.pool_dir / "repos"

    def lend(self) -> Path:
        """An empty directory for `WorkspaceJob.ready`."""
        return lend(self._scratch)

    @property
    def _scratch(self) -> Path:
        return self._config.node_dir / "scratch"

    def open(self, job: WorkspaceJob) -> Workspace:
        """Open the workspace for a job. Raises WorkspaceError, WorkspaceBusy, Conflict."""
        if job.isolation == "none":
            locks = self._states / "directories"
            return PlainWorkspace(job, scratch=self._scratch, locks=locks, wait_s=PLAIN_WAIT_S)
        ground = self._carrier.repository(job)
        name = f"{ground.name}-{digest(*self._owner, ground.common)}"
        kind, name = (CloneManager, f"{name}-clone") if job.isolation == "clone" else (WorktreeManager, name)
        config = self._config
        excludes, clean = left_alone(config), config.clean_ignored
        manager = kind(ground, self._slot_dir / "work" / name, excludes=excludes, clean_ignored=clean)
        return TreeWorkspace(ground, manager, job, config, self._carrier)
