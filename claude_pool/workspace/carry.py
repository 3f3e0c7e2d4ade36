"""Carrying branches between the machines of a pool, so that any node can continue what another one began.

By the git remote that the settings name; without one, as a bundle through the store, in a pool whose store several
machines can share. A node without the repository makes a mirror of it from the configured address, and freshens that
before each task. What could not be sent is a warning of the task, because nothing is lost by it: the branch is where
the run was. What is needed and can't be had is a WorkspaceError that says where it is.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from claude_pool.config import PoolConfig
from claude_pool.errors import NotFound, PoolError, WorkspaceError
from claude_pool.git import plain
from claude_pool.models.parcel import Parcel, ParcelStore
from claude_pool.models.task import BranchFacts
from claude_pool.models.workspace import PREFIX, WorkspaceJob
from claude_pool.workspace.ground import BASES, Ground, digest, locate
from claude_pool.workspace.locks import hold
from claude_pool.workspace.travel import export_bundle, fetch, fetch_all, import_bundle, push

_ADDRESS: Final = re.compile(
    r"(?:(?:https|ssh|file)://[A-Za-z0-9/\[]|[A-Za-z0-9][\w.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:)[^\s\x00-\x1f]+"
)
_MIRROR_WAIT_S: Final = 1800.0


class Carrier:
    """Takes branches to where other nodes find them, and brings them from there."""

    def __init__(self, config: PoolConfig, parcels: ParcelStore | None = None) -> None:
        self._config = config
        self._parcels = parcels if not config.embedded else None

    def send(self, ground: Ground, facts: BranchFacts) -> str:
        """Send what a run left. Gives what went wrong, as a sentence for the task's warnings."""
        try:
            if self._config.remote is not None:
                push(ground, self._config.remote, facts.branch)
            elif self._parcels is not None:
                most = self._config.parcel_bytes
                data = export_bundle(ground, facts.branch, facts.base, most_bytes=most)
                told = {"tip": facts.tip, "base": facts.base, "node": self._config.node, "repo": facts.repo}
                if not self._parcels.put(_name(facts.branch), Parcel(facts=told, data=data)):
                    return f"{facts.branch} does not fit among what travels; it is on node {self._config.node} only."
        except PoolError as error:
            return f"{facts.branch} is on node {self._config.node} only: {error}"
        return ""

    def bring(self, ground: Ground, branch: str, *, expects: str | None = None) -> bool:
        """See to it that a branch is here as far as others took it; False when there is nothing to bring.

        Raises WorkspaceError when there is, and it can't be had.
        """
        tip = ground.tip(branch)
        if expects is not None and tip is not None and _reaches(ground, tip, expects):
            return True
        if self._config.remote is not None:
            with suppress(NotFound):
                return self._from_remote(ground, branch)
        told = self._parcels.facts(_name(branch)) if self._parcels is not None else None
        if told is None or (tip is not None and _reaches(ground, tip, told.get("tip", ""))):
            return told is not None
        assert self._parcels is not None
        parcel = self._parcels.get(_name(branch))
        if parcel is None:
            return False
        self._note_base(ground, branch, told.get("base", ""))
        try:
            import_bundle(ground, parcel.data, branch, most_bytes=self._config.parcel_bytes)
        except WorkspaceError as error:
            raise WorkspaceError(
                f"{branch} was left on node {told.get('node')} and can't be continued here: {error.message}",
                hint="Fetch in the repository of this node, or name a git remote (setting remote) for all.",
            ) from None
        return True

    def _from_remote(self, ground: Ground, branch: str) -> bool:
        assert self._config.remote is not None
        try:
            fetch(ground, self._config.remote, branch)
        except WorkspaceError as error:
            if "couldn't find remote ref" in str(error):
                return False
            raise
        return True

    @staticmethod
    def _note_base(ground: Ground, branch: str, base: str) -> None:
        """Where the branch began, as whoever made it said; without it a diff would have to guess."""
        if base and ground.find(f"{BASES}{branch}") is None and (oid := ground.find(base)) is not None:
            ground.move(f"{BASES}{branch}", oid, None, "claude-pool: base")

    # -- the repository itself

    def repository(self, job: WorkspaceJob) -> Ground:
        """The repository of a job on this machine; where there is none a mirror of its address.

        Raises WorkspaceError.
        """
        config = self._config
        states = config.pool_dir / "repos"
        address = job.address
        repo = job.repo
        if address is None and repo is None:  # the pool's own, which may be elsewhere on each machine
            repo = config.repo if config.repo and (config.repo.exists() or config.repo_url is None) else None
            address = config.repo_url if repo is None else None
        if address is not None:
            return self._mirror(address, states)
        if repo is None:
            raise WorkspaceError(
                f"Isolation {job.isolation} needs a repository, and the pool has none.",
                hint="Name one with CLAUDE_POOL_REPO, or choose isolation none.",
            )
        return locate(repo, states=states, filters=config.git_filters)

    def _mirror(self, address: str, states: Path) -> Ground:
        """A bare repository of ours with the branches of that address, as they are there now."""
        if not is_address(address):
            raise WorkspaceError(
                f"{address!r} is no address of a repository.", hint="https://…, ssh://… or user@host:…"
            )
        path = self._config.pool_dir / "mirrors" / f"{digest(address)}.git"
        with hold(path.with_suffix(".lock"), wait_s=_MIRROR_WAIT_S, note=f"a mirror of {address}"):
            if not (path / "HEAD").is_file():
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
                plain("init", "--quiet", "--bare", str(path))
            ground = locate(path, states=states, filters=self._config.git_filters)
            ground.git.run("config", "remote.origin.url", address)
            fetch_all(ground, "origin", besides=PREFIX)
        return ground


def is_address(text: str) -> bool:
    """Whether this is the address of a repository elsewhere, and no path."""
    return _ADDRESS.fullmatch(text) is not None


def _name(branch: str) -> str:
    return f"branch:{branch}"


def _reaches(ground: Ground, tip: str, commit: str) -> bool:
    return bool(commit) and ground.find(commit) is not None and ground.is_ancestor(commit, tip)
