"""How far a task shares processes; what the slot keeps is in tests/integration/test_node_warm.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.options import TaskOptions
from workers import warm
from workers.warm import memory_is_short, warmth


@pytest.mark.parametrize(
    ("pool", "asked", "given"),
    [
        ("off", None, "off"),
        ("off", "reuse", "off"),
        ("spare", None, "spare"),
        ("spare", "reuse", "spare"),
        ("spare", "off", "off"),
        ("reuse", None, "reuse"),
        ("reuse", "spare", "spare"),
    ],
)
def test_a_task_may_ask_for_less_than_the_pool_shares_and_never_gets_more(pool: str, asked: str, given: str) -> None:
    config = PoolConfig.model_validate({"warm": pool})
    assert warmth(config, TaskOptions.model_validate({"warm": asked})) == given


def test_a_task_that_may_do_anything_shares_its_process_with_no_other() -> None:
    options = TaskOptions(permission_mode="bypassPermissions")
    assert warmth(PoolConfig(warm="reuse"), options) == "spare"
    assert warmth(PoolConfig(warm="off"), options) == "off"


def test_where_memory_is_short_nothing_is_started_ahead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not memory_is_short() or warm.MEMORY.exists()
    (tmp_path / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable:  500000 kB\n")
    monkeypatch.setattr(warm, "MEMORY", tmp_path / "meminfo")
    assert memory_is_short()
    (tmp_path / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable: 5000000 kB\n")
    assert not memory_is_short()
    (tmp_path / "meminfo").unlink()
    assert not memory_is_short()
