from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from claude_pool.errors import WorkspaceBusy, WorkspaceError
from claude_pool.workspace.locks import hold, is_held, take


def test_one_holder_at_a_time_and_the_next_when_it_is_given_back(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / "x.lock"
    assert not is_held(lock)
    with hold(lock, wait_s=0, note="first"):
        assert is_held(lock)
        with pytest.raises(WorkspaceBusy, match=rf"process {os.getpid()} \(first\)"), hold(lock, wait_s=0):
            pass
    assert not is_held(lock)
    with hold(lock, wait_s=0):
        assert is_held(lock)


def test_readers_share_and_keep_a_writer_out(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    readers = [take(lock, wait_s=0, shared=True) for _ in range(2)]
    for reader in readers:
        with pytest.raises(WorkspaceBusy):
            take(lock, wait_s=0)
        os.close(reader)
    with hold(lock, wait_s=0), pytest.raises(WorkspaceBusy), hold(lock, wait_s=0, shared=True):
        pass


def test_a_waiter_gets_the_lock_as_soon_as_it_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    descriptor = take(lock, wait_s=0)
    threading.Timer(0.1, os.close, (descriptor,)).start()
    with hold(lock, wait_s=30):
        assert is_held(lock)


def test_a_lock_goes_with_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    if (pid := os.fork()) == 0:
        take(lock, wait_s=0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert lock.exists()
    with hold(lock, wait_s=0):
        pass


def test_a_lock_file_that_was_deleted_meanwhile_is_no_lock(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with hold(lock, wait_s=0):
        lock.unlink()
        with hold(lock, wait_s=0):
            assert is_held(lock)


def test_a_lock_that_is_a_link_or_a_folder_is_not_opened(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("precious")
    (tmp_path / "link.lock").symlink_to(canary)
    (tmp_path / "folder.lock").mkdir()
    for name in ("link.lock", "folder.lock"):
        with pytest.raises(WorkspaceError, match="can't be opened"):
            take(tmp_path / name, wait_s=0)
    assert canary.read_text() == "precious"


def test_what_others_wrote_into_a_lock_is_not_believed(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    for rubbish in (b"rubbish", b"[1]", b'{"pid": "x"}', b"\xff"):
        descriptor = take(lock, wait_s=0)
        lock.write_bytes(rubbish)
        with pytest.raises(WorkspaceBusy, match="another process"):
            take(lock, wait_s=0)
        os.close(descriptor)
