from __future__ import annotations

import ast
from pathlib import Path

import pytest

import claude_pool

DOOR = Path(claude_pool.__file__)
PROMISED = [
    "Pool",
    "PoolConfig",
    "TaskOptions",
    "Task",
    "TaskResult",
    "TaskState",
    "PoolStatus",
    "DrainSummary",
    "PoolError",
    "InvalidRequest",
    "InvalidSettings",
    "NotFound",
    "Unreachable",
    "StoreFull",
    "Refused",
    "BudgetRefused",
    "PoolDrained",
    "KeyReused",
    "Conflict",
    "SlotTaken",
    "StoreReset",
    "Fenced",
    "WorkspaceError",
    "CliError",
    "Shadowed",
]
"""Names that other programs rely on. This list may grow; to take one away is to break somebody."""


def typed_imports() -> dict[str, str]:
    """What a type checker is told: each name and the module it comes from."""
    [block] = [
        node
        for node in ast.parse(DOOR.read_text()).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    return {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_every_promised_name_is_at_the_door() -> None:
    assert set(PROMISED) <= set(claude_pool.__all__)


def test_the_list_of_names_is_sorted_and_has_no_name_twice() -> None:
    assert claude_pool.__all__ == sorted(set(claude_pool.__all__))


@pytest.mark.parametrize("name", claude_pool.__all__)
def test_a_name_at_the_door_opens_and_says_what_it_is(name: str) -> None:
    value = getattr(claude_pool, name)
    assert value is not None
    if name != "__version__":
        assert value.__name__ == name
        assert (value.__doc__ or "").strip()


def test_type_checkers_are_told_the_same_names_from_the_same_places() -> None:
    told = typed_imports()
    assert sorted([*told, "__version__"]) == sorted(claude_pool.__all__)
    assert {name: getattr(claude_pool, name).__module__ for name in told} == told


def test_a_name_that_is_not_there_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'claude_pool' has no attribute 'Pol'"):
        claude_pool.Pol  # noqa: B018 - the access is what is tested


def test_all_names_are_offered_for_completion() -> None:
    assert set(claude_pool.__all__) <= set(dir(claude_pool))
