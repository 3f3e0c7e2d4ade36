"""What a server says about itself."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp import Client

from claude_pool import __version__
from mcp_server.counter import Counter
from mcp_server.server import INSTRUCTIONS, build
from mcp_server.tools.catalogue import toolset

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_it_names_itself_its_version_and_how_to_use_it(counter: Counter, mode: str) -> None:
    async with Client(build(counter), mode=mode) as client:
        assert client.server_info.name == "claude-pool"
        assert client.server_info.version == __version__
        assert client.instructions == INSTRUCTIONS


def test_the_instructions_are_short_enough_to_be_in_every_context() -> None:
    assert len(INSTRUCTIONS) <= 600
    assert "Never poll" in INSTRUCTIONS


async def test_closing_is_told_after_the_counter_was_closed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    closed = anyio.Event()

    async def close() -> None:
        order.append("closed" if not closed.is_set() else "too late")

    monkeypatch.setattr(counter, "close", close)
    async with Client(build(counter, closed=closed)):
        assert order == []
    assert order == ["closed"]
    assert closed.is_set()


async def test_a_small_toolset_offers_the_core_tools_and_no_other_can_be_called(counter: Counter) -> None:
    async with Client(build(counter, tools="core")) as client:
        offered = {tool.name for tool in (await client.list_tools()).tools}
        assert offered == {one.name for one in toolset("core")}
        assert (await client.call_tool("pool_cancel", {"task_id": "t-0000000000"})).is_error


async def test_a_tool_that_nobody_made_is_named(connect: Any) -> None:
    async with connect() as desk:
        assert "pool_fly" in await desk.error("pool_fly")
