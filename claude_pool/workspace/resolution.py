"""Resolutions: a conflict turned into work that a run can do with nothing but an editor.

A commit of ours holds the merge as far as git could make it, with conflict markers where it could not; both sides are
its parents. A task starts from there, edits the markers away, and its branch merges cleanly. That commit is scaffolding
and never reaches the target: when the branch is merged, all that lies on it becomes one merge commit of both sides
(`settled`), and one that still has markers is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from claude_pool.errors import Conflict, InvalidRequest, NotFound
from claude_pool.models.workspace import FileConflict
from claude_pool.workspace.forecast import hunks, merge_tree
from claude_pool.workspace.ground import BASES, Ground

KEPT: Final = "refs/claude-pool/resolve/"
"""Holds the scaffolding of resolutions until their task has begun, and is cleared away with old branches."""
TRAILER: Final = "Claude-Pool-Scaffold: conflicts"
_LARGEST: Final = 4 << 20
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Scaffold:
    """What a task that resolves starts from."""

    commit: str
    conflicts: tuple[FileConflict, ...]


def scaffold(ground: Ground, branch: str, into: str) -> Scaffold:
    """Make what a task starts from that is to resolve `branch` against `into`. Raises InvalidRequest, NotFound."""
    tip, other = (ground.tip(name) for name in (branch, into))
    if tip is None or other is None:
        raise NotFound(f"There is no branch {(branch if tip is None else into)!r} in {ground.top or ground.common}.")
    tip = settled(ground, branch, tip)
    merged = merge_tree(ground, other, tip)
    if not merged.conflicts:
        raise InvalidRequest(f"{branch} does not conflict with {into}: there is nothing to resolve.")
    message = f"Merge {into} into {branch}, with its conflicts\n\n{TRAILER}"
    commit = ground.commit(merged.tree, [tip, other], message)
    ground.move(f"{KEPT}{commit}", commit, None, "claude-pool: to be resolved")
    return Scaffold(commit, merged.conflicts)


def settled(ground: Ground, branch: str, tip: str) -> str:
    """The commit that stands for a branch in a merge: its tip, or one merge commit in place of scaffolding and work.

    Raises Conflict while files of a resolution still have conflict markers.
    """
    base = ground.find(f"{BASES}{branch}")
    if base is None or not is_scaffold(ground, base) or not ground.is_ancestor(base, tip):
        return tip
    mine, theirs = ground.find(f"{base}^1"), ground.find(f"{base}^2")
    assert mine is not None
    assert theirs is not None
    if left := _unresolved(ground, merge_tree(ground, theirs, mine).conflicts, tip):
        raise Conflict(
            f"{branch} still has conflict markers in {', '.join(left[:_NAMED])}.",
            hint="Let a task continue there, or edit them away.",
        )
    message = ground.git.run("show", "--no-patch", "--format=%B", tip, "--").out.decode(errors="replace")
    return ground.commit(ground.tree_of(tip), [mine, theirs], message.strip() or f"Resolve {branch}")


def is_scaffold(ground: Ground, commit: str) -> bool:
    """Whether a commit is one of ours with conflict markers in it."""
    shown = ground.git.run("show", "--no-patch", "--format=%P%n%B", commit, "--").out.decode(errors="replace")
    parents, _, message = shown.partition("\n")
    return len(parents.split()) == 2 and message.strip().endswith(f"\n{TRAILER}")


def forget_scaffolds(ground: Ground, *, before_s: float) -> int:
    """Let go of scaffolding that is older (Unix seconds); branches that stand on it keep it alive by themselves."""
    listed = ground.git.run("for-each-ref", "--format=%(objectname) %(committerdate:unix)", KEPT).lines
    old = [oid for oid, made in (line.split() for line in listed if line) if int(made) < before_s]
    for oid in old:
        ground.delete(f"{KEPT}{oid}", oid)
    return len(old)


def _unresolved(ground: Ground, conflicts: tuple[FileConflict, ...], tip: str) -> list[str]:
    left: list[str] = []
    for conflict in conflicts:
        if not conflict.hunks:
            continue
        blob = ground.git.run("cat-file", "blob", f"{tip}:{conflict.path}", ok=(0, 128), keep=_LARGEST)
        if blob.status == 0 and hunks(blob.out.decode(errors="replace")):
            left.append(conflict.path)
    return left
