"""Where the demonstration happens: a folder of its own with repository, pool, settings, and perhaps a simulated model.

Nothing of the user's pools is touched: settings come from a file in the folder, no `CLAUDE_POOL_*` variable gets in,
and the pool's name is new. With the simulated model no sign-in and no proxy of the user reaches the node either.
`Stage.leftovers` finds what is still alive afterwards, by the mark that every process of a pool carries.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_pool import embedded, git
from claude_pool.cli.demo_jobs import FILES
from claude_pool.config import FILE_NAME, PREFIX, PoolConfig, load
from claude_pool.errors import InvalidRequest
from claude_pool.models.task import BranchFacts

SLOTS: Final = 2
MODEL: Final = "haiku"
BUDGET_USD: Final = 1.0
TASK_BUDGET_USD: Final = 0.25

_SIGN_IN = ("ANTHROPIC_", "CLAUDE_CODE_", "CLAUDE_CONFIG_DIR", "AWS_", "GOOGLE_", "AZURE_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True, slots=True)
class Stage:
    """A prepared place: settings, the node's environment, the repository."""

    folder: Path
    config: PoolConfig
    env: Mapping[str, str]
    simulated: bool

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    def untouched(self) -> bool:
        """Whether the repository's own checkout is as it was made: no task worked in it."""
        same = all((self.repo / name).read_text() == text for name, text in FILES.items())
        return same and not _git(self.repo).text("status", "--porcelain")

    def patch(self, branch: BranchFacts) -> str:
        """What a branch changes."""
        wanted = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", branch.base, branch.tip, "--")
        return _git(self.repo).text(*wanted)

    def leftovers(self) -> list[int] | None:
        """Processes of this pool that are still alive; None where the system does not tell."""
        return marked(self.config.name)


def marked(pool: str) -> list[int] | None:
    """Processes whose environment names this pool."""
    mark = f"{PREFIX}NAME={pool}".encode()
    if not (proc := Path("/proc")).is_dir():
        return None
    found: list[int] = []
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes()
        except OSError:  # somebody else's, or gone
            continue
        if mark in variables.split(b"\0"):
            found.append(int(entry.name))
    return sorted(found)


@contextmanager
def stage(folder: Path, *, claude: Path, simulated: Mapping[str, str] | None) -> Generator[Stage]:
    """Build the place; at the end stop its Redis. `simulated` is what leads the CLI to the simulated model, if any."""
    place = prepare(folder, claude=claude, simulated=simulated)
    try:
        yield place
    finally:
        embedded.stop(place.config, force=True)


def prepare(folder: Path, *, claude: Path, simulated: Mapping[str, str] | None) -> Stage:
    """Make repository and settings in an empty folder. Raises InvalidRequest when it is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(f"{folder} is not an empty folder.", hint="Name one that does not exist yet.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _make_repository(folder / "repo")
    name = f"demo-{secrets.token_hex(4)}"
    settings: dict[str, str | int | float] = {
        "name": name,
        "home": str(folder / "home"),
        "node": "demo",
        "slots": SLOTS,
        "claude": str(claude),
        "model": MODEL,
        "repo": str(folder / "repo"),
        "budget_usd": BUDGET_USD * (100 if simulated else 1),
        "redis_linger_s": 1,
    }
    settings |= {} if simulated else {"task_budget_usd": TASK_BUDGET_USD}
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    (folder / FILE_NAME).write_text("# the demonstration's own pool\n" + "\n".join(lines) + "\n")
    env = environment(os.environ, simulated=simulated)
    return Stage(folder, load(env=env, cwd=folder)[0], env, simulated=simulated is not None)


def environment(given: Mapping[str, str], *, simulated: Mapping[str, str] | None) -> dict[str, str]:
    """The node's environment: without settings of other pools, and for the simulated model without any sign-in."""
    kept = {name: value for name, value in given.items() if not name.startswith(PREFIX)}
    if simulated is None:
        return kept
    own = {
        name: value for name, value in kept.items() if not name.startswith(_SIGN_IN) and name.lower() not in _PROXIES
    }
    return {**own, **simulated, f"{PREFIX}SIMULATED": "1"}


def _make_repository(repo: Path) -> None:
    repo.mkdir()
    for name, text in FILES.items():
        (repo / name).write_text(text)
    git.plain("init", "--quiet", "--initial-branch=main", ".", cwd=repo)
    who = {"GIT_AUTHOR_NAME": "claude-pool demo", "GIT_AUTHOR_EMAIL": "demo@localhost"}
    who |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in who.items()}
    place = _git(repo)
    place.run("add", "--all")
    place.run("commit", "--quiet", "--message", "A small converter of temperatures", env=who)


def _git(repo: Path) -> git.Git:
    return git.Git(git.GitPlace(common_dir=repo / ".git", git_dir=repo / ".git", work_tree=repo))
