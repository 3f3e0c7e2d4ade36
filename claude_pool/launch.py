"""Starts our programs, or says who stands in their place; the console scripts begin here.

`workers` and `mcp_server` are names that other distributions own and that users' repositories use for folders of their
own, and we run inside those repositories. So a program is looked up by name, as a string, and started only when

1. the package that Python would import lies beside `claude_pool` (a user's folder on PYTHONPATH does not), and
2. no other installed distribution claims files of that package (pip lets one overwrite another without a word).

Otherwise the program ends with one sentence and exit code 3. Nothing heavy is imported before that: `--version` is
answered from here. The second check reads the RECORD files beside us rather than asking `importlib.metadata`, which
took 0.29 s of a start in an environment of 95 distributions; this takes 0.03 s.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from claude_pool._version import __version__
from claude_pool.errors import PoolError, Shadowed

if TYPE_CHECKING:
    from claude_pool.models.pool import Finding

PROGRAMS: Final = ("workers", "mcp_server")
"""The packages beside ours. The library knows them by these strings alone and imports neither."""

_HOME: Final = Path(__file__).resolve().parent.parent
_OURS: Final = "claude_pool"


def cli() -> int | None:
    """The script `claude-pool`."""
    return _run("claude_pool.cli.main")


def worker() -> int | None:
    """The script `claude-pool-worker`."""
    return _run("workers.main")


def mcp() -> int | None:
    """The script `claude-pool-mcp`."""
    return _run("mcp_server.main")


def load(name: str) -> ModuleType:
    """A module of one of our programs, such as `workers.inline`. Raises Shadowed when it would be somebody else's."""
    neutral_path()
    package = name.partition(".")[0]
    if package != _OURS and (objection := _objection(package)):
        raise Shadowed(objection[0], hint=objection[1])
    return importlib.import_module(name)


def check(names: Sequence[str] = PROGRAMS) -> list[Finding]:
    """What `doctor` says about our packages' names, one finding each."""
    from claude_pool.models.pool import Finding  # noqa: PLC0415 - pydantic would triple the time of `--version`

    def one(name: str) -> Finding:
        if objection := _objection(name):
            return Finding(name=name, health="error", detail=objection[0], hint=objection[1])
        return Finding(name=name, health="ok", detail=f"The package {name} is claude-pool's own.")

    return [one(name) for name in names]


def neutral_path() -> None:
    """Take the working directory off the import path, unless claude-pool itself is developed there.

    A program of the pool runs inside its user's repository and imports nothing from it; with `PYTHONPATH=.` a folder
    `redis` or `typing.py` there would otherwise be ours.
    """
    try:
        here = Path.cwd().resolve()
    except OSError:  # the directory was removed while we stood in it
        here = None
    sys.path[:] = [entry for entry in sys.path if _keeps(entry, here)]


def _keeps(entry: str, here: Path | None) -> bool:
    if entry in {"", "."}:
        return False
    place = Path(entry).resolve()
    return place != here or place == _HOME


def _run(name: str) -> int | None:
    if sys.argv[1:] in (["--version"], ["-V"]):
        sys.stdout.write(f"claude-pool {__version__}\n")
        return 0
    try:
        program = load(name)
    except PoolError as error:
        sys.stderr.write(f"{Path(sys.argv[0]).name}: {error}\n")
        return error.exit_code
    return program.main()


def _objection(package: str) -> tuple[str, str] | None:
    """Why this package must not be imported, and what to do; None when it is ours."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return (
            f"The package {package} of claude-pool is not where it belongs, in {_HOME}.",
            "Another package may have taken it along when it was uninstalled: install claude-pool again.",
        )
    if (found := Path(spec.origin).resolve().parent) != _HOME / package:
        return (
            f"The package {package} at {found} shadows claude-pool's own at {_HOME / package}.",
            "Start claude-pool without PYTHONPATH, or install it on its own: uv tool install claude-pool.",
        )
    if others := sorted(_other_owners(package)):
        return (
            f"The package {package} at {found} is claimed by {' and '.join(others)} as well as by claude-pool.",
            "One may have overwritten the other: install claude-pool on its own: uv tool install claude-pool.",
        )
    return None


def _other_owners(package: str) -> Iterator[str]:
    """Distributions in our own folder, other than ours, whose list of files names the package."""
    prefix = f"{package}/"
    for record in _HOME.glob("*.dist-info/RECORD"):
        name, _, version = record.parent.name.removesuffix(".dist-info").partition("-")
        text = record.read_text(encoding="utf-8", errors="replace")
        if name != _OURS and (text.startswith(prefix) or f"\n{prefix}" in text):
            yield f"{name.replace('_', '-')} {version}"
