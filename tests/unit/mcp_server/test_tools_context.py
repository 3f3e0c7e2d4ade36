"""Shared context over MCP."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pool.pool import Pool

pytestmark = pytest.mark.anyio


async def test_context_is_set_got_listed_and_deleted(connect: Any, pool: Pool) -> None:
    async with connect() as desk:
        told = await desk.call("context_set", key="style", value="Tabs.")
        assert (told["key"], told["bytes"], "value" in told) == ("style", 5, False)
        await desk.call("context_set", key="style", value="Spaces.")
        await desk.call("context_set", key="api", value="REST.", namespace="backend")
        got = await desk.call("context_get", key="style", history=True)
        assert (got["value"], [one["value"] for one in got["history"]]) == ("Spaces.", ["Tabs."])
        listed = await desk.call("context_list")
        assert [(one["key"], one["namespace"]) for one in listed["entries"]] == [("style", ""), ("api", "backend")]
        assert [one["key"] for one in (await desk.call("context_list", namespace="backend"))["entries"]] == ["api"]
        assert await desk.call("context_delete", key="style") == {"key": "style", "deleted": True}
        assert "not_found" in await desk.error("context_get", key="style")


async def test_a_context_of_1_mb_is_refused_over_mcp(connect: Any, pool: Pool) -> None:
    async with connect() as desk:
        assert "at most 65,536" in await desk.error("context_set", key="a", value="x" * (1 << 20))
    assert pool.context_list() == []
