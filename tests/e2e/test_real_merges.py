"""Three branches of the real CLI: two merge, the third conflicts, is forecast so, and a task resolves it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.task import TaskState
from claude_pool.testing.node import TestNode
from claude_pool.testing.simulated import SimulatedApi

pytestmark = [pytest.mark.redis, pytest.mark.claude]

WAIT_S = 90


def tool(name: str, **arguments: object) -> str:
    return f"[[tool:{name} {json.dumps(arguments)}]]"


def rewrite(path: str, content: str) -> str:
    """Read a file and write it anew. A task that resolves a conflict is told the prompt, and so does it again."""
    return f"{tool('Read', file_path=path)}{tool('Write', file_path=path, content=content)}[[reply:rewrote {path}]]"


def git(repo: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=repo, check=True, capture_output=True, text=True).stdout.strip()


def test_two_of_three_branches_merge_and_the_third_is_forecast_resolved_by_a_task_and_merged(
    pool_config: Callable[..., PoolConfig], claude_binary: Path, simulated_api: SimulatedApi, scratch_repo: Path
) -> None:
    (scratch_repo / "shared.txt").write_text("one\n")
    (scratch_repo / "other.txt").write_text("two\n")
    git(scratch_repo, "add", "-A")
    git(scratch_repo, "commit", "-q", "-m", "Two files")
    config = pool_config(slots=3, claude=claude_binary, repo=scratch_repo)
    env = {**simulated_api.environment, "CLAUDE_POOL_SIMULATED": "1"}
    with TestNode(config, env=env) as node:
        pool = node.pool
        works = [("shared.txt", "uno\n"), ("other.txt", "dos\n"), ("shared.txt", "eins\n")]
        one, two, three = pool.fan_out([rewrite(*work) for work in works]).task_ids
        pool.wait([one, two, three], timeout_s=WAIT_S)
        assert [pool.get(id_).state for id_ in (one, two, three)] == [TaskState.COMPLETED] * 3
        colliding = {frozenset((found.branch, found.into)) for found in pool.outlook().collisions}
        assert colliding == {frozenset((f"pool/{one}", f"pool/{three}"))}

        assert pool.merge(one).merged
        assert pool.merge(two).merged
        assert [found.branch for found in pool.outlook().conflicts] == [f"pool/{three}"]
        conflict = pool.merge(three, resolve=True)
        assert [found.path for found in conflict.conflicts] == ["shared.txt"]
        assert conflict.resolving is not None

        pool.wait([conflict.resolving], timeout_s=WAIT_S)
        result = pool.result(conflict.resolving)
        assert result.state is TaskState.COMPLETED, result.error
        assert pool.merge(conflict.resolving, check_command="! grep -r '<<<<<<<' shared.txt").merged
        assert (scratch_repo / "shared.txt").read_text() == "eins\n"
        assert (scratch_repo / "other.txt").read_text() == "dos\n"
        assert git(scratch_repo, "status", "--porcelain") == ""
        assert pool.outlook().open == 0
        assert {entry.split()[0] for entry in pool.gc().branches} >= {f"pool/{three}", f"pool/{conflict.resolving}"}
