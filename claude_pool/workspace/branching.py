"""Branching: which commit a task's branch begins at, and that only one run at a time has it.

A branch that a dead run still has checked out, on this machine, is taken from it after what it left was kept. One that
a person has checked out is not taken: the task fails with a sentence that names the place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from claude_pool.errors import WorkspaceBusy, WorkspaceError
from claude_pool.models.workspace import PREFIX, WorkspaceJob
from claude_pool.workspace.clone import MARK, CloneManager
from claude_pool.workspace.ground import BASES, MERGED, Ground, digest
from claude_pool.workspace.hygiene import Guarded
from claude_pool.workspace.keep import beside
from claude_pool.workspace.locks import hold, is_held
from claude_pool.workspace.worktree import WorktreeManager


@dataclass(frozen=True, slots=True)
class Begun:
    """A branch that is ready to be worked on. `new` says that it was made just now and holds nothing yet."""

    tip: str
    base: str
    new: bool
    warnings: list[str] = field(default_factory=list[str])


def lock_of(ground: Ground, branch: str) -> Path:
    """The lock that the one run which works on a branch holds."""
    return ground.state / "open" / f"branch-{digest(branch)}.lock"


def begin(ground: Ground, job: WorkspaceJob, *, target: str | None, own: Path | None) -> Begun:
    """Make the task's branch, or find it; wants the repository's lock. `own` is the tree that will have it."""
    branch = job.branch_name
    warnings = _free(ground, branch, own)
    tip = ground.tip(branch)
    if job.expects is not None and not _has(ground, tip, job.expects):
        hint = "It may be on another node: share a git remote, or bring it here as a bundle."
        where = ground.top or ground.common
        raise WorkspaceError(
            f"{branch} is to be continued from {job.expects[:12]}, which is not in {where}.", hint=hint
        )
    if tip is not None and job.fresh and not job.continues and branch == f"{PREFIX}{job.task_id}":
        warnings += _put_aside(ground, branch, tip)
        tip = None
    if tip is not None:
        return Begun(tip, ground.base_of(branch, tip) or tip, new=False, warnings=warnings)
    start = ground.start(job.base_ref, target)
    _forget_base(ground, branch)
    ground.move(f"{BASES}{branch}", start, None, "claude-pool: base")
    ground.move(f"refs/heads/{branch}", start, None, "claude-pool: task begins")
    ground.own(branch)
    return Begun(start, start, new=True, warnings=warnings)


def drop(ground: Ground, branch: str, tip: str) -> None:
    """Delete a branch and our note of its base. Raises Conflict when the branch is not at `tip` any more."""
    ground.delete(f"refs/heads/{branch}", tip)
    _forget_base(ground, branch)


def _has(ground: Ground, tip: str | None, commit: str) -> bool:
    return tip is not None and ground.find(commit) is not None and ground.is_ancestor(commit, tip)


def _put_aside(ground: Ground, branch: str, tip: str) -> list[str]:
    """Free the branch's name; what is on it, if anything, gets another."""
    empty = ground.find(f"{BASES}{branch}") == tip
    kept = [] if empty else [f"The run starts afresh; earlier work is on {beside(ground, branch, tip)}."]
    drop(ground, branch, tip)
    return kept


def _forget_base(ground: Ground, branch: str) -> None:
    for ref in (f"{BASES}{branch}", f"{MERGED}{branch}"):
        if (noted := ground.find(ref)) is not None:
            ground.delete(ref, noted)


def _free(ground: Ground, branch: str, own: Path | None) -> list[str]:
    """See to it that no other tree has the branch."""
    warnings = _free_clones(ground, branch, own)
    guarded = Guarded(ground)
    for checkout in ground.checkouts():
        if checkout.branch != branch or checkout.path == own:
            continue
        other = WorktreeManager(ground, checkout.path)
        lock = guarded.lock_path(checkout.path.name)
        if not other.note.made or not lock.exists():
            hint = "Switch that checkout to another branch."
            raise WorkspaceError(f"{branch} is checked out in {checkout.path}, so no run can have it.", hint=hint)
        if is_held(lock):
            raise WorkspaceBusy(f"{branch} is being worked on in {checkout.path}.")
        with hold(lock, wait_s=1):
            if other.note.branch:
                warnings += other.rescue().warnings
            else:  # it died between taking the branch and noting it: nothing was done there
                other.let_go(branch)
    return warnings


def _free_clones(ground: Ground, branch: str, own: Path | None) -> list[str]:
    """Keep what a run that died left of this branch in a slot's clone."""
    warnings: list[str] = []
    for mark in sorted((ground.state / "open").glob(f"*{MARK}")):
        path = Path(mark.read_text())
        other = CloneManager(ground, path)
        if path == own or other.note.branch != branch or not path.is_dir():
            continue
        with hold(Guarded(ground).lock_path(path.name), wait_s=1):
            warnings += other.ready(ground.tip(branch) or "") + other.rescue().warnings
            other.leave()
    return warnings
