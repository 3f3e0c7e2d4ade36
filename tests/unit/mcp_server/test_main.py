"""The command line of claude-pool-mcp, as far as it serves nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_server.main import main


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_POOL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_a_token_is_made_listed_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--new-token", "read,submit", "--token-name", "ada"]) == 0
    made = capsys.readouterr()
    assert made.out.startswith("cpt_")
    assert "may read, submit. It can't be shown again." in made.err
    assert main(["--list-tokens"]) == 0
    token_id, name, scopes = capsys.readouterr().out.split()
    assert (name, scopes) == ("ada", "read,submit")
    assert main(["--revoke-token", token_id]) == 0
    capsys.readouterr()
    assert main(["--list-tokens"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--new-token", "root"], "There is no scope root. Scopes are read, submit, approve, admin."),
        (["--revoke-token", "nope"], "There is no token 'nope'."),
        (["--http", "--port", "99999"], "--port 99999 is no port."),
        (["--name", "No Name"], "name = 'No Name' (from argument)"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err
