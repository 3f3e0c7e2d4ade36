import os
import time
from pathlib import Path

from claude_pool.config import PoolConfig
from workers.retention import clear_old


def make(path: Path, *, age_days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    then = time.time() - age_days * 86_400
    os.utime(path, (then, then))
    return path


def test_what_is_past_its_time_goes_and_what_is_not_stays(tmp_path: Path) -> None:
    config = PoolConfig(home=tmp_path, node="n", keep_days=10)
    node = config.node_dir
    old = [
        make(node / "logs" / "a.jsonl", age_days=11),
        make(node / "projects" / "-work" / "s.jsonl", age_days=11),
        make(node / "journal" / "r.bad", age_days=11),
    ]
    kept = [
        make(node / "logs" / "b.jsonl", age_days=9),
        make(node / "journal" / "r.json", age_days=99),
        make(node / "projects" / "-work" / "t.jsonl", age_days=1),
    ]
    assert clear_old(config) == len(old)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in kept)


def test_a_tasks_own_directory_goes_with_everything_in_it(tmp_path: Path) -> None:
    config = PoolConfig(home=tmp_path, node="n", keep_days=10)
    folder = config.node_dir / "scratch" / "t-1"
    make(folder / "deep" / "file", age_days=0)
    then = time.time() - 11 * 86_400
    os.utime(folder, (then, then))
    assert clear_old(config) == 1
    assert not folder.exists()


def test_a_node_that_never_ran_has_nothing_to_clear(tmp_path: Path) -> None:
    assert clear_old(PoolConfig(home=tmp_path, node="n")) == 0
