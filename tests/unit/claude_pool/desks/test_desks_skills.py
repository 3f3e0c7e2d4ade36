"""Skills at the counter: a task's prompt, and a chain's step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from claude_pool.desks.skills import SkillDesk
from claude_pool.errors import InvalidRequest
from claude_pool.pool import Pool


def test_the_pool_is_a_counter_for_skills_too() -> None:
    assert issubclass(Pool, SkillDesk)


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    return SimpleNamespace(config=SimpleNamespace(repo=tmp_path, home=tmp_path / "home"))


def test_skills_are_looked_for_in_the_pools_repository(desk: Any, tmp_path: Path) -> None:
    path = tmp_path / ".claude-pool" / "skills" / "mine" / "SKILL.md"
    path.parent.mkdir(parents=True)
    path.write_text("---\ndescription: d\n---\nMine: $ARGUMENTS")
    assert {"mine", "audit"} <= {one.name for one in SkillDesk.skills(desk)}
    assert SkillDesk.skill(desk, "mine", "x") == "Mine: x"
    with pytest.raises(InvalidRequest):
        SkillDesk.skill(desk, "audit")
