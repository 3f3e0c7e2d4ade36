from __future__ import annotations

from pathlib import Path

import pytest

from claude_pool.binary import bundled_claude, credentials_hint, find_claude
from claude_pool.config import PoolConfig
from claude_pool.errors import CliError
from claude_pool.testing import fake_claude


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return path


def version_of(found: str) -> str:
    return f"echo '{found} (Claude Code)'\n"


def test_the_setting_beats_the_path(tmp_path: Path) -> None:
    named = program(tmp_path / "a/claude", version_of("3.0.0"))
    program(tmp_path / "b/claude", version_of("2.0.0"))
    found = find_claude(PoolConfig(claude=named), env={"PATH": str(tmp_path / "b")})
    assert (found.path, found.version, found.origin) == (named, "3.0.0", "setting")


def test_the_path_beats_the_package(tmp_path: Path) -> None:
    fake_claude.install(tmp_path / "bin")
    found = find_claude(PoolConfig(), env={"PATH": str(tmp_path / "bin")})
    assert (found.path, found.version, found.origin) == (tmp_path / "bin/claude", "2.1.330", "path")


def test_without_the_others_the_packages_binary_is_taken(tmp_path: Path) -> None:
    if bundled_claude() is None:
        with pytest.raises(CliError, match="no claude binary"):
            find_claude(PoolConfig(), env={"PATH": str(tmp_path)})
        return
    found = find_claude(PoolConfig(), env={"PATH": str(tmp_path)})
    assert (found.path, found.origin) == (bundled_claude(), "package")


def test_without_any_binary_the_error_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(CliError, match=r"There is no claude binary.*npm install"):
        find_claude(PoolConfig(), env={"PATH": str(tmp_path)})


def test_a_named_binary_that_does_not_exist_is_an_error_and_nothing_else_is_tried(tmp_path: Path) -> None:
    fake_claude.install(tmp_path)
    with pytest.raises(CliError, match="does not exist"):
        find_claude(PoolConfig(claude=tmp_path / "nothing"), env={"PATH": str(tmp_path)})


def test_a_folder_is_no_binary(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="does not exist"):
        find_claude(PoolConfig(claude=tmp_path))


def test_a_file_that_is_not_executable_says_how_to_make_it_so(tmp_path: Path) -> None:
    path = program(tmp_path / "claude", version_of("1.0.0"))
    path.chmod(0o644)
    with pytest.raises(CliError, match="chmod"):
        find_claude(PoolConfig(claude=path))


@pytest.mark.parametrize("script", ["echo hello\n", "exit 3\n", "kill -9 $$\n", "true\n"])
def test_a_program_that_is_not_the_cli_is_refused(tmp_path: Path, script: str) -> None:
    with pytest.raises(CliError, match="is not the claude CLI"):
        find_claude(PoolConfig(claude=program(tmp_path / "claude", script)))


def test_a_file_that_the_kernel_refuses_to_run_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "claude"
    path.write_bytes(b"\x00\x01 no program")
    path.chmod(0o755)
    with pytest.raises(CliError, match="can't be started"):
        find_claude(PoolConfig(claude=path))


def test_the_version_is_asked_once_until_the_file_changes(tmp_path: Path) -> None:
    counter = tmp_path / "calls"
    path = program(tmp_path / "claude", f"echo x >> {counter}\n" + version_of("1.0.0"))
    config = PoolConfig(claude=path)
    assert [find_claude(config).version for _ in range(3)] == ["1.0.0"] * 3
    assert counter.read_text() == "x\n"
    program(path, f"echo x >> {counter}\n" + version_of("1.0.10"))
    assert find_claude(config).version == "1.0.10"


@pytest.mark.parametrize(
    ("env", "hint"),
    [
        ({}, None),
        ({"ANTHROPIC_API_KEY": ""}, None),
        ({"ANTHROPIC_API_KEY": "hush"}, "ANTHROPIC_API_KEY"),
        ({"ANTHROPIC_AUTH_TOKEN": "hush"}, "ANTHROPIC_AUTH_TOKEN"),
        ({"CLAUDE_CODE_OAUTH_TOKEN": "hush"}, "CLAUDE_CODE_OAUTH_TOKEN"),
        ({"CLAUDE_CODE_USE_BEDROCK": "1"}, "CLAUDE_CODE_USE_BEDROCK"),
        ({"CLAUDE_CODE_USE_VERTEX": "0"}, None),
    ],
)
def test_credentials_are_hinted_at_by_name(tmp_path: Path, env: dict[str, str], hint: str | None) -> None:
    assert credentials_hint(env, tmp_path) == hint


def test_a_stored_sign_in_is_seen_and_not_read(tmp_path: Path) -> None:
    stored = tmp_path / "config" / ".credentials.json"
    stored.parent.mkdir()
    stored.write_text("hush")
    stored.chmod(0)
    assert credentials_hint({"CLAUDE_CONFIG_DIR": str(stored.parent)}, tmp_path) == str(stored)
    assert credentials_hint({}, tmp_path) is None
