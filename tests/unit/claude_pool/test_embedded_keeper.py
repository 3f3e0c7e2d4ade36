"""The keeper's parts that need no redis-server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_pool import embedded_keeper as keeper


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nobody_holds_a_lock_that_does_not_exist_or_is_free(folder: Path) -> None:
    assert keeper.holder(str(folder / "none")) is None
    (folder / "free").touch()
    assert keeper.holder(str(folder / "free")) is None


def test_a_lock_file_left_by_the_dead_counts_for_nothing(folder: Path) -> None:
    (folder / "lock").write_text(str(os.getpid()))
    assert keeper.holder(str(folder / "lock")) is None


def test_a_leftover_that_cannot_be_ended_is_given_as_the_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "GRACE_S", 0.02)
    monkeypatch.setattr(keeper, "_holder", lambda _descriptor: 0)  # a process of another container
    with pytest.raises(SystemExit, match="in another container"):
        keeper.end_leftover(0)
    assert "in another container" in (folder / keeper.FAILED).read_text()


def test_pauses_between_starts_grow_to_a_limit() -> None:
    pauses = [keeper.back_off_s(deaths) for deaths in range(1, 12)]
    assert pauses[0] <= 0.1
    assert pauses == sorted(pauses)
    assert max(pauses) == keeper.back_off_s(10_000) == 5.0


@pytest.mark.parametrize(("status", "text"), [(0, "exit code 0"), (1 << 8, "exit code 1"), (9, "signal 9")])
def test_an_end_is_described_in_words(status: int, text: str) -> None:
    assert text in keeper.describe(status)


def test_a_reason_is_replaced_whole(folder: Path) -> None:
    keeper.write_reason("first")
    keeper.write_reason("second")
    assert [path.name for path in folder.iterdir()] == [keeper.FAILED]
    assert (folder / keeper.FAILED).read_text() == "second"


def test_a_log_that_has_grown_is_begun_anew_and_one_older_one_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_LOG_BYTES", 10)
    for text in (b"short", b" and longer", b"new"):
        log = keeper.open_log()
        os.write(log, text)
        os.close(log)
    assert (folder / keeper.LOG).read_text() == "new"
    assert (folder / f"{keeper.LOG}.1").read_text() == "short and longer"


def test_a_folder_of_sockets_goes_when_it_is_empty_and_the_data_folder_never(folder: Path) -> None:
    mine, shared = folder / "shared" / "mine", folder / "shared"
    (shared / "other").mkdir(parents=True)
    mine.mkdir()
    keeper.remove_socket_folder(str(mine / "redis.sock"))
    assert not mine.exists()
    assert shared.exists()
    keeper.remove_socket_folder(str(shared / "other" / "redis.sock"))
    assert not shared.exists()
    keeper.remove_socket_folder(str(folder / "redis.sock"))
    assert folder.exists()
