"""The demonstration's decisions; that it works end to end is shown in tests/e2e/test_demo.py."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from claude_pool.cli import demo
from claude_pool.errors import CliError, InvalidRequest

Cli = Callable[..., Any]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("sign_in", [None, "ANTHROPIC_API_KEY"])
def test_simulated_is_simulated(sign_in: str | None) -> None:
    simulate, why = demo.choose(sign_in, simulated=True, real=False)
    assert simulate
    assert "imulated" in why


def test_without_a_sign_in_it_is_simulated_and_says_so() -> None:
    simulate, why = demo.choose(None, simulated=False, real=False)
    assert simulate
    assert why.startswith("No sign-in was found")


def test_real_without_a_sign_in_is_wrong_usage() -> None:
    with pytest.raises(InvalidRequest, match="no sign-in"):
        demo.choose(None, simulated=False, real=True)


def test_a_sign_in_is_never_used_without_asking() -> None:
    simulate, why = demo.choose("ANTHROPIC_API_KEY", simulated=False, real=False)
    assert simulate
    assert "nobody can be asked" in why


@pytest.mark.parametrize("answer", [True, False])
def test_at_a_terminal_it_asks_before_it_spends(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(typer, "confirm", lambda question, **_how: asked.append(question) or answer)
    simulate, _why = demo.choose("ANTHROPIC_API_KEY", simulated=False, real=False)
    assert simulate is not answer
    assert "ANTHROPIC_API_KEY" in asked[0]
    assert "$1.0000" in asked[0]


def test_real_spends_without_asking_and_says_how_much() -> None:
    simulate, why = demo.choose("ANTHROPIC_API_KEY", simulated=False, real=True)
    assert not simulate
    assert "$1.0000 at most" in why


def test_without_the_cli_it_says_how_to_get_it_and_pretends_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_config: Any) -> None:
        raise CliError("There is no claude binary.", hint="pip install 'claude-pool[cli]'")

    monkeypatch.setattr(demo, "find_claude", missing)
    answer = cli("demo", "--simulated", "--json")
    assert answer.code == 1
    assert "claude-pool[cli]" in answer.document["error"]["hint"]


def test_both_flags_exclude_each_other(cli: Cli) -> None:
    assert cli("demo", "--simulated", "--real").code == 2


def test_a_folder_of_its_own_is_removed_and_a_named_one_is_kept(tmp_path: Path) -> None:
    with demo._folder(None) as folder:
        folder.mkdir()
        (folder / "x").touch()
    assert not folder.parent.exists()
    with demo._folder(tmp_path / "kept") as folder:
        folder.mkdir()
    assert folder == tmp_path / "kept"
    assert folder.exists()
