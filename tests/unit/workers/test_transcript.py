"""Logs, batches and tails never stop a run and never grow without bound."""

from __future__ import annotations

from pathlib import Path

from claude_pool.models.events import LogEntry
from workers.transcript import FLUSH_ENTRIES, KEPT_CHARS, Batch, RawLog, Tail


def entry(text: str) -> LogEntry:
    return LogEntry(run_id="r", kind="text", text=text)


def test_a_log_keeps_bytes_as_they_came_and_appends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.jsonl"
    for data in (b"\xff\x00 one\n", b"two\n"):
        log = RawLog(path, most=100)
        assert log.write(data) == ""
        log.close()
    assert path.read_bytes() == b"\xff\x00 one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_ends_at_its_limit(tmp_path: Path) -> None:
    log = RawLog(tmp_path / "run.jsonl", most=5)
    assert log.write(b"abc") == log.write(b"defg") == log.write(b"h") == ""
    log.close()
    assert (tmp_path / "run.jsonl").read_bytes() == b"abcde"


def test_a_full_disk_is_told_once() -> None:
    log = RawLog(Path("/dev/full"), most=100)
    assert "No space left" in log.write(b"x")
    assert log.write(b"x") == ""


def test_a_log_that_can_not_be_opened_is_told_with_the_first_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = RawLog(tmp_path / "file" / "run.jsonl", most=100)
    assert "run.jsonl" in log.write(b"x")
    assert log.write(b"x") == ""


def test_the_first_line_leaves_at_once_and_the_next_ones_wait_for_each_other() -> None:
    sent: list[list[str]] = []
    batch = Batch(lambda entries: sent.append([entry.text for entry in entries]))
    for text in "abc":
        batch.add([entry(text)])
    assert sent == [["a"]]
    batch.flush_if_due(batch.due_at - 0.001)
    assert sent == [["a"]]
    batch.flush_if_due(batch.due_at)
    assert sent == [["a"], ["b", "c"]]
    assert batch.due_at == float("inf")


def test_many_lines_do_not_wait() -> None:
    sent: list[int] = []
    batch = Batch(lambda entries: sent.append(len(entries)))
    batch.add([entry("first")])
    batch.add([entry("x")] * FLUSH_ENTRIES)
    assert sent == [1, FLUSH_ENTRIES]
    batch.flush()
    assert sent == [1, FLUSH_ENTRIES]


def test_a_tail_is_the_end_however_much_came() -> None:
    tail = Tail()
    for _ in range(100):
        tail.add("é".encode() * 10_000)
    tail.add(b"\xffend")
    assert tail.text() == ("é" * KEPT_CHARS + "\ufffdend")[-KEPT_CHARS:]
