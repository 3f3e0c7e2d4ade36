"""What a workspace costs: making one ready for the next task, keeping what a run left, looking at it and merging it.

The floor is a fresh `git worktree add` of the same repository, taken in turn with each measurement.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Final

from harness import World, alternate, quick, timed_ms

from claude_pool.config import PoolConfig
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace import MergeRequest, Repository, Workspaces

CHANGED: Final = 10
"""Files that each task changes."""


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def project(folder: Path, count: int) -> Path:
    """A repository of so many small files in a hundred folders."""
    for number in range(count):
        file = folder / f"d{number % 100}" / f"f{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number}\n" * 20)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Bench")
    git(folder, "config", "user.email", "bench@localhost")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "First")
    return folder


class Slot:
    """One slot that runs one task after another on the repository."""

    def __init__(self, home: Path, repo: Path) -> None:
        config = PoolConfig(home=home, node="bench", repo=repo)
        self._workspaces = Workspaces(config, slot_dir=home / "slot", pool="bench", slot_id="slot-0@bench")
        self._numbers = itertools.count()
        self.repository = Repository.open(config)
        self.branch = ""
        self.saved_ms = self.closed_ms = 0.0

    def task(self) -> float:
        """A whole task; gives how long the opening took."""
        number = next(self._numbers)
        self.branch = f"pool/t-{number}"
        opened: list[object] = []
        took = timed_ms(lambda: opened.append(self._workspaces.open(WorkspaceJob(task_id=f"t-{number}"))))
        [workspace] = opened
        for index in range(CHANGED):
            (workspace.path / f"d{index}" / f"f{index}.txt").write_text(f"task {number}\n")
        self.saved_ms = timed_ms(lambda: workspace.save("Work"))
        self.closed_ms = timed_ms(workspace.close)
        return took


def main() -> None:
    short = quick("workspaces")
    rounds = 4 if short else 12
    with World("workspaces") as world, world.table() as table:
        for count in (100, 1_000 if short else 10_000):
            repo = project(world.folder / f"repo-{count}", count)
            slot = Slot(world.folder / f"home-{count}", repo)
            fresh = world.folder / "fresh"

            def add(repo: Path = repo, fresh: Path = fresh) -> float:
                took = timed_ms(lambda: git(repo, "worktree", "add", "-q", "--detach", str(fresh)))
                shutil.rmtree(fresh)
                git(repo, "worktree", "prune")
                return took

            saves: list[float] = []

            def task(slot: Slot = slot, saves: list[float] = saves) -> float:
                took = slot.task()
                saves.append(slot.saved_ms)
                return took

            floor, opens = alternate(rounds, add, task)
            words = {"floor": floor, "floor_is": "git worktree add"}
            table.add(f"open for the next task, {count:,} files", opens, "ms", **words, aim="ratio < 0.5 at 10,000")
            table.add(f"save {CHANGED} changed files, {count:,} files", saves[-rounds:], "ms", **words)
            diffs, forecasts = alternate(
                rounds,
                lambda slot=slot: timed_ms(lambda: slot.repository.diff(slot.branch)),
                lambda slot=slot: timed_ms(lambda: Repository.forecast(slot.repository, slot.branch)),
            )
            table.add(f"diff, {count:,} files", diffs, "ms", **words)
            table.add(f"forecast, remembered, {count:,} files", forecasts, "ms", **words)
            merged = timed_ms(lambda slot=slot: slot.repository.merge(MergeRequest(branch=slot.branch)))
            table.add(f"merge with the checkout brought along, {count:,} files", merged, "ms", **words)


if __name__ == "__main__":
    main()
