"""How a verb gets to the counter: settings read, pool opened as the person who types, and closed again."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from claude_pool.models.task import Submitter

if TYPE_CHECKING:
    from claude_pool.pool import Pool

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def open_pool(**settings: Any) -> Pool:
    """The pool of this directory's settings. Raises InvalidSettings, Unreachable, StoreReset, Refused."""
    from claude_pool.pool import Pool  # noqa: PLC0415 - brings Celery, which only verbs that need a pool should pay for

    return Pool.open(submitter=Submitter(name=_person(), kind="cli"), **settings)


def open_pool_here() -> Pool:
    """The pool; without a configured repository, over the one around the working directory."""
    pool = open_pool()
    here = Path.cwd()
    if pool.config.repo is None and (root := repository_around(here)) is not None:
        pool.config = pool.config.model_copy(update={"repo": root})
    return pool


def repository_around(here: Path) -> Path | None:
    """The git checkout that a directory is in."""
    return next((at for at in (here, *here.parents) if (at / ".git").exists()), None)


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"
