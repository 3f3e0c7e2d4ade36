"""The how-to of chains: every block of docs/chains.md does what it says, on a node with the fake claude."""

import contextlib
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_pool.cli.main import main
from claude_pool.config import PoolConfig
from claude_pool.models.task import TaskState
from claude_pool.pool import Pool
from claude_pool.templates import escaped
from claude_pool.testing.fake_script import directive
from claude_pool.testing.node import TestNode

pytestmark = pytest.mark.redis

PAGE = (Path(__file__).parents[2] / "docs" / "chains.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_runs_and_ends_well(pool_config: Callable[..., PoolConfig]) -> None:
    planned = json.dumps(escaped(directive("ok", text='{"files": ["a.py"]}')))[1:-1]
    said = io.StringIO()
    with TestNode(pool_config(slots=2)) as node, contextlib.redirect_stdout(said):
        for block in blocks("python"):
            exec(block.replace("Plan the fix", f"{planned} Plan the fix"), {"pool": node.pool})
        ended = node.pool.chains()
    assert [whole.state for whole in ended] == [TaskState.COMPLETED] * 5
    output = said.getvalue()
    assert "Say in one sentence what was done: echo: Fix it. Look at" in output
    assert "Go on from: echo: Begin." in output
    assert "('lexer', " in output
    assert "'mac': 'echo: Build.'" in output


def test_the_file_of_the_page_is_a_chain_and_its_commands_work(
    pool_config: Callable[..., PoolConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (text,) = blocks("toml")
    folder = tmp_path / ".claude-pool" / "chains"
    folder.mkdir(parents=True)
    (folder / "explain.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    (console,) = blocks("console")
    commands = [shlex.split(line.removeprefix("$ claude-pool ")) for line in console.splitlines()]
    with TestNode(pool_config(slots=2)) as node:
        monkeypatch.setattr(Pool, "open", lambda *_given, **_settings: node.pool.on_behalf_of(node.pool.submitter))
        monkeypatch.setattr(Pool, "close", lambda _self: None)
        for command in commands:
            assert main(command) == 0, command
            told = capsys.readouterr().out
            if "--json" in command:
                assert json.loads(told)
        monkeypatch.undo()
    assert "echo: Audit b.py." in told
