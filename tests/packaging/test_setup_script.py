"""`scripts/setup`, with stand-ins for pip and for the machine's programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASICS = ["bash", "env", "dirname", "cat", "cksum", "sed", "id", "rm", "chmod"]


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


class Project:
    """A checkout whose .venv has a Python that really runs, but only notes what pip is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "programs"
        self.notes = folder / "pip.log"
        (folder / "scripts").mkdir(parents=True)
        self.path.mkdir()
        shutil.copy(ROOT / "scripts" / "setup", folder / "scripts" / "setup")
        for name in ("requirements.lock", "pyproject.toml"):
            (folder / name).write_text("")
        program(
            folder / ".venv" / "bin" / "python",
            f'if [ "$1" = -m ]; then echo "${{@:2}}" >>"{self.notes}"; else exec "{sys.executable}" "$@"; fi',
        )
        for name in BASICS:
            (self.path / name).symlink_to(str(shutil.which(name)))

    def has(self, name: str, answer: str = "") -> None:
        program(self.path / name, f"echo '{answer}'")

    def setup(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {"PATH": str(self.path), "CLAUDE_POOL_NO_APT": "1", **env}
        argv = [self.folder / "scripts" / "setup", *arguments]
        return subprocess.run(argv, env=clean, capture_output=True, text=True, timeout=60, check=False)

    def installs(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "checkout")
    project.has("git", "git version 2.39.5")
    project.has("redis-server", "Redis server v=7.0.15 sha=0")
    return project


def test_it_installs_by_hash_and_then_the_project_itself_without_any_index(project: Project) -> None:
    done = project.setup()
    assert done.returncode == 0, done.stderr
    locked, itself = project.installs()
    assert "--require-hashes -r requirements.lock" in locked
    assert "--no-index -e ." in itself
    assert "--no-build-isolation" in itself


def test_a_second_time_it_installs_nothing_and_says_nothing(project: Project) -> None:
    project.setup()
    before = project.installs()
    again = project.setup(CI="1")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert project.installs() == before


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_dependency_is_installed_again(project: Project, name: str) -> None:
    project.setup()
    (project.folder / name).write_text("# changed\n")
    project.setup()
    assert len(project.installs()) == 4


def test_a_failed_installation_is_tried_again_next_time(project: Project) -> None:
    python = project.folder / ".venv" / "bin" / "python"
    good = python.read_text()
    python.write_text(good.replace("; else", "; exit 1; else"))
    assert project.setup().returncode != 0
    python.write_text(good)
    assert project.setup().returncode == 0
    assert len(project.installs()) == 3


def test_without_a_recent_redis_it_names_what_is_missing_and_goes_on_except_in_ci(project: Project) -> None:
    project.has("redis-server", "Redis server v=6.0.16 sha=0")
    at_home = project.setup()
    assert at_home.returncode == 0
    assert "redis-server 7.0 or newer" in at_home.stderr
    in_ci = project.setup(CI="1")
    assert in_ci.returncode != 0
    assert "missing: redis-server 7.0 or newer" in in_ci.stderr


def test_without_git_it_names_that(project: Project) -> None:
    (project.path / "git").unlink()
    assert "missing: git" in project.setup().stderr
    assert project.setup(CI="1").returncode != 0


def test_a_python_that_is_too_old_or_absent_is_refused_by_name(project: Project) -> None:
    program(project.path / "python-of-old", "exit 1")
    done = project.setup("python-of-old")
    assert done.returncode != 0
    assert "'python-of-old'" in done.stderr
    assert "Python 3.11 or newer is needed" in done.stderr
    assert (project.folder / ".venv" / "bin" / "python").exists(), "what works must not be thrown away"


def test_on_debian_as_root_it_says_what_it_installs_and_starts_no_service(project: Project) -> None:
    """apt-get is a stand-in; the policy file is looked for where the stand-in would see it."""
    if os.geteuid() != 0:
        pytest.skip("only root installs packages")
    asked = project.folder / "apt.log"
    program(
        project.path / "apt-get",
        f'echo "$@ $([ -e /usr/sbin/policy-rc.d ] && echo held)" >>"{asked}"\n'
        f"printf '#!/bin/bash\\necho v=7.0.15\\n' >\"{project.path}/redis-server\"",
    )
    project.has("redis-server", "Redis server v=6.0.16 sha=0")
    before = Path("/usr/sbin/policy-rc.d").exists()
    done = project.setup(CI="1", CLAUDE_POOL_NO_APT="")
    assert done.returncode == 0, done.stderr
    assert "installing with apt-get: redis-server" in done.stderr
    assert asked.read_text().splitlines()[-1].endswith("redis-server held")
    assert Path("/usr/sbin/policy-rc.d").exists() == before
