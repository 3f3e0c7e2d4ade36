"""The private Redis, as far as it can be seen without one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from claude_pool import embedded, embedded_keeper
from claude_pool.config import PoolConfig
from claude_pool.embedded import Place, connection, private_folder, running, stop
from claude_pool.errors import Unreachable


def place(home: str) -> Place:
    return Place.of(PoolConfig(home=Path(home)))


def test_a_short_home_keeps_the_socket_beside_the_data() -> None:
    assert place("/h").socket == Path("/h/default/redis/redis.sock")
    assert place("/h").url == "unix:///h/default/redis/redis.sock"


def test_a_long_home_puts_the_socket_below_tmp_each_into_a_folder_of_its_own() -> None:
    one, other = place("/h" * 80), place("/i" * 80)
    assert one.socket.parents[1] == Path(f"/tmp/claude-pool-{os.geteuid()}")
    assert one.socket != other.socket
    assert one == place("/h" * 80)


@pytest.mark.parametrize("runtime", [None, "/run/user/1"])
def test_the_place_of_a_pool_does_not_depend_on_the_environment(
    monkeypatch: pytest.MonkeyPatch, runtime: str | None
) -> None:
    expected = place("/h" * 80)
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    assert place("/h" * 80) == expected


def test_a_url_says_odd_characters_so_that_they_come_through() -> None:
    assert place("/a b?#%/ö").url == "unix:///a%20b%3F%23%25/%C3%B6/default/redis/redis.sock"


def test_a_configured_url_is_passed_on_untouched(tmp_path: Path) -> None:
    config = PoolConfig(home=tmp_path / "home", redis_url="redis://h:1/2")
    with connection(config) as url:
        assert url == "redis://h:1/2"
    assert not config.home.exists()


def test_looking_at_a_pool_that_never_ran_leaves_nothing_behind(tmp_path: Path) -> None:
    config = PoolConfig(home=tmp_path / "home")
    assert running(config) is None
    assert stop(config) is False
    assert not config.home.exists()


def test_a_private_folder_is_made_private_and_stays_so(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_link_is_no_private_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(Unreachable, match="is a link"):
        private_folder(tmp_path / "link")


def test_the_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(Unreachable, match=f"belongs to user {owner}"):
        private_folder(tmp_path)


def test_a_lock_that_is_not_given_back_ends_in_a_clear_error(tmp_path: Path) -> None:
    """A keeper that hangs while it leaves."""
    config = PoolConfig(home=tmp_path)
    folder = Place.of(config).folder
    folder.mkdir(parents=True)
    other = os.open(folder / embedded_keeper.USERS_LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(Unreachable, match="is being shut down, which does not end"):
        embedded.acquire(config, wait_s=0.05)
    os.close(other)


@pytest.mark.parametrize("text", [None, "", "not json", "[1]"])
def test_a_record_that_cannot_be_read_counts_as_none(tmp_path: Path, text: str | None) -> None:
    here = Place(tmp_path, tmp_path / "redis.sock")
    if text is not None:
        (tmp_path / "server.json").write_text(text)
    assert here.record() == {}


def test_the_end_of_a_log_is_a_few_lines_of_whatever_is_in_it(tmp_path: Path) -> None:
    here = Place(tmp_path, tmp_path / "redis.sock")
    assert here.log_tail() == ""
    (tmp_path / embedded_keeper.LOG).write_bytes(
        b"x" * 10_000 + b"\n\xff\n\n" + b"\n".join(b"%d" % n for n in range(9))
    )
    assert here.log_tail() == "4\n5\n6\n7\n8"
