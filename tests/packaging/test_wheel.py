"""What we ship: the wheel, in an environment of its own, used from a folder that owns packages of our names."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import claude_pool

ROOT = Path(__file__).parents[2]
PACKAGES = ["claude_pool", "mcp_server", "workers"]
SCRIPTS = ["claude-pool", "claude-pool-mcp", "claude-pool-worker"]
WRONG = "raise SystemExit('the wrong program ran')\n"


def run(argv: Sequence[str | Path], *, cwd: Path, code: int | None = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """A program in a clean environment. Its exit code is checked here, so that a failure shows what it printed."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8", "COLUMNS": "100", **env}
    done = subprocess.run(argv, cwd=cwd, env=clean, capture_output=True, text=True, timeout=100, check=False)
    assert code is None or done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def pip(python: Path, *arguments: str | Path, cwd: Path) -> None:
    """Our own pip works on the other environment, which needs none then; no index is asked."""
    run([sys.executable, "-m", "pip", "--python", python, *arguments], cwd=cwd, PIP_NO_INDEX="1")


def environment(folder: Path, wheel: Path) -> Path:
    """A fresh environment with the wheel in it, which finds the dependencies in ours. Returns its bin folder.

    Our own `.pth` files count for nothing there, so that the checkout is not on its path.
    """
    venv.EnvBuilder(symlinks=True).create(folder)
    bin_dir = folder / "bin"
    [site] = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip(bin_dir / "python", "install", "-q", "--no-deps", wheel, cwd=folder)
    return bin_dir


def impostor(folder: Path) -> Path:
    """A wheel of another distribution that owns `workers` as well."""
    wheel = folder / "workers_runtime-1.9.5-py3-none-any.whl"
    info = "workers_runtime-1.9.5.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("workers/__init__.py", "")
        archive.writestr("workers/main.py", WRONG)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: workers-runtime\nVersion: 1.9.5\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{info}/RECORD", f"workers/__init__.py,,\nworkers/main.py,,\n{info}/METADATA,,\n{info}/RECORD,,\n"
        )
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a release is: the source archive first, and the wheel from that."""
    out = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT], cwd=out)
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_dir(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("installed"), wheel)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A user's repository that has packages of our names."""
    folder = tmp_path / "repository"
    for name in ("workers", "mcp_server", "tests"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("OWNER = 'the user'\n")
        (folder / name / "main.py").write_text(WRONG)
    return folder


def test_the_wheel_holds_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert sorted(top for top in tops if not top.endswith(".dist-info")) == PACKAGES
    assert len(tops) == len(PACKAGES) + 1
    assert [name for name in names if "__pycache__" in name or "/test_" in name] == []


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    ours = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix in {".py", ".lua", ".typed", ".json", ".toml"}
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= ours
    assert any(name.endswith(".lua") for name in ours)
    assert sorted(ours - set(zipfile.ZipFile(wheel).namelist())) == []


def test_the_scripts_of_the_wheel_are_the_three_that_go_through_the_launcher(bin_dir: Path) -> None:
    [info] = bin_dir.parent.glob("lib/python*/site-packages/claude_pool-*.dist-info")
    points = importlib.metadata.Distribution.at(info).entry_points.select(group="console_scripts")
    assert sorted(point.name for point in points) == SCRIPTS
    assert {point.value.partition(":")[0] for point in points} == {"claude_pool.launch"}


@pytest.mark.parametrize("path", [None, "."], ids=["plainly", "with PYTHONPATH=."])
@pytest.mark.parametrize("script", SCRIPTS)
def test_in_a_folder_with_packages_of_our_names_our_programs_run(
    script: str, path: str | None, bin_dir: Path, hostile: Path
) -> None:
    env = {} if path is None else {"PYTHONPATH": path}
    version = run([bin_dir / script, "--version"], cwd=hostile, **env)
    assert version.stdout == f"claude-pool {claude_pool.__version__}\n"
    told = run([bin_dir / script, "--help"], cwd=hostile, **env)
    assert "claude-pool" in told.stdout
    assert "the wrong program" not in told.stdout + told.stderr


def test_doctor_finds_our_names_in_order_there(bin_dir: Path, hostile: Path) -> None:
    done = run([bin_dir / "claude-pool", "doctor", "--json"], cwd=hostile, code=None, PYTHONPATH=".")
    assert '"shadowed' not in done.stdout
    assert "The package workers is claude-pool's own." in done.stdout
    assert "The package mcp_server is claude-pool's own." in done.stdout


@pytest.mark.parametrize("script", ["claude-pool-worker", "claude-pool-mcp"])
def test_a_package_of_our_name_elsewhere_on_the_path_is_refused_in_one_sentence(
    script: str, bin_dir: Path, hostile: Path, tmp_path: Path
) -> None:
    done = run([bin_dir / script, "--help"], cwd=tmp_path, code=3, PYTHONPATH=str(hostile))
    assert done.stdout == ""
    assert str(hostile) in done.stderr
    assert "shadows claude-pool's own" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_users_program_there_has_the_library_and_its_own_packages(bin_dir: Path, hostile: Path) -> None:
    program = (
        "import workers, mcp_server, claude_pool\n"
        "from claude_pool import Pool, PoolConfig, TaskOptions\n"
        "print(workers.OWNER, mcp_server.OWNER, TaskOptions(model='haiku').model, claude_pool.__file__)"
    )
    done = run([bin_dir / "python", "-c", program], cwd=hostile)
    assert done.stdout.startswith("the user the user haiku ")
    assert str(bin_dir.parent) in done.stdout


def test_another_distribution_installed_over_ours_is_refused_and_so_is_the_hole_it_leaves(
    wheel: Path, tmp_path: Path
) -> None:
    bin_dir = environment(tmp_path / "shared", wheel)
    run([bin_dir / "claude-pool-worker", "--help"], cwd=tmp_path)

    pip(bin_dir / "python", "install", "-q", "--no-deps", impostor(tmp_path), cwd=tmp_path)
    refused = run([bin_dir / "claude-pool-worker", "--help"], cwd=tmp_path, code=3)
    assert "workers-runtime 1.9.5" in refused.stderr
    assert "the wrong program" not in refused.stderr
    run([bin_dir / "claude-pool-mcp", "--help"], cwd=tmp_path)

    pip(bin_dir / "python", "uninstall", "-q", "-y", "workers-runtime", cwd=tmp_path)
    broken = run([bin_dir / "claude-pool-worker", "--help"], cwd=tmp_path, code=3)
    assert "install claude-pool again" in broken.stderr
