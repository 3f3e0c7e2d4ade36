"""What all tools share: a fault of ours is told without its inside, and an unreachable pool in words."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from claude_pool.errors import Unreachable
from claude_pool.pool import Pool
from mcp_server.tools.tool import PoolTool, make_tool
from mcp_server.tools.wait import DEFINITIONS

pytestmark = pytest.mark.anyio


async def test_a_fault_of_ours_keeps_its_inside_in_the_log(
    connect: Any, pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks() -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(pool, "status", breaks)
    with caplog.at_level(logging.ERROR):
        async with connect() as desk:
            said = await desk.error("pool_status")
    assert "internal_error: pool_status failed by a fault of claude-pool itself (RuntimeError)" in said
    assert "secret" not in said
    assert "secret inside" in caplog.text


async def test_a_pool_that_does_not_answer_is_told_also_while_looking_for_ids(
    connect: Any, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(**_which: Any) -> None:
        raise Unreachable

    monkeypatch.setattr(pool, "list", gone)
    async with connect() as desk:
        assert "unreachable: The pool's Redis can't be reached." in await desk.error("pool_list_tasks")
        assert "not_found: There is no task" in await desk.error("pool_result", task_id="t-0000000000")


async def test_an_unknown_chain_is_answered_with_the_chains_there_are(connect: Any, pool: Pool) -> None:
    async with connect() as desk:
        assert "This pool has no chains and fan-outs yet." in await desk.error("pool_wait", ids=["c-0000000000"])
        fan = pool.fan_out(["a", "b"])
        said = await desk.error("pool_wait", ids=["c-0000000000"])
    assert f"The latest chains and fan-outs are {fan.fan_out_id}." in said


def test_a_definition_becomes_a_tool_with_its_hints() -> None:
    tool = make_tool(DEFINITIONS[0])
    assert isinstance(tool, PoolTool)
    assert tool.meta == {"anthropic/alwaysLoad": True}
    assert tool.annotations is not None
    assert tool.annotations.read_only_hint is True
    assert tool.output_schema is not None
    assert tool.output_schema["required"] == ["finished", "running", "cursor", "timed_out"]
