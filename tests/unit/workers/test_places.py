from pathlib import Path

from claude_pool.config import PoolConfig
from workers.places import Place


def test_slots_share_transcripts_and_logs_and_nothing_else(tmp_path: Path) -> None:
    config = PoolConfig(home=tmp_path, node="n1")
    first, second = Place.of(config, 0), Place.of(config, 1)
    assert first.shared == second.shared
    assert not set(first.own) & set(second.own)
    assert all(config.node_dir in path.parents for path in (*first.own, *first.shared))


def test_each_run_has_a_log_of_its_own(tmp_path: Path) -> None:
    place = Place.of(PoolConfig(home=tmp_path, node="n1"), 0)
    assert place.log_path("a") != place.log_path("b")
    assert place.log_path("a").parent == place.logs
