"""The records of routes refuse what makes no sense."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from claude_pool.models.route import MOST_PARTS, AutoHint, AutoPart, AutoRoute, Routing


@pytest.mark.parametrize(
    "fields",
    [
        {"max_parallel": 0},
        {"max_parallel": MOST_PARTS + 1},
        {"max_chain_steps": 0},
        {"prefer": "both"},
        {"domain": "x" * 2001},
        {"decomposition_hints": ["x"] * 17},
        {"unknown": 1},
    ],
)
def test_a_hint_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AutoHint(**fields)


def test_a_route_has_at_least_one_part_and_a_confidence_between_nothing_and_one() -> None:
    part = AutoPart(name="a", prompt="b")
    with pytest.raises(ValidationError):
        AutoRoute(route="single", parts=())
    with pytest.raises(ValidationError):
        AutoRoute(route="single", parts=(part,), confidence=1.1)


@pytest.mark.parametrize("prompt", ["", "  ", "a\x00b", "\ud800"])
def test_a_prompt_that_no_task_could_have_is_not_routed(prompt: str) -> None:
    with pytest.raises(ValidationError):
        Routing(prompt=prompt)
