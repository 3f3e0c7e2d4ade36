from __future__ import annotations

from pathlib import Path

from claude_pool.config import PoolConfig
from workers.memory import Memory


def test_what_was_seen_last_is_recalled_by_the_next_life_of_the_node(tmp_path: Path) -> None:
    config = PoolConfig(home=tmp_path)
    config.node_dir.mkdir(parents=True)
    assert Memory(config).recall() is None
    Memory(config).keep("epoch@1")
    Memory(config).keep("epoch@23")
    assert Memory(config).recall() == "epoch@23"
    assert [path.name for path in config.node_dir.iterdir()] == ["epoch"]
