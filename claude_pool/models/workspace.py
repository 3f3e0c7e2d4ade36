"""Records about workspaces, branches, diffs and merges. Paths are as git names them, below the repository's root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from claude_pool.models.base import Record
from claude_pool.models.options import GitRef, Isolation, PlainText

PREFIX = "pool/"
"""All branches of all pools begin so."""

Oid = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
PoolBranch = Annotated[str, StringConstraints(pattern=r"^pool/[a-z0-9][a-z0-9-]{0,62}(\.left-[0-9]{1,6})?$")]
"""`pool/<task>` or `pool/<chain>`; what a run left beside it is `pool/<task>.left-<n>`."""
MergeHow = Literal["merge", "squash", "rebase"]


class WorkspaceJob(Record):
    """What a slot asks a workspace for."""

    task_id: str = Field(min_length=1, max_length=64)
    branch: PoolBranch | None = None
    """None is `pool/<task_id>`; the steps of a chain share one."""
    isolation: Isolation = "worktree"
    repo: Path | None = None
    """None is the repository in the settings."""
    address: PlainText | None = None
    """Where to take the repository from instead: this machine keeps a mirror of it."""
    base_ref: GitRef | None = None
    """What a new branch starts from; None is the target branch's tip."""
    target: GitRef | None = None
    """The branch that the work is meant for; None is the settings' target, then what the repository has checked out."""
    working_dir: PlainText | None = None
    """With isolation `none`: the directory; None is an empty one of the slot's own."""
    ready: Path | None = None
    """With isolation `none` and no directory named: an empty one in which a process waits already, on loan."""
    reads_only: bool = False
    """With isolation `none`: the run can't change files, so that others that can't may share the directory."""
    fresh: bool = False
    """Start again from the base; what the task's own branch holds by now is kept under another name."""
    continues: bool = False
    """Go on where an earlier run of the task stopped; overrules `fresh`."""
    expects: Oid | None = None
    """The commit that an earlier run or step left on the branch: without it here the workspace is refused."""

    @property
    def branch_name(self) -> str:
        return self.branch or f"{PREFIX}{self.task_id}"


class FileChange(Record):
    """One changed file. `insertions` and `deletions` are None for a binary file."""

    path: str
    kind: Literal["added", "modified", "deleted", "renamed", "copied", "type_changed"]
    old_path: str | None = None
    insertions: int | None = None
    deletions: int | None = None
    mode: str = ""
    """The new mode when it is unusual or changed: 100755 program, 120000 link, 160000 submodule."""


class Diff(Record):
    """What a branch changes, and one page of its patch."""

    branch: str
    tip: Oid
    against: str
    """`base` or `target`, or the ref that was asked for."""
    base: Oid
    files: tuple[FileChange, ...] = ()
    files_total: int = 0
    insertions: int = 0
    deletions: int = 0
    patch: str = ""
    patch_offset: int = 0
    """First byte of this page."""
    next_offset: int | None = None
    """Where the next page begins; None at the end."""


class Hunk(Record):
    """One place where two sides disagree. `line` counts from 1 in the file with conflict markers."""

    line: int
    ours: str
    theirs: str
    cut: bool = False


class FileConflict(Record):
    """One file that can't be merged by itself."""

    path: str
    kind: str
    """Git's own word: `contents`, `modify/delete`, `add/add`, `rename/delete`, `binary` …"""
    message: str = ""
    hunks: tuple[Hunk, ...] = ()


class Forecast(Record):
    """What would happen if `branch` were merged into `into` now."""

    branch: str
    tip: Oid
    into: str
    into_tip: Oid
    state: Literal["clean", "conflicts", "nothing_to_merge", "unknown"]
    """`unknown`: no forecast could be made, see `message`."""
    conflicts: tuple[FileConflict, ...] = ()
    tree: Oid | None = None
    """The merged tree, when it is clean."""
    message: str = ""


class CheckRun(Record):
    """How the check command ended on the merged tree."""

    command: str
    passed: bool
    code: int
    timed_out: bool = False
    output: str = ""
    """The end of what it said."""
    warnings: tuple[str, ...] = ()
    """What it did to the repository that was undone."""


class MergeResult(Record):
    """What became of a merge. A refusal that is not about content is raised as Conflict instead."""

    branch: str
    tip: Oid
    target: str
    merged: bool
    how: MergeHow
    commit: Oid | None = None
    """The target's tip afterwards."""
    before: Oid | None = None
    """The target's tip before."""
    conflicts: tuple[FileConflict, ...] = ()
    check: CheckRun | None = None
    message: str = ""
    checkout_updated: str | None = None
    """The checkout that had the target branch, and was brought along."""
    resolving: str | None = None
    """The task that was handed in to resolve the conflicts; merge that one when it is done."""


class Branch(Record):
    """One branch of a pool."""

    name: str
    tip: Oid
    base: Oid | None = None
    committed_s: int
    """The tip's commit time, Unix seconds; whoever commits chooses it, so nothing is decided by it."""
    age_s: int
    """How long this pool has known the branch with this tip."""
    ahead: int = 0
    behind: int = 0
    merged: bool = False
    """Merging it would change nothing any more."""
    subject: str = ""
    checked_out: str | None = None
    """The directory that has it checked out."""


class GcReport(Record):
    """What a clean-up took away."""

    branches: tuple[str, ...] = ()
    """With their tips and why: `pool/t-… <oid> merged`, so that each can be brought back while git still has it."""
    worktrees: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """What was due but could not go, with the reason."""


class Outlook(Record):
    """How a pool's open branches stand to the target and to each other, worked out from what is committed by now."""

    target: str | None = None
    open: int = 0
    """Branches that hold something the target has not."""
    looked_at: int = 0
    """Of those, the youngest that were compared."""
    conflicts: tuple[Forecast, ...] = ()
    """With the target."""
    collisions: tuple[Forecast, ...] = ()
    """With each other: merging one makes the other conflict."""
