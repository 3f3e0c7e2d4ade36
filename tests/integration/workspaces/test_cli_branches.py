"""diff, merge, discard, branches, gc and status at the command line, over a real repository."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from claude_pool.cli import branches as verbs
from claude_pool.cli.main import main
from claude_pool.config import PREFIX, PoolConfig
from claude_pool.models.task import TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.models.workspace import PREFIX as BRANCHES
from claude_pool.pool import Pool
from claude_pool.store import fake_store
from claude_pool.testing.hands import Hand


class Bells:
    def ring(self, bells: list[Any]) -> None: ...

    def waiting(self, queue: str) -> int:
        return 0

    def close(self) -> None: ...


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def pool(home: Path, project: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A pool without a repository in its settings; the person is in one."""
    config = PoolConfig(name="alpha", home=home, node="n1")
    store = fake_store(config)
    store.pool.prepare(epoch=None)
    found = Pool(config, store, Bells())  # type: ignore[arg-type]
    monkeypatch.setenv(PREFIX + "HOME", str(home))
    monkeypatch.setattr(Pool, "open", lambda *_given, **_settings: found)
    monkeypatch.chdir(project.path)
    project.write("a.txt", "one\n")
    project.commit()
    yield found
    found.hub.close()
    store.close()


@pytest.fixture
def do(pool: Pool, project: Any, work: Callable[..., Any]) -> Callable[..., str]:
    hand = Hand(pool.store)

    def carry_out(files: dict[str, str], task: str = "") -> str:
        task_id = task or pool.submit("Do it.", repo=str(project.path)).task_id
        claim = hand.run(task_id)
        facts = work(0, task_id, files, base_ref=pool.get(task_id).options.base_ref)
        result = TaskResult(task_id=task_id, state=TaskState.COMPLETED, branch=facts)
        done = Verdict(to=TaskState.COMPLETED, result=result, session_id="s")
        pool.store.tasks.finish(task_id, claim.run_id, done)
        return task_id

    return carry_out


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], pool: Pool) -> Callable[..., Answer]:
    def call(*arguments: str) -> Answer:
        capsys.readouterr()
        code = main(arguments)
        told = capsys.readouterr()
        return Answer(code, told.out, told.err)

    return call


Cli = Callable[..., Answer]
Do = Callable[..., str]


def test_into_a_pipe_goes_the_patch_and_git_can_apply_it(cli: Cli, do: Do, project: Any, tmp_path: Path) -> None:
    task_id = do({"a.txt": "uno\n", "dir/ü.txt": "x\n"})
    patch = tmp_path / "patch"
    patch.write_text(cli("diff", task_id).out)
    project.git("apply", str(patch))
    assert (project.path / "a.txt").read_text() == "uno\n"
    assert (project.path / "dir" / "ü.txt").read_text() == "x\n"


def test_a_long_patch_comes_whole_page_after_page(
    cli: Cli, do: Do, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"line {number}" for number in range(40_000)]
    task_id = do({"long.txt": "\n".join(lines) + "\n", "other.txt": "x"})
    out = cli("diff", task_id, "--path", "long.txt").out
    assert [line[1:] for line in out.splitlines() if line.startswith("+line")] == lines
    assert "other.txt" not in out


def test_the_document_of_a_diff_has_counts_and_one_page(cli: Cli, do: Do) -> None:
    task_id = do({"a.txt": "uno\n", "b.bin": "\0"})
    document = cli("diff", task_id, "--json").document
    assert document["files"] == [
        {"path": "a.txt", "kind": "modified", "insertions": 1, "deletions": 1},
        {"path": "b.bin", "kind": "added", "insertions": None, "deletions": None},
    ]
    assert (document["branch"], document["next_offset"]) == (f"{BRANCHES}{task_id}", None)
    stat = cli("diff", task_id, "--stat").out
    assert " M        +1 -1  a.txt" in stat
    assert "binary  b.bin" in stat


def test_a_patch_on_a_terminal_has_our_colours_and_nothing_of_the_branchs(
    do: Do, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(verbs.pydoc, "pager", shown.append)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    task_id = do({"a.txt": "\x1b[2J\x1b]0;title\x07evil\n"})
    assert main(["diff", task_id]) == 0
    assert "\x1b[32m+evil\x1b[0m" in shown[0]
    assert "\x1b[31m-one\x1b[0m" in shown[0]
    assert "\x1b[2J" not in shown[0]
    assert "title" not in shown[0]
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["diff", task_id]) == 0
    assert "\x1b" not in shown[1]


def test_a_merge_says_where_the_target_is_and_that_the_checkout_came_along(cli: Cli, do: Do, project: Any) -> None:
    answer = cli("merge", do({"b.txt": "b\n"}))
    assert answer.code == 0
    assert f"main is at {project.tip('main')[:12]}" in answer.out
    assert "brought along" in answer.out
    document = cli("merge", do({"c.txt": "c\n"}), "--how", "squash", "--json").document
    assert (document["merged"], document["target"], document["commit"]) == (True, "main", project.tip("main"))
    assert "conflicts" not in document


def test_a_conflict_is_shown_with_its_hunks_and_a_task_resolves_it(cli: Cli, do: Do, project: Any) -> None:
    task_id = do({"a.txt": "uno\n"})
    project.write("a.txt", "ein\x1b[2J\n")
    project.commit()
    answer = cli("merge", task_id)
    assert answer.code == 4
    for part in ("conflict: a.txt (contents)", "main   | ein", "branch | uno", "--resolve"):
        assert part in answer.out
    assert "\x1b" not in answer.out
    answer = cli("merge", task_id, "--resolve", "--json")
    assert answer.code == 5
    resolving = answer.document["resolving"]
    do({"a.txt": "both\n"}, resolving)
    assert cli("merge", resolving).code == 0
    assert project.show("main", "a.txt") == "both"


def test_a_check_that_fails_is_shown_and_nothing_is_merged(cli: Cli, do: Do, project: Any) -> None:
    before = project.tip("main")
    answer = cli("merge", do({"b.txt": "b\n"}), "--check", "echo broken; exit 3")
    assert answer.code == 4
    assert "ended with 3" in answer.out
    assert "broken" in answer.out
    assert project.tip("main") == before


def test_a_dirty_checkout_is_refused_with_exit_4_and_stays_as_it_is(cli: Cli, do: Do, project: Any) -> None:
    project.write("a.txt", "my own work\n")
    answer = cli("merge", do({"b.txt": "b\n"}))
    assert answer.code == 4
    assert "not committed: a.txt" in answer.err
    assert (project.path / "a.txt").read_text() == "my own work\n"


def test_branches_are_listed_discarded_and_cleared_away(cli: Cli, do: Do) -> None:
    assert "no branch" in cli("branches").out
    one, two = do({"b.txt": "b\n"}), do({"c.txt": "c\n"})
    listed = cli("branches").out
    assert f"pool/{one}" in listed
    assert "open" in listed
    tip = cli("discard", one, "--json").document["tip"]
    assert len(tip) == 40
    assert [branch["name"] for branch in cli("branches", "--json").document["branches"]] == [f"pool/{two}"]
    cli("merge", two)
    assert f"branch pool/{two}" in cli("gc").out
    assert cli("gc", "--json").document["branches"] == []


def test_status_tells_which_branches_conflict(cli: Cli, do: Do, project: Any) -> None:
    assert "branches:" not in cli("status").out
    one, two = do({"a.txt": "uno\n"}), do({"a.txt": "eins\n"})
    out = cli("status").out
    assert "branches: 2 to merge into main, 0 conflicts" in out
    assert "gets in the way of" in out
    cli("merge", one)
    assert f"pool/{two} conflicts with main: a.txt" in cli("status").out
    assert cli("status", "--json").document["branches"]["conflicts"] == [
        {"branch": f"pool/{two}", "into": "main", "state": "conflicts", "files": ["a.txt"]}
    ]


def test_a_real_pager_gets_the_coloured_patch_on_a_real_terminal(tmp_path: Path) -> None:
    program = "from claude_pool.cli.branches import _coloured, _page; _page(_coloured('+new\\n-old\\n'))"
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "TERM": "xterm", "PAGER": "cat", "HOME": str(tmp_path)}
    done = subprocess.Popen([sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    said = b""
    while b"old" not in said:
        said += os.read(ours, 4096)
    os.close(ours)
    done.wait(10)
    assert b"\x1b[32m+new\x1b[0m" in said
