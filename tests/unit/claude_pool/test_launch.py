from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import claude_pool
from claude_pool import launch
from claude_pool.errors import Shadowed

PROGRAM = "a_program_of_ours"


def package(folder: Path, name: str = PROGRAM, main: str = "def main():\n    return 7\n") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("")
    (folder / name / "main.py").write_text(main)
    return folder / name


def owner(folder: Path, distribution: str, *files: str) -> None:
    info = folder / f"{distribution}.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that plays site-packages: our home, with a program of ours in it, first on the import path."""
    home = (tmp_path / "site").resolve()
    package(home)
    owner(home, "claude_pool-1.0", f"{PROGRAM}/__init__.py", f"{PROGRAM}/main.py")
    monkeypatch.setattr(launch, "_HOME", home)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.syspath_prepend(str(home))
    yield home
    for name in [name for name in sys.modules if name.partition(".")[0] == PROGRAM]:
        del sys.modules[name]


def test_a_program_that_is_ours_is_loaded(site: Path) -> None:
    assert launch.load(f"{PROGRAM}.main").main() == 7
    assert [finding.health for finding in launch.check([PROGRAM])] == ["ok"]


def test_a_folder_of_the_user_that_comes_first_on_the_path_is_refused_by_both_names(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = package(tmp_path / "theirs", main="raise SystemExit('the wrong program ran')\n")
    monkeypatch.syspath_prepend(str(theirs.parent))
    with pytest.raises(Shadowed) as caught:
        launch.load(f"{PROGRAM}.main")
    assert str(theirs) in caught.value.message
    assert str(site / PROGRAM) in caught.value.message
    assert "PYTHONPATH" in caught.value.hint
    [finding] = launch.check([PROGRAM])
    assert (finding.health, finding.detail, finding.hint) == ("error", caught.value.message, caught.value.hint)


def test_a_package_that_a_second_distribution_claims_is_refused_and_the_distribution_named(site: Path) -> None:
    owner(site, "somebody_elses-1.9.5", "elsewhere/__init__.py", f"{PROGRAM}/__init__.py")
    owner(site, "innocent-2.0", f"lib/{PROGRAM}/__init__.py", f"{PROGRAM}_tools/__init__.py")
    with pytest.raises(Shadowed, match=r"somebody-elses 1\.9\.5") as caught:
        launch.load(f"{PROGRAM}.main")
    assert "innocent" not in str(caught.value)


def test_a_package_that_went_away_with_another_distribution_is_missed(site: Path) -> None:
    (site / PROGRAM / "__init__.py").unlink()
    with pytest.raises(Shadowed, match="install claude-pool again"):
        launch.load(f"{PROGRAM}.main")
    assert launch.check(["a_name_that_nobody_has"])[0].health == "error"


def test_programs_of_this_very_checkout_are_ours() -> None:
    assert [(finding.name, finding.health) for finding in launch.check()] == [("workers", "ok"), ("mcp_server", "ok")]


def test_the_working_directory_leaves_the_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = str(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", str(tmp_path), f"{tmp_path}/", other])
    launch.neutral_path()
    assert sys.path == [other]


def test_a_working_directory_that_holds_claude_pool_itself_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = str(Path(claude_pool.__file__).resolve().parent.parent)
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(sys, "path", ["", checkout])
    launch.neutral_path()
    assert sys.path == [checkout]


def test_a_working_directory_that_is_gone_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.setattr(sys, "path", ["", str(tmp_path)])
    monkeypatch.chdir(gone)
    gone.rmdir()
    launch.neutral_path()
    assert sys.path == [str(tmp_path)]


@pytest.mark.parametrize("script", [launch.cli, launch.worker, launch.mcp])
@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_answered_without_loading_a_program(
    script: object, flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(launch, "load", forbidden)
    monkeypatch.setattr(sys, "argv", ["claude-pool", flag])
    assert callable(script)
    assert script() == 0
    assert capsys.readouterr().out == f"claude-pool {claude_pool.__version__}\n"


def test_a_shadowed_program_ends_with_one_sentence_and_exit_code_3(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    owner(site, "impostor-1.0", "workers/__init__.py")
    package(site, "workers")
    monkeypatch.delitem(sys.modules, "workers", raising=False)
    monkeypatch.setattr(sys, "argv", ["bin/claude-pool-worker", "--slots", "2"])
    assert launch.worker() == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("claude-pool-worker: The package workers at ")
    assert "impostor 1.0" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "module"),
    [(launch.cli, "claude_pool.cli.main"), (launch.worker, "workers.main"), (launch.mcp, "mcp_server.main")],
)
def test_each_script_starts_its_program_and_hands_on_the_exit_code(
    script: object, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    class Program:
        @staticmethod
        def main() -> int:
            return 4

    def load(name: str) -> type[Program]:
        loaded.append(name)
        return Program

    monkeypatch.setattr(launch, "load", load)
    monkeypatch.setattr(sys, "argv", ["claude-pool", "status"])
    assert callable(script)
    assert script() == 4
    assert loaded == [module]
