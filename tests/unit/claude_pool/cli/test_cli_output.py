"""Answers on stdout, messages on stderr, and readers that go away."""

from __future__ import annotations

import io
import sys

import pytest

from claude_pool.cli import output
from claude_pool.cli.render import Table
from claude_pool.errors import Unreachable


def test_text_that_the_terminal_can_not_write_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    output.say("größe")
    assert raw.getvalue() == b"gr??e\n"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_json_is_indented_for_a_person_and_one_line_for_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    output.document({"a": 1})
    assert terminal.getvalue() == '{\n  "a": 1\n}\n'
    monkeypatch.setattr(sys, "stdout", pipe := io.StringIO())
    output.document({"a": 1})
    assert pipe.getvalue() == '{"a": 1}\n'


def test_tables_are_rich_on_a_terminal_and_plain_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(("STATE", "TITLE"), (("failed", "[b]x[/b]"),))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    output.answer({}, "one [b]line[/b]", table, as_json=False)
    assert "\x1b[31mfailed" in terminal.getvalue()
    assert "one [b]line[/b]" in terminal.getvalue()
    assert "[b]x[/b]" in terminal.getvalue()
    monkeypatch.setattr(sys, "stdout", pipe := io.StringIO())
    output.answer({}, "one", table, as_json=False)
    assert pipe.getvalue() == "one\nSTATE   TITLE\nfailed  [b]x[/b]\n"


def test_an_error_is_a_sentence_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert output.fail(Unreachable("Gone.", hint="Start it."), as_json=False) == 3
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "claude-pool: Gone.\n  Start it.\n")
