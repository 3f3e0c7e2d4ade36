"""Shared context at the counter."""

from __future__ import annotations

import pytest

from claude_pool.errors import InvalidRequest, NotFound
from claude_pool.models.task import Submitter
from claude_pool.pool import Pool


def test_what_is_set_can_be_got_listed_and_deleted(pool: Pool) -> None:
    pool.context_set("style", "Tabs.")
    entry = pool.context_set("style", "Spaces.")
    pool.context_set("api", "REST.", namespace="backend")
    assert (entry.by, pool.context_get("style")) == ("ada", entry)
    assert [one.value for one in pool.context_history("style")] == ["Tabs."]
    assert [one.key for one in pool.context_list()] == ["style", "api"]
    assert [one.key for one in pool.context_list(namespace="")] == ["style"]
    assert [one.key for one in pool.context_list(namespace="backend")] == ["api"]
    pool.context_delete("style")
    with pytest.raises(NotFound, match="'style'"):
        pool.context_get("style")
    with pytest.raises(NotFound, match="for the tag x"):
        pool.context_delete("api", namespace="x")


def test_the_record_says_on_whose_behalf_it_was_set(pool: Pool) -> None:
    theirs = pool.on_behalf_of(Submitter(name="grace", kind="mcp"))
    assert theirs.context_set("a", "b").by == "grace"


@pytest.mark.parametrize(
    ("key", "value", "namespace"),
    [
        ("a", "x" * (1 << 20), ""),
        ("a", "", ""),
        ("a", " \n", ""),
        ("a", "nul \0", ""),
        ("a", "\ud800", ""),
        ("", "x", ""),
        ("a b", "x", ""),
        ("a", "x", "no such tag!"),
    ],
    ids=["1 MB", "empty", "blank", "NUL", "lone surrogate", "no key", "blank in the key", "no tag"],
)
def test_bad_context_is_refused_and_nothing_is_kept(pool: Pool, key: str, value: str, namespace: str) -> None:
    with pytest.raises(InvalidRequest):
        pool.context_set(key, value, namespace=namespace)
    assert pool.context_list() == []
