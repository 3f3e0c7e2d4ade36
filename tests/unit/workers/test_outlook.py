"""A forecast for a reviewer, or none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import NotFound, WorkspaceError
from claude_pool.models.task import BranchFacts
from claude_pool.models.workspace import FileConflict, Forecast
from workers import outlook as module
from workers.outlook import MOST_PATHS, outlook

BRANCH = BranchFacts(branch="pool/x", base="a" * 40, tip="b" * 40, repo="/srv/repo")


def told(monkeypatch: pytest.MonkeyPatch, forecast: Any) -> list[Path | None]:
    opened: list[Path | None] = []

    def open_(_config: PoolConfig, repo: Path | None) -> Any:
        opened.append(repo)
        if isinstance(forecast, WorkspaceError):
            raise forecast
        return SimpleNamespace(forecast=forecast)

    monkeypatch.setattr(module, "Repository", SimpleNamespace(open=open_))
    return opened


def test_conflicts_are_told_by_path_and_not_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    conflicts = tuple(FileConflict(path=f"{number}", kind="contents") for number in range(MOST_PATHS + 1))
    forecast = Forecast(
        branch="pool/x", tip="b" * 40, into="main", into_tip="c" * 40, state="conflicts", conflicts=conflicts
    )
    opened = told(monkeypatch, lambda _branch: forecast)
    seen = outlook(BRANCH, PoolConfig())
    assert seen is not None
    assert (seen.into, seen.state, len(seen.conflicts)) == ("main", "conflicts", MOST_PATHS)
    assert opened == [Path("/srv/repo")]


@pytest.mark.parametrize("error", [WorkspaceError("gone"), NotFound("no branch")])
def test_where_no_forecast_can_be_made_there_is_none(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(_branch: str) -> Any:
        raise error

    told(monkeypatch, error if isinstance(error, WorkspaceError) else fails)
    assert outlook(BRANCH, PoolConfig()) is None
