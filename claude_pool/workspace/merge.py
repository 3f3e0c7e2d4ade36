"""Merging: what a coordinator accepted goes into the target branch.

The merge is made of objects alone, in memory and away from any checkout; an optional check command of the pool's owner
runs on the merged tree in a scratch worktree; and only then the target moves, by compare-and-swap, together with the
checkout that is on it. Until that moment nothing has happened, whatever fails or dies.

One merge at a time per repository, by a lock of its own, for a check may take long and runs shall open workspaces
meanwhile. What is refused: a branch that is not at the reviewed commit any more, a target that moved during the check,
a checkout that is not clean (all Conflict); a conflict of content is a result, with files and hunks.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from pydantic import Field

from claude_pool.errors import Conflict, InvalidRequest, NotFound
from claude_pool.models.base import Record
from claude_pool.models.options import GitRef, PlainText
from claude_pool.models.workspace import PREFIX, CheckRun, MergeHow, MergeResult, Oid
from claude_pool.workspace.checkout import bring, done, holder, recover, require_clean
from claude_pool.workspace.forecast import Merged, merge_tree
from claude_pool.workspace.ground import MERGED, Ground
from claude_pool.workspace.hygiene import Guarded
from claude_pool.workspace.locks import hold
from claude_pool.workspace.prepare import run_command
from claude_pool.workspace.resolution import settled
from claude_pool.workspace.worktree import delete_tree

MERGE_WAIT_S: Final = 600.0
SCRATCH: Final = "scratch-"
_MOST_COMMITS: Final = 1000
_SHOWN: Final = 4000
_AUTHOR: Final = re.compile(r"\s*([^<>\x00-\x1f]+?)\s*<([^<>\s\x00-\x1f]+)>\s*")


class MergeRequest(Record):
    """What is to be merged, and how."""

    branch: GitRef
    target: GitRef | None = None
    """None is the settings' target, then what the repository has checked out."""
    how: MergeHow = "merge"
    message: PlainText = Field(default="", max_length=1 << 16)
    """Of the merge or squash commit; empty makes one from the branch. A rebase keeps each commit's own."""
    author: PlainText = Field(default="", max_length=300)
    """`Name <address>` of that commit; empty is whoever git's configuration names."""
    reviewed_tip: Oid | None = None
    """The commit that was reviewed; the merge is refused when the branch is elsewhere by now."""
    check_command: PlainText | None = None
    """Run with `sh -c` on the merged tree; it executes code of the branch."""
    check_timeout_s: float = Field(default=1800, gt=0, le=86_400)


class _Stopped(Exception):
    """The merge ends with a result instead of a commit."""

    def __init__(self, merged: Merged, message: str) -> None:
        super().__init__(message)
        self.merged = merged
        self.message = message


def merge(ground: Ground, request: MergeRequest) -> MergeResult:
    """Merge a branch into its target. Raises Conflict, NotFound, InvalidRequest, WorkspaceBusy."""
    author = _author(request.author)
    name = ground.target(request.target)
    if name is None:
        raise InvalidRequest("There is no target branch: the repository has none checked out.", hint="Name one.")
    lock = ground.common / "claude-pool-merge.lock"
    with hold(lock, wait_s=MERGE_WAIT_S, note=f"{request.branch} into {name}"):
        with ground.lock("clearing up after a merge"):
            said = recover(ground)
        tip, before = _tips(ground, request, name)
        result = MergeResult(
            branch=request.branch,
            tip=tip,
            target=name,
            merged=False,
            how=request.how,
            before=before,
            message=said or "",
        )
        work = settled(ground, request.branch, tip)
        if _has_all(ground, before, work):
            return result.evolve(merged=True, commit=before, message=f"{name} has all of {request.branch} already.")
        if (checkout := holder(ground, name)) is not None:
            require_clean(ground, checkout, before, None)
        try:
            after = _HOW[request.how](ground, request, name, before, work, author)
        except _Stopped as stop:
            return result.evolve(conflicts=stop.merged.conflicts, message=stop.message)
        if request.check_command is not None:
            check = _check(ground, request, after)
            result = result.evolve(check=check)
            if not check.passed:
                return result.evolve(message="The check command failed on the merged tree; nothing was merged.")
        return _apply(ground, request, result, after)


def _has_all(ground: Ground, target: str, tip: str) -> bool:
    """Whether merging would change nothing: the branch was merged, squashed or rebased already."""
    if ground.is_ancestor(tip, target):
        return True
    merged = merge_tree(ground, target, tip)
    return not merged.conflicts and merged.tree == ground.tree_of(target)


def _apply(ground: Ground, request: MergeRequest, result: MergeResult, after: str) -> MergeResult:
    """Move the target and its checkout, if all is still as it was when the merge was made."""
    before, name = result.before, result.target
    assert before is not None
    with ground.lock(f"merging {request.branch}"):
        if _tips(ground, request, name) != (result.tip, before):
            raise Conflict(f"{name} or {request.branch} moved while the merge was checked.", hint="Merge again.")
        checkout = holder(ground, name)
        if checkout is not None:
            require_clean(ground, checkout, before, after)
            bring(ground, checkout, name, before, after)
        try:
            ground.move(f"refs/heads/{name}", after, before, f"claude-pool: {request.how} of {request.branch}")
        except BaseException:
            recover(ground)
            raise
        done(ground)
        if request.branch.startswith(PREFIX):
            ref = f"{MERGED}{request.branch}"
            ground.move(ref, result.tip, ground.find(ref), "claude-pool: merged")
    updated = str(checkout.path) if checkout is not None else None
    return result.evolve(merged=True, commit=after, checkout_updated=updated)


def _tips(ground: Ground, request: MergeRequest, target: str) -> tuple[str, str]:
    tip, before = ground.tip(request.branch), ground.tip(target)
    for name, oid in ((request.branch, tip), (target, before)):
        if oid is None:
            raise NotFound(f"There is no branch {name!r} in {ground.top or ground.common}.")
    assert tip is not None
    assert before is not None
    if request.reviewed_tip is not None and tip != request.reviewed_tip:
        was, now = request.reviewed_tip[:12], tip[:12]
        raise Conflict(f"{request.branch} changed since it was reviewed: from {was} to {now}.", hint="Review it again.")
    return tip, before


def _author(text: str) -> Mapping[str, str]:
    if not text:
        return {}
    if (found := _AUTHOR.fullmatch(text)) is None:
        raise InvalidRequest(f"{text!r} is no author.", hint="Write it as: Name <address>")
    return {"GIT_AUTHOR_NAME": found[1], "GIT_AUTHOR_EMAIL": found[2]}


# --- the three ways -----------------------------------------------------------------------------------------------


def _merge_commit(
    ground: Ground, request: MergeRequest, target: str, before: str, tip: str, author: Mapping[str, str]
) -> str:
    tree = _merged(ground, before, tip, f"{request.branch} conflicts with {target}.")
    return ground.commit(tree, [before, tip], request.message or f"Merge {request.branch} into {target}", author)


def _squash(
    ground: Ground, request: MergeRequest, target: str, before: str, tip: str, author: Mapping[str, str]
) -> str:
    tree = _merged(ground, before, tip, f"{request.branch} conflicts with {target}.")
    subjects = ground.git.run(
        "log", "--reverse", "--no-merges", "--format=* %s", f"{before}..{tip}", "--", keep=1 << 15
    )
    text = subjects.out.decode(errors="replace").strip()
    return ground.commit(tree, [before], request.message or f"Squash {request.branch}\n\n{text}", author)


def _rebase(
    ground: Ground, request: MergeRequest, target: str, before: str, tip: str, author: Mapping[str, str]
) -> str:
    """Commit by commit on top of the target; merges are left out, as are commits that bring nothing new."""
    del author  # each commit keeps its own
    if tip != ground.tip(request.branch):
        raise InvalidRequest(
            f"{request.branch} resolves a conflict, which a rebase can't keep.", hint="Merge or squash."
        )
    listed = ground.git.run("rev-list", "--reverse", "--topo-order", "--no-merges", f"{before}..{tip}", "--").lines
    if len(listed) > _MOST_COMMITS:
        raise InvalidRequest(f"{request.branch} has {len(listed):,} commits to rebase.", hint="Squash or merge it.")
    onto = before
    for commit in listed:
        parent = ground.find(f"{commit}^1")
        if parent == onto:
            onto = commit
            continue
        tree = _picked(ground, onto, commit, parent, f"Commit {commit[:12]} conflicts with {target}.")
        if tree != ground.tree_of(onto):
            message, who = _told(ground, commit)
            onto = ground.commit(tree, [onto], message, who)
    return onto


_HOW: Final = {"merge": _merge_commit, "squash": _squash, "rebase": _rebase}


def _merged(ground: Ground, ours: str, theirs: str, message: str) -> str:
    merged = merge_tree(ground, ours, theirs)
    if merged.conflicts:
        raise _Stopped(merged, message)
    return merged.tree


def _picked(ground: Ground, onto: str, commit: str, parent: str | None, message: str) -> str:
    """The tree of `commit` taken from its parent onto another commit.

    Three stand-in commits give git the merge base that is wanted: `merge-tree --merge-base` is younger than 2.38.
    """
    empty = ground.git.text("mktree")
    base = ground.commit(ground.tree_of(parent) if parent else empty, [], "base")
    ours, theirs = (ground.commit(ground.tree_of(oid), [base], "side") for oid in (onto, commit))
    return _merged(ground, ours, theirs, message)


def _told(ground: Ground, commit: str) -> tuple[str, dict[str, str]]:
    """A commit's message and author."""
    shown = ground.git.run("show", "--no-patch", "--format=%an%x00%ae%x00%ad%x00%B", "--date=raw", commit, "--")
    name, address, date, message = shown.out.decode(errors="replace").split("\0", 3)
    who = {"GIT_AUTHOR_NAME": name or "unknown", "GIT_AUTHOR_EMAIL": address or "unknown", "GIT_AUTHOR_DATE": date}
    return message.rstrip("\n") + "\n", who


# --- the check ------------------------------------------------------------------------------------------------------


def _check(ground: Ground, request: MergeRequest, commit: str) -> CheckRun:
    """Run the owner's command on a commit in a worktree that exists for this only."""
    sweep_scratch(ground)
    path = ground.state / f"{SCRATCH}{uuid.uuid4().hex[:12]}"
    command = request.check_command or ""
    guarded = Guarded(ground)
    with ExitStack() as stack:
        stack.callback(_remove_scratch, ground, path)
        lock = guarded.lock_path(path.name)
        stack.enter_context(hold(lock, wait_s=1, note="a check before a merge"))
        stack.callback(lock.unlink, missing_ok=True)
        with ground.lock("a scratch worktree"):
            guarded.enter(path.name)
            ground.git.run("worktree", "add", "--quiet", "--detach", "--no-checkout", "--", str(path), commit)
        ground.at(path, ground.common / "worktrees" / path.name).run("read-tree", "--reset", "-u", commit)
        try:
            ended = run_command(command, path, timeout_s=request.check_timeout_s)
        finally:
            with ground.lock("a scratch worktree"):
                warnings = guarded.leave(path.name)
    output = (ended.text + ended.error_text)[-_SHOWN:]
    return CheckRun(
        command=command,
        passed=ended.ok,
        code=ended.code,
        timed_out=ended.timed_out,
        output=output,
        warnings=tuple(warnings),
    )


def sweep_scratch(ground: Ground) -> list[str]:
    """Take scratch worktrees away that a process left which died; wants the merge lock. Gives their names."""
    found = sorted(ground.state.glob(f"{SCRATCH}*"))
    for path in found:
        _remove_scratch(ground, path)
    return [path.name for path in found]


def _remove_scratch(ground: Ground, path: Path) -> None:
    delete_tree(path)
    with ground.lock("a scratch worktree"):
        delete_tree(ground.common / "worktrees" / path.name)
