from __future__ import annotations

import pytest
from redis import exceptions as redis_errors

from claude_pool.config import PoolConfig
from claude_pool.errors import InvalidSettings, PoolError, StoreFull, Unreachable
from claude_pool.store import open_store
from claude_pool.store.client import address_of, connect, fake_client, translate


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", "redis://localhost:6379"),
        ("redis://user:secret@redis.test:6380/2", "redis://redis.test:6380/2"),
        ("rediss://:secret@redis.test/0?ssl_cert_reqs=none", "rediss://redis.test:6379/0"),
        ("unix:///run/a%20b/redis.sock?db=1&password=secret", "unix:///run/a b/redis.sock"),
        ("unix://user:secret@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_an_address_never_shows_who_signs_in(url: str, address: str) -> None:
    assert address_of(url) == address


@pytest.mark.parametrize("url", ["redis://localhost:port", "redis://localhost:99999", "redis://[::1"])
def test_what_is_no_address_is_an_invalid_setting(url: str) -> None:
    with pytest.raises(InvalidSettings, match="redis_url"):
        connect(url, pool="p")


@pytest.mark.parametrize("url", ["redis://localhost?socket_timeout=soon", "redis://localhost?nonsense=1"])
def test_an_option_that_the_library_refuses_is_an_invalid_setting(url: str) -> None:
    with pytest.raises(InvalidSettings, match="redis_url redis://localhost:6379"):
        connect(url, pool="p").call("status", "")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "rediss://127.0.0.1:1", "unix:///nowhere/s"])
def test_opening_sends_nothing_and_the_first_call_finds_nobody(url: str) -> None:
    store = open_store(url, PoolConfig(name="p"))
    with pytest.raises(Unreachable, match="can't be reached"):
        store.pool.status()
    store.close()


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (redis_errors.ConnectionError("refused"), Unreachable),
        (redis_errors.TimeoutError("slow"), Unreachable),
        (redis_errors.BusyLoadingError("loading"), Unreachable),
        (redis_errors.AuthenticationError("WRONGPASS"), Unreachable),
        (redis_errors.NoPermissionError("NOPERM"), Unreachable),
        (redis_errors.OutOfMemoryError("command not allowed"), StoreFull),
        (redis_errors.ReadOnlyError("replica"), StoreFull),
        (redis_errors.ResponseError("MISCONF Redis is configured to save"), StoreFull),
        (redis_errors.ResponseError("Error running script: -OOM command not allowed"), StoreFull),
        (redis_errors.ResponseError("a room of one's own"), PoolError),
    ],
)
def test_each_error_of_the_library_is_one_of_ours(error: redis_errors.RedisError, ours: type[PoolError]) -> None:
    assert type(translate(error, "redis://x:1")) is ours
    assert "redis://x:1" in str(translate(error, "redis://x:1"))


def test_a_server_in_this_process_says_nothing_about_itself() -> None:
    assert fake_client(pool="p").facts() is None
