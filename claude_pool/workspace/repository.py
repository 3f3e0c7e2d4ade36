"""Repository: everything that can be done with a pool's branches, on any machine that has the repository.

The counter, the command line and the MCP tools stand on this; slots use `Workspaces`. Methods raise NotFound for a
branch that does not exist, Conflict when somebody was first, WorkspaceError when git can't do it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Self

from claude_pool.config import PoolConfig
from claude_pool.errors import WorkspaceError
from claude_pool.models.parcel import ParcelStore
from claude_pool.models.workspace import PREFIX, Branch, Diff, Forecast, GcReport, MergeResult, Outlook
from claude_pool.workspace.branches import DAY_S, branches, discard, gc
from claude_pool.workspace.carry import Carrier
from claude_pool.workspace.checkout import recover
from claude_pool.workspace.diff import PAGE_BYTES, diff
from claude_pool.workspace.forecast import Forecaster
from claude_pool.workspace.ground import Ground, locate
from claude_pool.workspace.locks import hold
from claude_pool.workspace.merge import MERGE_WAIT_S, MergeRequest, merge, sweep_scratch
from claude_pool.workspace.resolution import Scaffold, scaffold
from claude_pool.workspace.travel import MOST_BYTES, export_bundle, fetch, import_bundle, push


class Repository:
    """One repository and the branches of pools in it."""

    def __init__(self, ground: Ground, config: PoolConfig) -> None:
        self._ground = ground
        self._config = config
        self._forecaster = Forecaster(ground)

    @classmethod
    def open(cls, config: PoolConfig, repo: Path | None = None) -> Self:
        """The repository of a pool, or the one that is named. Raises WorkspaceError."""
        path = repo or config.repo
        if path is None:
            raise WorkspaceError("The pool has no repository.", hint="Name one with CLAUDE_POOL_REPO.")
        return cls(locate(path, states=config.pool_dir / "repos", filters=config.git_filters), config)

    @property
    def path(self) -> Path:
        """The checkout that was named, or the git directory of a bare repository."""
        return self._ground.top or self._ground.common

    @property
    def target(self) -> str | None:
        """The branch that work is meant for; None when nothing is checked out and no setting names one."""
        return self._ground.target(self._config.target)

    def tip(self, branch: str) -> str | None:
        """The commit that a branch is at, or None."""
        return self._ground.tip(branch)

    def has(self, branch: str, commit: str) -> bool:
        """Whether a branch is here, and as far as that commit."""
        tip = self._ground.tip(branch)
        return tip is not None and self._ground.find(commit) is not None and self._ground.is_ancestor(commit, tip)

    def bring(self, branch: str, parcels: ParcelStore, *, expects: str | None = None) -> bool:
        """Bring a branch here that another machine of the pool made. See `claude_pool.workspace.carry`."""
        return Carrier(self._config, parcels).bring(self._ground, branch, expects=expects)

    def diff(
        self,
        branch: str,
        *,
        against: str = "base",
        path: str | None = None,
        offset: int = 0,
        page_bytes: int = PAGE_BYTES,
    ) -> Diff:
        """What a branch changes: files with counts, and a page of the patch. See `claude_pool.workspace.diff`."""
        return diff(
            self._ground,
            branch,
            against=against,
            target=self.target,
            path=path,
            offset=offset,
            page_bytes=page_bytes,
        )

    def forecast(self, branch: str, into: str | None = None) -> Forecast:
        """What merging a branch would do now; `into` is the target when it is None."""
        name = into or self.target
        if name is None:
            raise WorkspaceError("There is no target branch to forecast a merge into.", hint="Name one.")
        return self._forecaster.forecast(branch, name)

    def collisions(self, names: Iterable[str]) -> list[Forecast]:
        """Which of these branches conflict with each other."""
        return self._forecaster.between(names)

    def outlook(self, *, limit: int = 20) -> Outlook:
        """How the youngest open branches stand to the target and to each other; `limit` bounds the work."""
        target, names = self.target, self._open(None)
        if target is None or not names:
            return Outlook(target=target)
        found = [self._forecaster.forecast(name, target) for name in names[:limit]]
        still_open = [one for one in found if one.state != "nothing_to_merge"]
        apart = [one.branch for one in still_open if one.state == "clean"]
        return Outlook(
            target=target,
            open=len(still_open) + max(0, len(names) - limit),
            looked_at=len(still_open),
            conflicts=tuple(one for one in still_open if one.state == "conflicts"),
            collisions=tuple(self._forecaster.between(apart)),
        )

    def rivals(self, branch: str, *, limit: int = 20) -> tuple[Forecast, ...]:
        """Which of the youngest open branches conflict with this one."""
        return tuple(self._forecaster.between([branch, *self._open(limit)], one=branch))

    def _open(self, limit: int | None) -> list[str]:
        """Branches of pools that hold commits the target has not, the youngest first."""
        target = self.target
        if target is None or self._ground.tip(target) is None:
            return []
        words = (
            "--sort=-committerdate",
            "--format=%(objectname) %(refname:lstrip=2)",
            f"--no-merged=refs/heads/{target}",
        )
        listed = self._ground.git.run("for-each-ref", *words, f"refs/heads/{PREFIX}").lines
        over = self._ground.merged()
        found = [name for oid, name in (line.split(" ", 1) for line in listed if line) if over.get(name) != oid]
        return found if limit is None else found[:limit]

    def scaffold(self, branch: str, into: str) -> Scaffold:
        """What a task starts from that is to resolve a conflict. See `claude_pool.workspace.resolution`."""
        return scaffold(self._ground, branch, into)

    def merge(self, request: MergeRequest) -> MergeResult:
        """Merge a branch. See `claude_pool.workspace.merge`."""
        return merge(self._ground, request if request.target else request.evolve(target=self.target))

    def discard(self, branch: str) -> str:
        """Delete a branch of a pool; gives the commit that it was at."""
        return discard(self._ground, branch)

    def branches(self) -> list[Branch]:
        """All branches of pools in the repository, the youngest first."""
        return branches(self._ground, self._forecaster, target=self.target)

    def owned(self) -> set[str]:
        """The branches that this pool made here, on this machine."""
        return self._ground.owned()

    def gc(self, *, busy: Collection[str] = (), rejected: Collection[str] = ()) -> GcReport:
        """Clear away merged, rejected and expired branches, unused work trees, and what merges that died left.

        `busy` must name the branches of all unfinished work; only the store knows them.
        """
        with hold(self._ground.common / "claude-pool-merge.lock", wait_s=MERGE_WAIT_S, note="clearing up"):
            with self._ground.lock("clearing up after a merge"):
                said = recover(self._ground)
            scratch = sweep_scratch(self._ground)
        report = gc(
            self._ground,
            self._forecaster,
            trees=self._config.pool_dir / "nodes",
            keep_s=self._config.branch_days * DAY_S,
            busy=busy,
            rejected=rejected,
            target=self.target,
        )
        with self._ground.lock("clearing up"):
            self._ground.disown([entry.split()[0] for entry in report.branches])
        return report.evolve(leftovers=(*report.leftovers, *scratch, *([said] if said else ())))

    def export_bundle(self, branch: str, base: str | None = None, *, most_bytes: int = MOST_BYTES) -> bytes:
        """A branch as a git bundle, without the history up to `base`. Raises WorkspaceError above the limit."""
        return export_bundle(self._ground, branch, base, most_bytes=most_bytes)

    def import_bundle(self, data: bytes, branch: str, *, most_bytes: int = MOST_BYTES) -> str | None:
        """Take a branch from a bundle; gives its tip. Raises WorkspaceError when it does not fit here."""
        return import_bundle(self._ground, data, branch, most_bytes=most_bytes)

    def push(self, remote: str, branch: str) -> None:
        """Push a branch to a remote of the repository, never by force."""
        push(self._ground, remote, branch)

    def fetch(self, remote: str, branch: str) -> str:
        """Take a branch from a remote of the repository; gives its tip."""
        return fetch(self._ground, remote, branch)
