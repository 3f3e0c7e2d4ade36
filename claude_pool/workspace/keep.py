"""Keeping: whatever a run left in its work tree becomes commits on its branch. Nothing is lost with a directory.

The tree is hostile, and may be in any state: in the middle of a rebase, on another branch, with files that the index
was told to overlook, with repositories inside. The rule: uncommitted content is committed on top of what is checked
out, by plumbing, so that no hook can refuse it; then the branch is moved there if that loses nothing, and otherwise
a second branch `<branch>.left-<n>` holds it. What can't be kept as it was is said in a warning.

Failure: git's own errors are raised as GitFailed, the work tree untouched; the next opening of the tree tries again.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from claude_pool.errors import Conflict
from claude_pool.git import Git, Output
from claude_pool.models.task import BranchFacts
from claude_pool.workspace.ground import BASES, Ground

PATHS_KEPT: Final = 200
_ADD_TIMEOUT_S: Final = 1800.0
_MOST_NESTED: Final = 100
_SUBMODULE: Final = "160000"


@dataclass(slots=True)
class Kept:
    """What keeping found and did. `aside` are the branches that hold what did not fit on the task's own."""

    tip: str
    aside: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])


def keep(ground: Ground, git: Git, branch: str, message: str, *, since: str, quarantine: Path) -> Kept:
    """Commit what is left in the work tree of `git`, and bring `branch` to it. `since` is where the run began.

    Commits that the branch had then and the run threw away get a branch of their own, too.
    """
    warnings: list[str] = []
    _unhide(git)
    _open_nested(git, quarantine, warnings)
    _add(git, warnings)
    head = git.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}", ok=(0, 1, 128)).text or since
    tree = git.text("write-tree")
    if ground.tree_of(head) != tree:
        head = ground.commit(tree, [head], message)
    kept = _bring(ground, branch, head)
    if not ground.is_ancestor(since, kept.tip):
        name = beside(ground, branch, since)
        kept.aside.append(name)
        kept.warnings.append(f"The run rewrote earlier commits; as they were they are on {name}.")
    kept.warnings[:0] = warnings
    return kept


def facts(ground: Ground, branch: str, base: str, kept: Kept) -> BranchFacts:
    """What a branch holds now, for the task's result."""
    words = ("diff-tree", "-r", "--no-ext-diff", "--no-textconv", "--no-renames", "--raw", "--numstat", "-z")
    listed = ground.git.run(*words, base, kept.tip, "--").fields
    raw = 0  # entry and path in turn; only a path could look like an entry, so they are counted, not searched for
    while raw < len(listed) and listed[raw].startswith(":"):
        raw += 2
    modules = [
        path for entry, path in zip(listed[:raw:2], listed[1:raw:2], strict=True) if entry.split()[1] == _SUBMODULE
    ]
    rows = [row.split("\t", 2) for row in listed[raw:]]
    warnings = [f"{shown(path)} is a submodule; its commits are not part of the branch." for path in modules]
    return BranchFacts(
        branch=branch,
        base=base,
        tip=kept.tip,
        repo=str(ground.top or ground.common),
        commits=ground.count(base, kept.tip),
        files=len(rows),
        insertions=sum(int(row[0]) for row in rows if row[0] != "-"),
        deletions=sum(int(row[1]) for row in rows if row[1] != "-"),
        paths=tuple(shown(row[2]) for row in rows[:PATHS_KEPT]),
        warnings=(*kept.warnings, *warnings[:10]),
    )


def shown(path: str) -> str:
    """A path as text that can travel: what is no UTF-8 in it is replaced."""
    return os.fsencode(path).decode(errors="replace")


def free_name(ground: Ground, stem: str) -> str:
    """The first of `<stem>-1`, `<stem>-2` … that is no branch yet."""
    number = 1
    while ground.tip(f"{stem}-{number}") is not None:
        number += 1
    return f"{stem}-{number}"


def _unhide(git: Git) -> None:
    """Clear marks that tell git to overlook changes, on files that exist; a sparse tree keeps its absent files."""
    marked: list[str] = []
    for entry in git.run("ls-files", "-v", "-z").fields:
        mark, _, path = entry.partition(" ")
        if (mark.islower() or mark == "S") and os.path.lexists(git.place.work_tree / path):
            marked.append(path)
    if marked:
        listed = b"".join(os.fsencode(path) + b"\0" for path in marked)
        for option in ("--no-assume-unchanged", "--no-skip-worktree"):
            git.run("update-index", option, "-z", "--stdin", stdin=listed)


def _open_nested(git: Git, quarantine: Path, warnings: list[str]) -> None:
    """Turn repositories inside the tree into plain folders: git would keep of them a number, and no file.

    Their git directories are moved aside, not deleted: they may hold commits.
    """
    for _ in range(_MOST_NESTED):  # one may hide another
        listed = _untracked(git).fields
        nested = [path for path in listed if path.endswith("/")]
        moved = [path for path in nested if _move_aside(git.place.work_tree, path, quarantine)]
        word = f"was a repository of its own; its files are kept, its history is in {quarantine}."
        warnings.extend(f"{shown(path)} {word}" for path in moved)
        if not moved:
            return


def _untracked(git: Git) -> Output:
    return git.run("ls-files", "--others", "--exclude-standard", "-z")


def _move_aside(top: Path, path: str, quarantine: Path) -> bool:
    inner = top / path / ".git"
    if not os.path.lexists(inner) or not inner.parent.resolve().is_relative_to(top.resolve()):
        return False
    quarantine.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = path.strip("/").replace("/", "-")[-100:] or "nested"
    taken = len(list(quarantine.iterdir()))
    shutil.move(inner, quarantine / f"{name}.git.{taken}")
    return True


def _add(git: Git, warnings: list[str]) -> None:
    done = git.run("add", "--all", "--ignore-errors", ok=(0, 1, 128), timeout_s=_ADD_TIMEOUT_S)
    if done.status:
        missed = _untracked(git).fields[:5] + git.run("diff-files", "--name-only", "-z").fields[:5]
        names = ", ".join(shown(path) for path in missed) or done.err.strip()[:500]
        warnings.append(f"Not everything could be kept: {names}.")


def _bring(ground: Ground, branch: str, head: str) -> Kept:
    """Move the branch to `head` if it loses nothing by that; else give `head` a branch of its own."""
    tip = ground.tip(branch)
    why = "claude-pool: what the run left"
    if tip is not None and (tip == head or ground.is_ancestor(head, tip)):
        return Kept(tip)
    if tip is None or ground.is_ancestor(tip, head):
        try:
            ground.move(f"refs/heads/{branch}", head, tip, why)
        except Conflict:  # somebody moved it this very moment: then both are kept
            return _aside(ground, branch, head)
        return Kept(head)
    return _aside(ground, branch, head)


def _aside(ground: Ground, branch: str, head: str) -> Kept:
    name = beside(ground, branch, head)
    tip = ground.tip(branch) or head
    return Kept(tip, [name], [f"The run ended off its branch; what it left there is on {name}."])


def beside(ground: Ground, branch: str, commit: str) -> str:
    """Give a commit a branch beside a task's own. Gives its name."""
    name = free_name(ground, f"{branch.partition('.')[0]}.left")
    ground.move(f"refs/heads/{name}", commit, None, "claude-pool: left beside the branch")
    if (base := ground.find(f"{BASES}{branch}")) is not None:
        ground.move(f"{BASES}{name}", base, ground.find(f"{BASES}{name}"), "claude-pool: base")
    return name
