"""Tokens: shown once, kept as a hash, revoked at once."""

from __future__ import annotations

import stat

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import InvalidRequest, NotFound, PoolError
from mcp_server.tokens import TokenFile


def test_a_token_is_found_by_its_text_and_by_nothing_else(config: PoolConfig) -> None:
    tokens = TokenFile(config)
    text, token = tokens.add(["submit", "read"], "ada")
    assert tokens.find(text) == token
    assert (token.name, token.scopes) == ("ada", ("read", "submit"))
    for wrong in ("", text[:-1], text + "x", token.sha256, token.id, "\ud800"):
        assert tokens.find(wrong) is None


def test_the_file_holds_no_secret_and_is_the_owners_alone(config: PoolConfig) -> None:
    tokens = TokenFile(config)
    text, token = tokens.add(["read"])
    kept = tokens.path.read_text()
    assert token.sha256 in kept
    assert text.rpartition("_")[2] not in kept
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600


def test_a_revoked_token_stops_working_also_in_a_server_that_runs(config: PoolConfig) -> None:
    server, owner = TokenFile(config), TokenFile(config)
    text, token = owner.add(["read"])
    other, _ = owner.add(["admin"])
    assert server.find(text)
    owner.revoke(token.id)
    assert server.find(text) is None
    assert server.find(other)


def test_an_unknown_id_can_not_be_revoked_and_the_known_ones_are_named(config: PoolConfig) -> None:
    tokens = TokenFile(config)
    _, token = tokens.add(["read"], "ada")
    with pytest.raises(NotFound) as caught:
        tokens.revoke("nope")
    assert f"{token.id} (ada)" in str(caught.value)


@pytest.mark.parametrize(
    ("scopes", "name"), [([], None), (["read", "root"], None), (["read"], "a b"), (["read"], "-x")]
)
def test_scopes_and_names_that_make_no_sense_are_refused(
    config: PoolConfig, scopes: list[str], name: str | None
) -> None:
    with pytest.raises(InvalidRequest):
        TokenFile(config).add(scopes, name)
    assert TokenFile(config).all() == ()


def test_a_broken_file_lets_nobody_in_and_says_so(config: PoolConfig) -> None:
    tokens = TokenFile(config)
    text, _ = tokens.add(["read"])
    tokens.path.write_text('{"not": "ours"}')
    with pytest.raises(PoolError, match="can't be read"):
        tokens.find(text)
