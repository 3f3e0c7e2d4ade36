"""A repository of a user, and slots that work on it.

project    `project.git(...)` is the user's own git in it, hooks and all; `project.write(path, text)`, `.commit()`
slots      factory: `slots(0)` is the Workspaces of slot 0; `slots(0, pool="b")` of another pool on the repository
work       `work(0, "t-1", {"a.txt": "text"})` runs a whole task in slot 0 and gives its BranchFacts
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.git import Git
from claude_pool.models.task import BranchFacts
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace import Repository, Workspaces


def user_git(folder: Path, *words: str, check: bool = True, **env: str) -> str:
    """Git as a person has it: with the repository's hooks, filters and configuration in force."""
    variables = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "GIT_CONFIG_NOSYSTEM": "1", **env}
    done = subprocess.run(["git", *words], cwd=folder, env=variables, check=False, capture_output=True)
    if check and done.returncode:
        raise AssertionError(done.stderr.decode())
    return done.stdout.decode(errors="surrogateescape").strip()


@dataclass(frozen=True)
class Project:
    path: Path

    def git(self, *words: str, check: bool = True, **env: str) -> str:
        return user_git(self.path, *words, check=check, **env)

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    def commit(self, message: str = "A change") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.tip()

    def tip(self, ref: str = "HEAD") -> str:
        return self.git("rev-parse", "--verify", ref)

    def show(self, ref: str, path: str) -> str:
        return self.git("show", f"{ref}:{path}")

    def files(self, ref: str) -> list[str]:
        return self.git("ls-tree", "-r", "--name-only", ref).splitlines()


@pytest.fixture
def project(scratch_repo: Path) -> Project:
    return Project(scratch_repo)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


SlotFactory = Callable[..., Workspaces]


@pytest.fixture
def slots(project: Project, home: Path) -> SlotFactory:
    def make(number: int = 0, *, pool: str = "alpha", **settings: Any) -> Workspaces:
        config = PoolConfig(**{"name": pool, "home": home, "node": "n1", "repo": project.path, **settings})
        folder = config.node_dir / "slots" / str(number)
        return Workspaces(config, slot_dir=folder, pool=pool, slot_id=f"slot-{number}@n1")

    return make


@pytest.fixture
def work(slots: SlotFactory) -> Callable[..., BranchFacts | None]:
    def run(number: int, task: str, files: dict[str, str], **how: Any) -> BranchFacts | None:
        with slots(number).open(WorkspaceJob(task_id=task, **how)) as workspace:
            for name, text in files.items():
                (workspace.path / name).parent.mkdir(parents=True, exist_ok=True)
                (workspace.path / name).write_text(text)
            return workspace.save(f"Work of {task}")

    return run


@pytest.fixture
def repository(project: Project, home: Path) -> Repository:
    return Repository.open(PoolConfig(name="alpha", home=home, node="n1", repo=project.path))


def kill_self(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def die_at() -> Callable[[Callable[[], object]], bool]:
    """Run something in a process of its own that may kill itself on the way; gives whether it did."""

    def run(function: Callable[[], object]) -> bool:
        sys.stdout.flush()
        if (pid := os.fork()) == 0:
            status = 1
            try:
                function()
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
        return os.WIFSIGNALED(status)

    return run


@pytest.fixture
def dies_at_call(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From now on this process kills itself at the n-th git command that a workspace runs, or right after it."""

    def arm(call: int, *, after: bool = False) -> None:
        real, count = Git.run, 0

        def run(git: Git, *argv: str, **how: Any) -> Any:
            nonlocal count
            count += 1
            if count == call and not after:
                kill_self()
            done = real(git, *argv, **how)
            if count == call:
                kill_self()
            return done

        monkeypatch.setattr(Git, "run", run)

    return arm
