"""Slots over MCP: found, counted, changed within the node's bounds."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pool.pool import Pool

pytestmark = pytest.mark.anyio


async def test_slots_are_found_by_state_and_node(connect: Any, pool: Pool, worker: Any) -> None:
    async with connect() as desk:
        idle = await desk.call("pool_find_slots", state="idle", node="host-a")
        busy = await desk.call("pool_find_slots", state="busy")
        elsewhere = await desk.call("pool_find_slots", node="host-b")
    assert [slot["slot"] for slot in idle["slot_list"]] == ["slot-0@host-a"]
    assert busy["slot_list"] == elsewhere["slot_list"] == []


async def test_slots_are_added_removed_and_set_within_the_bounds(connect: Any, pool: Pool, worker: Any) -> None:
    async with connect() as desk:
        assert await desk.call("pool_scale_up", count=2) == {"slots": 3}
        assert await desk.call("pool_scale_up", count=200) == {"slots": 4}
        assert await desk.call("pool_scale_down") == {"slots": 3}
        assert await desk.call("pool_set_target_slots", target=1, node="host-a") == {"slots": 1}
        assert "node" in await desk.error("pool_scale_up", node="host-b")


async def test_without_a_node_nothing_can_be_scaled_and_it_says_what_to_do(connect: Any, pool: Pool) -> None:
    async with connect() as desk:
        assert "No node is running." in await desk.error("pool_scale_up")


async def test_a_drain_without_nodes_is_done_at_once(connect: Any, pool: Pool) -> None:
    pool.submit("left waiting")
    async with connect() as desk:
        answer = await desk.call("pool_drain", now=True)
    assert (answer["waiting"], answer["slots_left"], answer["timed_out"]) == (1, 0, False)
