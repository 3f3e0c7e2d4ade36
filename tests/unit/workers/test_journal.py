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
