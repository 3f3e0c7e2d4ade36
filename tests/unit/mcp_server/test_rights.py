"""The owner's settings are the upper bound of what may be asked for over MCP."""

from __future__ import annotations

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import Refused
from claude_pool.models.options import TaskOptions
from mcp_server.rights import SCOPES, ceiling_of, check_options, check_scope


def test_bypass_is_refused_even_where_the_owner_allows_and_uses_it() -> None:
    config = PoolConfig(allow_bypass=True, permission_mode="bypassPermissions", permission_ceiling="bypassPermissions")
    with pytest.raises(Refused, match="can't be asked for over MCP"):
        check_options(TaskOptions(permission_mode="bypassPermissions"), config)


@pytest.mark.parametrize(
    ("settings", "ceiling"),
    [
        ({}, "acceptEdits"),
        ({"permission_mode": "plan"}, "plan"),
        ({"permission_mode": "auto"}, "auto"),
        ({"permission_mode": "auto", "permission_ceiling": "plan"}, "plan"),
    ],
)
def test_the_ceiling_is_the_owners_word_else_the_default_mode_else_accept_edits(
    settings: dict[str, str], ceiling: str
) -> None:
    assert ceiling_of(PoolConfig(**settings)) == ceiling


@pytest.mark.parametrize("mode", ["acceptEdits", "auto", "default"])
def test_a_mode_above_the_ceiling_is_refused_and_the_allowed_ones_are_named(mode: str) -> None:
    with pytest.raises(Refused, match="Choose one of plan;"):
        check_options(TaskOptions(permission_mode=mode), PoolConfig(permission_ceiling="plan"))


def test_a_mode_up_to_the_ceiling_is_fine() -> None:
    for mode in ("plan", "dontAsk", "default", "acceptEdits"):
        check_options(TaskOptions(permission_mode=mode), PoolConfig())
    check_options(TaskOptions(), PoolConfig(permission_mode="bypassPermissions", allow_bypass=True))


def test_a_task_gets_no_more_money_than_the_owner_gives() -> None:
    config = PoolConfig(task_budget_usd=2)
    check_options(TaskOptions(max_budget_usd=2), config)
    check_options(TaskOptions(max_budget_usd=1000), PoolConfig())
    with pytest.raises(Refused, match="limit of a task, 2"):
        check_options(TaskOptions(max_budget_usd=2.01), config)


def test_a_token_needs_the_scope_and_the_user_needs_none() -> None:
    for scope in SCOPES:
        check_scope(scope, None)
        check_scope(scope, [scope])
    with pytest.raises(Refused, match="needs the scope admin, and has read, submit"):
        check_scope("admin", ["submit", "read"])
