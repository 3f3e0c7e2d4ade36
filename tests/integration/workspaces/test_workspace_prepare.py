from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_pool.errors import WorkspaceError
from claude_pool.workspace.prepare import copy_in, patterns, run_command, set_up


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source" / "conf").mkdir(parents=True)
    (tmp_path / "source" / ".env").write_text("SECRET")
    (tmp_path / "source" / "conf" / "tool").write_text("tool")
    (tmp_path / "source" / "conf" / "tool").chmod(0o750)
    return tmp_path / "source"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def test_files_are_copied_with_their_folders_and_modes(source: Path, tree: Path) -> None:
    copy_in((".env", "conf/tool", "missing", "no/folder"), source, tree)
    assert (tree / ".env").read_text() == "SECRET"
    assert (tree / "conf" / "tool").stat().st_mode & 0o777 == 0o750
    assert sorted(path.name for path in tree.rglob("*")) == [".env", "conf", "tool"]


def test_a_copy_replaces_what_is_there_without_writing_through_it(source: Path, tree: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("precious")
    (tree / ".env").symlink_to(canary)
    copy_in((".env",), source, tree)
    assert (tree / ".env").read_text() == "SECRET"
    assert canary.read_text() == "precious"


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "conf/../../x", ".git/config", "", "."])
def test_names_that_lead_out_of_the_repository_are_refused(source: Path, tree: Path, name: str) -> None:
    with pytest.raises(WorkspaceError, match="not a file below the repository"):
        copy_in((name,), source, tree)


def test_links_are_followed_on_neither_side(source: Path, tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (source / "link").symlink_to(outside / "secret")
    (source / "linked").symlink_to(outside)
    for name in ("link", "linked/secret"):
        with pytest.raises(WorkspaceError, match="can't be read, or is a link"):
            copy_in((name,), source, tree)
    (tree / "conf").symlink_to(outside)
    with pytest.raises(WorkspaceError, match="can't be written"):
        copy_in(("conf/tool",), source, tree)
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_what_is_no_file_is_not_copied(source: Path, tree: Path) -> None:
    os.mkfifo(source / "pipe")
    for name in ("pipe", "conf"):
        with pytest.raises(WorkspaceError, match="is no file"):
            copy_in((name,), source, tree)
    (tree / ".env").mkdir()
    with pytest.raises(WorkspaceError, match="can't be written"):
        copy_in((".env",), source, tree)


def test_patterns_name_exactly_these_files() -> None:
    assert patterns((".env", "a b/*.key", "!x")) == "/.env\n/a\\ b/\\*.key\n/\\!x\n"


def test_a_command_gets_a_small_environment_and_the_tree_as_its_directory(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary")
    set_up("env > seen; echo said; echo warned >&2", tree, timeout_s=30, log=tmp_path / "log")
    assert "canary" not in (tree / "seen").read_text()
    assert "PATH=" in (tree / "seen").read_text()
    assert (tmp_path / "log").read_text() == "said\nwarned\n"
    assert run_command("exit 3", tree, timeout_s=30).code == 3


def test_a_command_that_fails_or_hangs_says_so_with_its_end(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"ended with 7: .*the reason") as caught:
        set_up("echo the reason; exit 7", tree, timeout_s=30, log=tmp_path / "log")
    assert str(tmp_path / "log") in caught.value.hint
    with pytest.raises(WorkspaceError, match=r"took more than 0\.2 s: it said nothing"):
        set_up("sleep 100", tree, timeout_s=0.2, log=tmp_path / "log")
