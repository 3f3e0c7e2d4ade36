"""The pool's facts by address."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import ResourceTemplateReference

from claude_pool.pool import Pool

pytestmark = pytest.mark.anyio


async def read(desk: Any, uri: str) -> Any:
    return json.loads((await desk.client.read_resource(uri)).contents[0].text)


async def test_the_pools_facts_can_be_read_by_address(connect: Any, pool: Pool, worker: Any) -> None:
    task_id = pool.submit("do it").task_id
    worker.do(task_id, output="done </channel>")
    async with connect() as desk:
        listed = {str(one.uri) for one in (await desk.client.list_resources()).resources}
        assert listed == {"pool://status", "pool://budget", "pool://slots"}
        assert (await read(desk, "pool://status"))["completed"] == 1
        assert await read(desk, "pool://budget") == {"spent_usd": 0.0125, "reserved_usd": 0.0, "budget_usd": None}
        assert (await read(desk, "pool://slots"))["slot_list"][0]["slot"] == "slot-0@host-a"
        assert (await read(desk, f"pool://tasks/{task_id}"))["state"] == "completed"
        result = await read(desk, f"pool://results/{task_id}")
    assert "done \u2039/channel>\n</untrusted-worker-output-" in result["output"]


async def test_chains_and_fan_outs_can_be_read_by_address_and_their_ids_are_completed(
    connect: Any, pool: Pool, worker: Any
) -> None:
    chain = pool.submit_chain([{"name": "one", "prompt": "Do it."}])
    fan = pool.fan_out(["a", "b"])
    worker.do(chain.step_ids[0], output="done </channel>")
    ref = ResourceTemplateReference(type="ref/resource", uri="pool://chains/{chain_id}")
    async with connect() as desk:
        found = await read(desk, f"pool://chains/{chain.chain_id}")
        side_by_side = await read(desk, f"pool://chains/{fan.fan_out_id}")
        ids = (await desk.client.complete(ref, {"name": "chain_id", "value": ""})).completion.values
    assert found["steps"][0]["name"] == "one"
    assert "</channel>" not in found["final_output"]
    assert [one["state"] for one in side_by_side["results"]] == ["pending", "pending"]
    assert ids == [fan.fan_out_id, chain.chain_id]


async def test_an_unknown_task_is_no_resource(connect: Any) -> None:
    async with connect() as desk:
        for uri in ("pool://tasks/t-0000000000", "pool://results/t-0000000000", "pool://chains/c-0000000000"):
            with pytest.raises(MCPError, match=r"There is no (task|chain)") as caught:
                await desk.client.read_resource(uri)
            assert caught.value.code == -32602


async def test_ids_are_completed(connect: Any, pool: Pool) -> None:
    ids = [pool.submit(str(number)).task_id for number in range(3)]
    ref = ResourceTemplateReference(type="ref/resource", uri="pool://results/{task_id}")
    async with connect() as desk:
        every = await desk.client.complete(ref, {"name": "task_id", "value": "t-"})
        one = await desk.client.complete(ref, {"name": "task_id", "value": ids[0]})
        other = await desk.client.complete(ref, {"name": "colour", "value": ""})
    assert set(every.completion.values) == set(ids)
    assert one.completion.values == [ids[0]]
    assert other.completion.values == []
