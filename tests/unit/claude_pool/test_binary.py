from __future__ import annotations

from pathlib import Path

import pytest

from claude_pool.binary import credentials_hint, find_claude
from claude_pool.config import PoolConfig
from claude_pool.errors import CliError
from claude_pool.testing import fake_claude


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return path


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
    path = program(tmp_path / "claude", "echo 1.0.0\n")
    path.chmod(0o644)
    with pytest.raises(CliError, match="chmod"):
        find_claude(PoolConfig(claude=path))


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
