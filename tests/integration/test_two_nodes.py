"""Two nodes of one pool that share nothing but Redis: what one began the other continues."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.task import TaskState
from claude_pool.testing import fake_claude
from claude_pool.testing.fake_script import directive
from claude_pool.testing.node import TestNode, until
from claude_pool.testing.redis_server import short_folder

pytestmark = pytest.mark.redis

WAIT_S = 30
Start = Callable[[str], TestNode]


@pytest.fixture
def start(tmp_path: Path, redis_server: Any, pool_name: str, scratch_repo: Path) -> Iterator[Start]:
    """Start a node with a home, a repository and a `claude` of its own."""
    homes: list[Path] = []
    with ExitStack() as stack:

        def begin(name: str) -> TestNode:
            home = short_folder()
            homes.append(home)
            repo = tmp_path / f"{name}-repo"
            subprocess.run(["git", "clone", "-q", str(scratch_repo), str(repo)], check=True)
            claude = fake_claude.install(tmp_path / f"{name}-claude", ledger=tmp_path / "ledger")
            config = PoolConfig(
                name=pool_name, home=home, redis_url=redis_server.url, node=name, slots=1, claude=claude, repo=repo,
                target="main", lease_s=2, slack_s=0.2, stop_grace_s=1, housekeeping_s=0.1, retry_base_s=0.05,
            )  # fmt: skip
            return stack.enter_context(TestNode(config))

        yield begin
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)


def said(node: TestNode, task_id: str, text: str) -> bool:
    return any(text in entry.text for entry in node.pool.stream(task_id, follow=False))


def write(path: str, content: str) -> str:
    return directive("write", path=path, content=content)


def test_a_chain_goes_on_in_its_session_and_on_its_branch_when_its_node_leaves(start: Start) -> None:
    a = start("a")
    steps = [
        {"name": "one", "prompt": write("one.txt", "1") + directive("ok", text="one")},
        {"name": "two", "prompt": write("two.txt", "2") + directive("slow", s=2) + directive("ok", text="two")},
    ]
    chain = a.pool.submit_chain(steps)
    second = chain.step_ids[1]
    until(lambda: said(a, second, "working"), "the second step working on a")
    session = a.pool.get(second).session_id
    left = a.pool.drain(now=True)
    assert left.checkpointed == (second,)

    b = start("b")
    b.pool.wait([chain.chain_id], timeout_s=WAIT_S)
    result = b.pool.chain_result(chain.chain_id)
    assert result.state is TaskState.COMPLETED, result.error
    assert [run.node for run in b.pool.detail(second).runs] == ["a", "b"]
    assert {run.session_id for run in b.pool.detail(second).runs} == {session}
    assert result.branch is not None
    assert set(result.branch.paths) == {"one.txt", "two.txt"}
    assert b.pool.diff(chain.chain_id).files_total == 2
    assert b.pool.merge(chain.chain_id).merged


def test_another_tasks_conversation_can_be_continued_after_its_node_left(start: Start) -> None:
    a = start("a")
    first = a.pool.run(write("a.txt", "x") + directive("ok", text="hello"), wait_s=WAIT_S)
    assert first.state is TaskState.COMPLETED
    a.pool.drain()
    b = start("b")
    again = b.pool.run(directive("report"), session=f"continue:{first.task_id}", base_ref=f"pool/{first.task_id}",
                       wait_s=WAIT_S)  # fmt: skip
    assert again.state is TaskState.COMPLETED, again.error
    assert again.session_id == first.session_id
    assert again.node == "b"


def test_a_coordinator_elsewhere_sees_and_merges_what_a_node_did(start: Start) -> None:
    a, b = start("a"), start("b")
    b.pool.drain(nodes=["b"])
    task_id = a.pool.submit(write("a.txt", "from a\n")).task_id
    a.pool.wait([task_id], timeout_s=WAIT_S)
    assert a.pool.get(task_id).node == "a"
    repo = b.config.repo
    assert repo is not None
    facts = a.pool.result(task_id).branch
    assert facts is not None
    shutil.move(facts.repo, f"{facts.repo}-away")
    found = b.pool.diff(task_id)
    assert [file.path for file in found.files] == ["a.txt"]
    assert b.pool.merge(task_id).merged
    assert (repo / "a.txt").read_text() == "from a\n"


def test_slots_have_ports_and_temporary_folders_of_their_own(start: Start) -> None:
    a = start("a")
    result = a.pool.run(directive("report"), wait_s=WAIT_S)
    assert '"CLAUDE_POOL_PORT_BASE": "21000"' in result.output
    assert '"TMPDIR": "' + str(a.config.node_dir / "slots" / "0" / "tmp") in result.output
