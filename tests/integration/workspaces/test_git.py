from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_pool import git as facade
from claude_pool.errors import WorkspaceError
from claude_pool.git import Git, GitFailed, GitPlace, Output, plain, require_version, user_settings, version


@pytest.fixture
def place(scratch_repo: Path, tmp_path: Path) -> GitPlace:
    void = tmp_path / "void"
    void.mkdir()
    common = scratch_repo / ".git"
    return GitPlace(common, common, void, index=void / "none")


@pytest.fixture
def fake_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A `git` on the PATH that the test writes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "git"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    version()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    yield program
    facade._version.cache_clear()


def test_a_command_gives_its_output_in_every_shape(place: GitPlace) -> None:
    git = Git(place)
    tip = git.text("rev-parse", "HEAD")
    assert len(tip) == 40
    assert git.run("ls-tree", "-z", "--name-only", tip).fields == ["README.md"]
    assert git.run("log", "--format=%s%n%an", tip).lines == ["First", "A Person"]
    assert Output(0, b"", "").lines == []
    assert git.text("hash-object", "--stdin", stdin=b"x" * 300_000) == git.text(
        "hash-object", "--stdin", stdin=b"x" * 300_000
    )


def test_a_command_that_fails_says_why_in_gits_words(place: GitPlace) -> None:
    with pytest.raises(GitFailed, match="no-such") as caught:
        Git(place).run("log", "no-such", "--")
    assert caught.value.status == 128
    assert isinstance(caught.value, WorkspaceError)
    assert Git(place).run("rev-parse", "--verify", "--quiet", "no-such", ok=(0, 1)).status == 1


def test_nothing_of_our_environment_reaches_git(
    place: GitPlace, fake_git: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_git.write_text("#!/bin/sh\nenv\n")
    for name in ("GIT_DIR", "GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "LD_PRELOAD_X", "ANTHROPIC_API_KEY", "EDITOR"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:relative/bin:.")
    seen = dict(line.partition("=")[::2] for line in plain("anything").lines)
    assert "canary" not in seen.values()
    assert seen["GIT_TERMINAL_PROMPT"] == "0"
    assert seen["GIT_CONFIG_GLOBAL"] == "/dev/null"
    assert all(part.startswith("/") for part in seen["PATH"].split(":"))
    assert not {"HOME"} & {name for name in seen if seen[name] == os.environ["HOME"]}


def test_output_above_the_limit_is_cut_or_an_error(
    place: GitPlace, fake_git: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = Git(place)
    fake_git.write_text('#!/bin/sh\nif [ "$3" = show ] || [ "$2" = show ]; then yes; fi\n')
    cut = git.run("show", keep=1000)
    assert (len(cut.out), cut.cut) == (1000, True)
    monkeypatch.setattr(facade, "MOST_OUTPUT", 5000)
    with pytest.raises(GitFailed, match="more than 5,000 bytes"):
        git.run("show")


def test_a_command_that_hangs_is_ended_with_everything_that_it_started(
    place: GitPlace, fake_git: Path, tmp_path: Path
) -> None:
    fake_git.write_text(f'#!/bin/sh\n[ "$2" = show ] || exit 0\nsleep 300 & echo $! > {tmp_path}/pid; wait\n')
    with pytest.raises(GitFailed, match=r"did not finish within 0\.5 s"):
        Git(place).run("show", timeout_s=0.5)
    pid = int((tmp_path / "pid").read_text())
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_keys_that_name_programs_are_overridden_whatever_they_are_called(scratch_repo: Path, place: GitPlace) -> None:
    config = scratch_repo / ".git" / "config"
    with config.open("a") as stream:
        stream.write('[filter "a=b.c\\"d"]\n\tclean = evil\n\trequired = true\n[merge "x"]\n\tdriver = evil\n')
        stream.write('[core]\n\tfsmonitor = evil\n\tsshCommand = evil\n[remote "o"]\n\tuploadpack = evil\n')
    listed = Git(place).run("config", "--list", "-z").fields
    last = dict(entry.partition("\n")[::2] for entry in listed)
    assert last['filter.a=b.c"d.clean'] == ""
    assert last['filter.a=b.c"d.required'] == "false"
    assert last["merge.x.driver"] == "false"
    assert last["core.fsmonitor"] == "false"
    assert last["core.sshcommand"] == "ssh"
    assert last["remote.o.uploadpack"] == "git-upload-pack"


def test_a_change_of_the_configuration_is_seen_by_the_next_call(scratch_repo: Path, place: GitPlace) -> None:
    git = Git(place)
    git.text("rev-parse", "HEAD")
    with (scratch_repo / ".git" / "config").open("a") as stream:
        stream.write('[filter "late"]\n\tclean = evil\n')
    last = dict(entry.partition("\n")[::2] for entry in git.run("config", "--list", "-z").fields)
    assert last["filter.late.clean"] == ""


def test_a_configuration_that_git_can_not_read_is_told(scratch_repo: Path, place: GitPlace) -> None:
    (scratch_repo / ".git" / "config").write_text("[broken")
    with pytest.raises(GitFailed, match="configuration can't be read"):
        Git(place).text("rev-parse", "HEAD")


def test_the_users_own_settings_count_where_they_only_say_how_files_look(place: GitPlace) -> None:
    (Path.home() / ".gitconfig").write_text(
        "[core]\n\tautocrlf = input\n\tfsmonitor = evil\n"
        '[filter "lfs"]\n\tclean = git-lfs clean\n'
        "[alias]\n\tx = !evil\n"
    )
    facade._user_settings.cache_clear()
    assert user_settings()["core.autocrlf"] == "input"
    last = dict(entry.partition("\n")[::2] for entry in Git(place).run("config", "--list", "-z").fields)
    assert last["core.autocrlf"] == "input"
    assert last["core.fsmonitor"] == "false"
    assert "filter.lfs.clean" not in last
    assert "alias.x" not in last
    trusting = GitPlace(place.common_dir, place.git_dir, place.work_tree, index=place.index, filters=("lfs",))
    last = dict(entry.partition("\n")[::2] for entry in Git(trusting).run("config", "--list", "-z").fields)
    assert last["filter.lfs.clean"] == "git-lfs clean"
    facade._user_settings.cache_clear()


def test_a_git_that_is_too_old_is_refused_with_the_version_that_is_wanted(fake_git: Path) -> None:
    fake_git.write_text("#!/bin/sh\necho git version 2.30.2\n")
    facade._version.cache_clear()
    with pytest.raises(WorkspaceError, match=r"git 2\.30 is too old.*2\.38"):
        require_version()


def test_no_transport_is_open_unless_it_was_asked_for(place: GitPlace, scratch_repo: Path) -> None:
    git = Git(place)
    words = ("fetch", "--no-write-fetch-head", "--quiet", "--", str(scratch_repo), "HEAD")
    with pytest.raises(GitFailed, match="not allowed"):
        git.run(*words)
    git.run(*words, transports=("file",))
    with pytest.raises(GitFailed, match="not allowed"):
        git.run("fetch", "--", "ext::touch x", transports=("file", "https"))


def test_git_python_is_used_by_this_file_alone() -> None:
    root = Path(facade.__file__).parents[1]
    users = subprocess.run(
        ["grep", "-rlE", r"^\s*(import git\b|from git[. ])", "--include=*.py", str(root / "claude_pool")],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert [Path(path).name for path in users] == ["git.py"]
