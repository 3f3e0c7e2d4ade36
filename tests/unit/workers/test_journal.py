import os
from pathlib import Path

import pytest

from claude_pool.errors import Unreachable
from claude_pool.models.task import Task, TaskState
from claude_pool.models.verdict import Verdict
from workers.journal import Entry, Journal


def entry(run_id: str) -> Entry:
    return Entry(task_id="t-0123456789", run_id=run_id, verdict=Verdict(to=TaskState.COMPLETED, cost_usd=0.25))


def test_what_was_written_is_delivered_with_its_verdict_and_then_gone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.write(entry("run-1"), durable=True)
    told: list[tuple[str, str, Verdict]] = []

    def finish(task_id: str, run_id: str, verdict: Verdict) -> Task | None:
        told.append((task_id, run_id, verdict))
        return None

    assert Journal(tmp_path / "journal").deliver(finish) == 1
    assert told == [("t-0123456789", "run-1", entry("run-1").verdict)]
    assert journal.deliver(finish) == 0


def test_a_store_that_is_away_keeps_the_rest_in_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(entry("run-1"))
    journal.write(entry("run-2"))
    told: list[str] = []

    def finish(task_id: str, run_id: str, verdict: Verdict) -> Task | None:
        if told:
            raise Unreachable
        told.append(run_id)
        return None

    with pytest.raises(Unreachable):
        journal.deliver(finish)
    assert len(list(journal.entries())) == 1


@pytest.mark.parametrize("damage", [b"", b"{", b'{"task_id": 3}', b"\x00" * 100])
def test_a_damaged_entry_is_set_aside_and_does_not_stop_the_others(tmp_path: Path, damage: bytes) -> None:
    journal = Journal(tmp_path)
    (tmp_path / "run-0.json").write_bytes(damage)
    journal.write(entry("run-1"))
    assert [item.run_id for item in journal.entries()] == ["run-1"]
    assert (tmp_path / "run-0.bad").read_bytes() == damage


def test_removing_what_is_not_there_is_harmless(tmp_path: Path) -> None:
    Journal(tmp_path).remove("run-9")


def test_a_half_written_entry_is_never_seen(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    (tmp_path / "abc.tmp").write_text('{"task')
    assert list(journal.entries()) == []


def test_entries_that_their_own_slot_removes_meanwhile_are_passed_over(tmp_path: Path) -> None:
    """A supervisor delivers a dead slot's results while the others go on finishing theirs: it must not fall over."""
    journal = Journal(tmp_path)
    for number in range(4):
        journal.write(entry(f"run-{number}"))
    told: list[str] = []

    def finish(task_id: str, run_id: str, verdict: Verdict) -> Task | None:
        told.append(run_id)
        for path in tmp_path.glob("*.json"):  # everybody else is done now
            path.unlink()
        return None

    assert journal.deliver(finish) == 1
    assert len(told) == 1


def test_an_entry_that_vanishes_before_it_is_dated_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.write(entry("run-1"))
    gone = tmp_path / "run-0.json"
    monkeypatch.setattr(Path, "glob", lambda *_: iter([gone, tmp_path / "run-1.json"]))
    assert [item.run_id for item in journal.entries()] == ["run-1"]
    assert not gone.with_suffix(".bad").exists()


def test_what_a_killed_writer_left_half_written_is_removed_after_a_while(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    old, new = tmp_path / "old.tmp", tmp_path / "new.tmp"
    old.write_text("{")
    new.write_text("{")
    os.utime(old, (1, 1))
    assert journal.deliver(lambda *_: None) == 0
    assert (old.exists(), new.exists()) == (False, True)
