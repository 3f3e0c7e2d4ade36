"""The branches of a pool: listed, discarded, and cleared away when nobody will want them any more.

How old a branch is, is told by when this machine first saw it with its present tip, not by the dates in its commits,
which whoever commits can choose. A branch that a run holds, a person has checked out, or that belongs to unfinished
work stays, whatever its age. What goes is named together with its commit, so that it can be brought back for as long as
git keeps the objects.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from claude_pool.errors import Conflict, NotFound, WorkspaceError
from claude_pool.models.workspace import PREFIX, Branch, GcReport
from claude_pool.workspace.branching import drop, lock_of
from claude_pool.workspace.forecast import Forecaster
from claude_pool.workspace.ground import BASES, Checkout, Ground
from claude_pool.workspace.hygiene import Guarded
from claude_pool.workspace.locks import hold, is_held
from claude_pool.workspace.resolution import forget_scaffolds
from claude_pool.workspace.worktree import WorktreeManager, delete_tree

DAY_S: Final = 86_400


def branches(ground: Ground, forecaster: Forecaster, *, target: str | None = None) -> list[Branch]:
    """All branches of pools in the repository, the youngest first."""
    listed = ground.git.run(
        "for-each-ref",
        "--format=%(objectname)%00%(committerdate:unix)%00%(refname)%00%(subject)",
        f"refs/heads/{PREFIX}",
    ).lines
    rows = [line.split("\0", 3) for line in listed]
    tips = {row[2].removeprefix("refs/heads/"): row[0] for row in rows}
    ages = _ages(ground, tips)
    held = {checkout.branch: str(checkout.path) for checkout in ground.checkouts()}
    goal = ground.target(target)
    over = ground.merged()
    found: list[Branch] = []
    for oid, committed, ref, subject in rows:
        name = ref.removeprefix("refs/heads/")
        ahead, behind, merged = _standing(ground, forecaster, name, oid, goal)
        found.append(
            Branch(
                name=name,
                tip=oid,
                base=ground.find(f"{BASES}{name}"),
                committed_s=int(committed or 0),
                age_s=ages[name],
                ahead=ahead,
                behind=behind,
                merged=merged or over.get(name) == oid,
                subject=subject.encode(errors="surrogateescape").decode(errors="replace")[:500],
                checked_out=held.get(name),
            )
        )
    return sorted(found, key=lambda branch: branch.age_s)


def discard(ground: Ground, name: str) -> str:
    """Delete a branch of a pool. Gives the commit that it was at. Raises NotFound, Conflict when somebody has it."""
    if (tip := ground.tip(name)) is None or not name.startswith(PREFIX):
        raise NotFound(f"There is no branch {name!r} of a pool in {ground.top or ground.common}.")
    with ground.lock(f"discarding {name}"):
        if (why := _in_use(ground, name)) is not None:
            raise Conflict(f"{name} can't be discarded: {why}.")
        drop(ground, name, tip)
    return tip


def gc(
    ground: Ground,
    forecaster: Forecaster,
    *,
    trees: Path,
    keep_s: float,
    busy: Collection[str] = (),
    rejected: Collection[str] = (),
    target: str | None = None,
) -> GcReport:
    """Clear away. `busy` are branches of unfinished work, which stay; `rejected` go at once; others when merged or old.

    `trees` is the folder that holds all slots of this pool: work trees below it that no slot uses any more go as well.
    """
    gone: list[str] = []
    kept: list[str] = []
    unfinished = set(busy)
    for branch in branches(ground, forecaster, target=target):
        root = branch.name.partition(".")[0]
        why = "merged" if branch.merged else "expired" if branch.age_s > keep_s else ""
        why = "rejected" if {branch.name, root} & set(rejected) else why
        if not why or {branch.name, root} & unfinished:
            continue
        try:
            discard(ground, branch.name)
            gone.append(f"{branch.name} {branch.tip} {why}")
        except (Conflict, NotFound) as error:
            kept.append(error.message)
    removed = _sweep_trees(ground, trees, keep_s, kept)
    forget_scaffolds(ground, before_s=time.time() - keep_s)
    return GcReport(
        branches=tuple(gone), worktrees=tuple(removed), kept=tuple(kept), leftovers=_sweep_files(trees, keep_s)
    )


def _standing(ground: Ground, forecaster: Forecaster, name: str, oid: str, target: str | None) -> tuple[int, int, bool]:
    """How far a branch is ahead of the target and behind it, and whether merging it would change nothing."""
    if target is None or ground.tip(target) is None:
        return 0, 0, False
    counts = ground.git.text("rev-list", "--left-right", "--count", f"refs/heads/{target}...{oid}", "--").split()
    behind, ahead = int(counts[0]), int(counts[1])
    merged = ahead == 0 or (behind > 0 and forecaster.forecast(name, target).state == "nothing_to_merge")
    return ahead, behind, merged


def _ages(ground: Ground, tips: Mapping[str, str]) -> dict[str, int]:
    """Seconds since each branch was first seen here with its tip; remembered in a file of ours."""
    path, now = ground.state / "branches.json", int(time.time())
    try:
        known: dict[str, list[object]] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        known = {}
    seen: dict[str, tuple[str, int]] = {}
    for name, tip in tips.items():
        entry = known.get(name)
        same = isinstance(entry, list) and len(entry) == 2 and entry[0] == tip and isinstance(entry[1], int)
        seen[name] = (tip, int(str(entry[1])) if same and entry is not None else now)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(seen))
    temporary.rename(path)
    return {name: max(0, now - since) for name, (_, since) in seen.items()}


def _in_use(ground: Ground, name: str) -> str | None:
    if is_held(lock_of(ground, name)):
        return "a run works on it"
    for checkout in ground.checkouts():
        if checkout.branch == name:
            return f"it is checked out in {checkout.path}"
    return None


def _sweep_trees(ground: Ground, trees: Path, keep_s: float, kept: list[str]) -> list[str]:
    """Remove this pool's work trees that are gone already, or unused for so long that their slot is."""
    removed: list[str] = []
    top = trees.resolve()
    for admin in ground.admin_dirs():
        path = _tree_of(admin)
        if path is None or not path.parent.resolve().is_relative_to(top):
            continue
        lock = Guarded(ground).lock_path(path.name)
        if is_held(lock) or (path.is_dir() and _idle_s(path) < keep_s):
            continue
        with hold(lock, wait_s=1):
            try:
                _remove_tree(ground, Checkout(path, admin, None))
                removed.append(str(path))
            except (OSError, WorkspaceError) as error:
                kept.append(f"{path}: {error}")
            lock.unlink(missing_ok=True)
    return removed


def _remove_tree(ground: Ground, checkout: Checkout) -> None:
    manager = WorktreeManager(ground, checkout.path)
    if checkout.path.is_dir() and manager.note.branch:  # a run died there and nobody came since
        with ground.lock("a tree that nobody uses"):
            manager.ready(manager.note.since)
        manager.rescue()
    with ground.lock("a tree that nobody uses"):
        manager.remove()
        delete_tree(checkout.git_dir)
    for beside in checkout.path.parent.glob(f"{checkout.path.name}.*"):
        if not beside.name.endswith(".quarantine"):
            delete_tree(beside)


def _sweep_files(trees: Path, keep_s: float) -> tuple[str, ...]:
    """Remove what runs left outside any branch, long ago: files without a repository, quarantined git directories."""
    removed: list[str] = []
    for pattern in ("*/slots/*/left/*", "*/slots/*/work/*.quarantine"):
        for path in sorted(trees.glob(pattern)):
            if _age_s(path) > keep_s:
                delete_tree(path)
                removed.append(str(path))
    return tuple(removed)


def _tree_of(admin: Path) -> Path | None:
    try:
        text = (admin / "gitdir").read_text(errors="surrogateescape").strip()
    except OSError:
        return None
    return Path(text).parent if text.startswith("/") else None


def _idle_s(path: Path) -> float:
    """How long nobody has opened or closed a tree: its note is written at each."""
    note = path.with_name(f"{path.name}.json")
    return _age_s(note) if note.exists() else _age_s(path)


def _age_s(path: Path) -> float:
    return time.time() - path.lstat().st_mtime
