"""Which claude is chosen, by programs that are asked for their version."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pool.binary import bundled_claude, find_claude
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
