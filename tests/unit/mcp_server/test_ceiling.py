"""No door through MCP leads above the owner's ceiling: every tool that takes options of a task is tried."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pool.models.options import TaskOptions
from claude_pool.pool import Pool
from mcp_server.counter import Counter
from mcp_server.tools.catalogue import CATALOGUE

pytestmark = pytest.mark.anyio

STEP = {"name": "a", "prompt": "b"}
LEAST = {"prompt": "x", "prompts": ["x"], "steps": [STEP], "chains": [[STEP]]}
HANDS_IN = [one for one in CATALOGUE if issubclass(one.arguments, TaskOptions)]
TOO_MUCH = {
    "mode": {"permission_mode": "bypassPermissions"},
    "ceiling": {"permission_mode": "auto"},
    "money": {"max_budget_usd": 50},
}


def least(tool: Any) -> dict[str, Any]:
    return {name: LEAST[name] for name in LEAST if name in tool.arguments.model_fields}


@pytest.mark.parametrize("what", TOO_MUCH)
@pytest.mark.parametrize("tool", HANDS_IN, ids=lambda one: one.name)
async def test_no_tool_hands_in_what_the_owner_does_not_allow(
    connect: Any, counter: Counter, make_pool: Any, tool: Any, what: str
) -> None:
    pool: Pool = make_pool(task_budget_usd=1.0)
    counter._pool, counter.config = pool, pool.config
    async with connect() as desk:
        assert "refused: " in await desk.error(tool.name, **least(tool), **TOO_MUCH[what])
    assert pool.list().tasks == ()
    assert pool.chains() == []


def test_the_tools_that_hand_in_are_all_among_those_tried() -> None:
    adding = {one.name for one in CATALOGUE if one.effect == "adds"}
    assert {one.name for one in HANDS_IN} >= adding - {"pool_route"}


def test_no_tool_has_an_argument_that_changes_the_pools_money_or_its_ceiling() -> None:
    forbidden = {"permission_ceiling", "task_budget_usd", "review_approvers", "limit_usd"}
    for tool in CATALOGUE:
        assert not forbidden & tool.arguments.model_fields.keys(), tool.name
