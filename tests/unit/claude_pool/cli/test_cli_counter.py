"""How a verb gets to the counter."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pool.cli import counter
from claude_pool.pool import Pool


def test_the_pool_is_opened_as_the_person_who_types(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[str, Any] = {}
    monkeypatch.setattr(Pool, "open", lambda **settings: opened.update(settings))
    monkeypatch.setattr(counter.getpass, "getuser", lambda: "ada")
    counter.open_pool(node="build-2")
    assert opened["node"] == "build-2"
    assert (opened["submitter"].name, opened["submitter"].kind) == ("ada", "cli")


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise OSError

    opened: dict[str, Any] = {}
    monkeypatch.setattr(Pool, "open", lambda **settings: opened.update(settings))
    monkeypatch.setattr(counter.getpass, "getuser", nameless)
    counter.open_pool()
    assert opened["submitter"].name.startswith("uid ")
