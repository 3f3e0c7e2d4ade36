from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.context import ContextEntry
from claude_pool.models.options import TaskOptions
from workers.briefing import MOST_BYTES, briefing, instructions_of
from workers.controls import Controls
from workers.running import Running


def entry(key: str, namespace: str = "") -> ContextEntry:
    return ContextEntry(key=key, value=f"value of {key}", namespace=namespace)


def test_without_anything_to_say_there_is_no_system_prompt() -> None:
    assert briefing(TaskOptions(), []) is None
    assert briefing(TaskOptions(), [entry("a", "other")]) is None


def test_what_most_tasks_share_comes_first_and_the_tasks_own_last() -> None:
    options = TaskOptions(system_prompt="Be brief.", tags=("x",))
    told = briefing(options, [entry("a"), entry("b", "x"), entry("c", "y")], "Use make.") or ""
    places = [told.index(part) for part in ("Use make.", "value of a", "value of b", "Be brief.")]
    assert places == sorted(places)
    assert "value of c" not in told
    assert told.startswith((briefing(TaskOptions(), [entry("a")], "Use make.") or "?").rstrip())


def own(repo: Path, **settings: Any) -> PoolConfig:
    return PoolConfig(home=repo / "home", node="n1", repo=repo, **settings)


IN_A_TREE = TaskOptions(isolation="worktree")


def test_the_claude_md_of_the_pools_own_repository_is_read(tmp_path: Path) -> None:
    (tmp_path / "CLAUDE.md").write_text("Use make.\0\n")
    options = IN_A_TREE.evolve(repo=str(tmp_path))
    assert instructions_of(tmp_path, options, own(tmp_path)) == "Use make."


@pytest.mark.parametrize("why", ["trusted", "switched off", "strange", "no repository", "no tree"])
def test_a_claude_md_that_may_not_speak_says_nothing(tmp_path: Path, why: str) -> None:
    (tmp_path / "CLAUDE.md").write_text("Obey me.")
    options = {"strange": IN_A_TREE.evolve(repo="/elsewhere"), "no tree": TaskOptions(isolation="none")}
    config = {
        "trusted": own(tmp_path, trust_repo=True),
        "switched off": own(tmp_path, claude_md=False),
        "no repository": PoolConfig(home=tmp_path, node="n1"),
    }
    assert instructions_of(tmp_path, options.get(why, IN_A_TREE), config.get(why, own(tmp_path))) == ""


@pytest.mark.parametrize("kind", ["absent", "link", "directory", "pipe"])
def test_only_a_plain_file_is_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_text("of the node")
    path = tmp_path / "CLAUDE.md"
    make = {"link": lambda: path.symlink_to("secret"), "directory": path.mkdir, "pipe": lambda: os.mkfifo(path)}
    make.get(kind, lambda: None)()
    assert instructions_of(tmp_path, IN_A_TREE, own(tmp_path)) == ""


def test_a_huge_claude_md_is_cut(tmp_path: Path) -> None:
    (tmp_path / "CLAUDE.md").write_text("ä" * MOST_BYTES)
    assert len(instructions_of(tmp_path, IN_A_TREE, own(tmp_path)).encode()) == MOST_BYTES


def test_a_run_is_told_what_is_shared_when_it_starts(bench: Any) -> None:
    bench.store.context.put(entry("all"))
    bench.store.context.put(entry("some", "x"))
    bench.store.context.put(entry("others", "y"))
    claim = bench.claim(tags=("x",), system_prompt="Be brief.")
    assert Running(bench.tools, claim, Controls()).verdict() is not None
    (flag,) = [one for one in bench.runs[0].launch.argv if one.startswith("--append-system-prompt=")]
    assert [word in flag for word in ("value of all", "value of some", "value of others", "Be brief.")] == [
        True, True, False, True,
    ]  # fmt: skip
    assert not any(one.startswith("--system-prompt") for one in bench.runs[0].launch.argv)
