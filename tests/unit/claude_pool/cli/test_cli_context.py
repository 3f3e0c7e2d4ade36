"""context set, get, delete and list at the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from claude_pool.pool import Pool

Cli = Callable[..., Any]


def test_a_text_is_set_shown_listed_and_deleted(cli: Cli, pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("From a file.")
    assert cli("context", "set", "style", "Tabs \x1b[31m only.").code == 0
    assert cli("context", "set", "style", "-", stdin=b"Spaces.").code == 0
    assert cli("context", "set", "notes", "--file", str(tmp_path / "notes.md"), "--tag", "backend").code == 0
    assert cli("context", "get", "style").out == "Spaces.\n"
    with_history = cli("context", "get", "style", "--history")
    assert "Tabs" in with_history.out
    assert "\x1b" not in with_history.out
    document = cli("context", "get", "style", "--history", "--json").document
    assert (document["value"], len(document["history"])) == ("Spaces.", 1)
    listed = cli("context", "list").out
    assert listed.index("style") < listed.index("notes")
    (only,) = cli("context", "list", "--tag", "backend", "--json").document["entries"]
    assert (only["key"], only["value"], only["bytes"]) == ("notes", "From a file.", 12)
    assert cli("context", "delete", "style", "--json").document == {"key": "style", "deleted": True}
    assert [entry.key for entry in pool.context_list()] == ["notes"]


def test_an_unknown_key_and_a_large_value_are_wrong_usage(cli: Cli, pool: Pool) -> None:
    assert cli("context", "get", "nothing").code == 2
    assert cli("context", "delete", "nothing").code == 2
    assert cli("context", "set", "a", "-", stdin=b"x" * (1 << 20)).code == 2
    assert "Nothing is shared" in cli("context", "list").out
