"""What every workspace is to the slot, whatever its kind: a directory that one run has for itself, until it is closed.

A workspace that is closed without `save` saves what is there under a plain message. One whose process dies is saved by
whoever opens the slot's directory, or the branch, next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from claude_pool.models.options import Isolation
from claude_pool.models.task import BranchFacts


class Workspace(ABC):
    """One directory for one run. `branch` and `base` (a commit) are None when there is no repository."""

    path: Path
    isolation: Isolation
    branch: str | None = None
    base: str | None = None

    @abstractmethod
    def save(self, message: str) -> BranchFacts | None:
        """Commit what is left. None when there is no branch, or when it has nothing to show."""

    @abstractmethod
    def close(self) -> None:
        """Give the directory back. Harmless twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
