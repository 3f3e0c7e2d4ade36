"""The tree of errors is the one that its page draws, and its words are fit for people and programs."""

from __future__ import annotations

import re

import pytest

from claude_pool import errors
from claude_pool.errors import PoolError


def family(kind: type[PoolError] = PoolError) -> list[type[PoolError]]:
    return [
        kind,
        *(one for child in kind.__subclasses__() if child.__module__ == errors.__name__ for one in family(child)),
    ]


def drawn() -> list[tuple[str, str, int | None]]:
    """Each name in the module's picture with its parent and the exit code beside it."""
    path: list[str] = []
    found: list[tuple[str, str, int | None]] = []
    for branch, name, rest in re.findall(r"^    ([│├└─ ]*)(\w+)(.*)$", errors.__doc__ or "", re.MULTILINE):
        path = [*path[: len(branch) // 4], name]
        code = re.search(r"exit (\d)", rest)
        found.append((name, path[-2] if len(path) > 1 else "Exception", int(code[1]) if code else None))
    return found


def test_the_page_draws_exactly_the_tree() -> None:
    assert [(name, parent) for name, parent, _ in drawn()] == [
        (kind.__name__, kind.__base__.__name__) for kind in family() if kind.__base__
    ]


def test_the_exit_codes_beside_the_branches_hold_for_all_below_them() -> None:
    told = {name: code for name, _, code in drawn() if code is not None}
    assert told
    for kind in family():
        above = [told[one.__name__] for one in kind.__mro__ if one.__name__ in told]
        assert kind.exit_code == (above[0] if above else kind.exit_code), kind
        assert 0 < kind.exit_code <= 4


def test_every_code_is_a_word_of_its_own() -> None:
    codes = [kind.code for kind in family()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z][a-z_]*", code) for code in codes)


@pytest.mark.parametrize("kind", family())
def test_without_words_an_error_says_its_own(kind: type[PoolError]) -> None:
    assert kind().message == (kind.__doc__ or "").strip()
    assert str(kind("It broke.", hint="Mend it.")) == "It broke. Mend it."
    assert kind("It broke.").hint == ""
