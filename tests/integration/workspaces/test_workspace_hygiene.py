from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from claude_pool.workspace.ground import Ground, locate
from claude_pool.workspace.hygiene import Entry, Guarded, alarming, keys_in, picture
from claude_pool.workspace.locks import hold


@pytest.fixture
def ground(project: Any, home: Path) -> Ground:
    return locate(project.path, states=home / "repos")


def test_a_picture_holds_every_file_and_link_by_which_something_could_be_run(project: Any, ground: Ground) -> None:
    hooks = project.path / ".git" / "hooks"
    (hooks / "deep").mkdir()
    (hooks / "deep" / "tool").write_text("tool")
    (hooks / "link").symlink_to("deep/tool")
    found = picture(ground.common)
    assert {"config", "info/exclude", "hooks", "hooks/deep/tool", "hooks/link"} <= set(found)
    assert found["hooks/link"] == Entry("link", 0, b"deep/tool")
    assert found["hooks/deep/tool"].data == b"tool"
    assert picture(ground.common) == found


def test_a_run_that_died_is_checked_before_a_new_original_is_taken(project: Any, ground: Ground) -> None:
    guarded = Guarded(ground)
    assert guarded.enter("dead") == []
    project.write(".git/hooks/pre-commit", "planted")
    warnings = guarded.enter("next")
    assert warnings[0] == "hooks/pre-commit of the repository was added during the run; undone."
    assert not (project.path / ".git" / "hooks" / "pre-commit").exists()
    [kept] = (ground.state / "quarantine").iterdir()
    assert kept.read_text() == "planted"
    assert guarded.leave("next") == []


def test_what_is_found_while_others_run_is_told_to_them(project: Any, ground: Ground) -> None:
    guarded = Guarded(ground)
    guarded.enter("one")
    with hold(guarded.lock_path("one"), wait_s=0):
        project.write(".git/hooks/pre-commit", "planted")
        assert guarded.enter("two") == []
        assert "hooks/pre-commit" in guarded.check("one")[0]
        assert guarded.check("one") == []
        assert guarded.leave("two") == []


def test_modes_and_removals_are_changes_too(project: Any, ground: Ground) -> None:
    hook = project.write(".git/hooks/pre-push", "#!/bin/sh\n")
    hook.chmod(0o755)
    guarded = Guarded(ground)
    guarded.enter("one")
    hook.chmod(0o644)
    assert "was changed" in guarded.check("one")[0]
    assert hook.stat().st_mode & 0o777 == 0o755
    hook.unlink()
    assert "was removed" in guarded.check("one")[0]
    assert hook.read_text() == "#!/bin/sh\n"


def test_keys_that_only_say_where_a_branch_belongs_are_no_alarm() -> None:
    was = {"core.bare": ["false"], "branch.main.merge": ["refs/heads/main"]}
    assert alarming(was, {**was, "branch.main.merge": ["refs/heads/x"], "remote.origin.gh-resolved": ["base"]}) == []
    assert alarming(was, {**was, "core.fsmonitor": ["x"], "branch.main.merge": []}) == ["core.fsmonitor"]
    assert alarming(was, {"branch.main.merge": ["refs/heads/main"]}) == ["core.bare"]
    assert alarming(was, None) == ["config"]


def test_keys_are_read_from_one_file_alone(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("[core]\n\tfsmonitor = evil\n")
    (tmp_path / "config").write_text(f"[include]\n\tpath = {tmp_path}/other\n[a]\n\tb = 1\n\tb = two\\nlines\n")
    assert keys_in(tmp_path / "config") == {"include.path": [f"{tmp_path}/other"], "a.b": ["1", "two\nlines"]}
    (tmp_path / "config").write_text("[broken")
    assert keys_in(tmp_path / "config") is None
    assert keys_in(tmp_path / "missing") is None


def test_a_folder_that_became_something_else_comes_back_with_all_that_was_in_it(project: Any, ground: Ground) -> None:
    hooks = project.path / ".git" / "hooks"
    names = sorted(path.name for path in hooks.iterdir())
    guarded = Guarded(ground)
    guarded.enter("one")
    hooks.rename(hooks.with_name("moved"))
    os.mkfifo(hooks)
    assert "hooks of the repository was changed" in guarded.check("one")[0]
    assert sorted(path.name for path in hooks.iterdir()) == names
