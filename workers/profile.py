"""Profile: what makes two runs alike enough that a process started for the one can serve the other. Pure.

A profile is a digest of everything that belongs to a process's start: arguments, environment and files, without what
names a single run (its session, its run and its task). The working directory is not in it, as it is compared by
itself: a directory may be another one under the same path. Whatever a task changes of model, tools, schema, system
prompt, settings, budget or environment makes another profile, since it makes another command line.

`Habits` says which profile is worth a process of its own: the one that was used most of late.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from claude_pool.models.base import Record
from claude_pool.models.run import RunFacts, StopCause
from workers.command import Launch

SESSION: Final = "--session-id="
OF_ONE_RUN: Final = ("CLAUDE_POOL_RUN", "CLAUDE_POOL_TASK")
"""Variables that name a run. In a process that was started ahead the first names the process, the second is missing."""

_NEEDS_ITS_OWN: Final = ("--resume", "--fork-session", "--mcp-config")
"""A session to go on with, and servers that would do things and hold things before anybody asked them to."""

_FADES: Final = 0.7
_CLEARLY: Final = 1.5
_REMEMBERED: Final = 8


def profile_of(launch: Launch) -> str | None:
    """The digest of a launch; None for one that wants a process started for itself.

    One that reads the repository's own settings does: it reads them at its start, before the branch is checked out.
    """
    argv = [word for word in launch.argv if not word.startswith(SESSION)]
    if any(word.startswith(_NEEDS_ITS_OWN) for word in argv) or "--strict-mcp-config" not in argv:
        return None
    env = {name: value for name, value in launch.env.items() if name not in OF_ONE_RUN}
    told = json.dumps([argv, sorted(env.items()), sorted(launch.files.items())])
    return hashlib.sha256(told.encode()).hexdigest()


def ahead(launch: Launch, *, session_id: str, run_id: str) -> Launch:
    """The launch of a process for later: like this one, under names of its own."""
    argv = tuple(f"{SESSION}{session_id}" if word.startswith(SESSION) else word for word in launch.argv)
    env = {name: value for name, value in launch.env.items() if name not in OF_ONE_RUN}
    return launch.evolve(argv=argv, env={**env, OF_ONE_RUN[0]: run_id})


class Wear(Record):
    """What a process that serves several tasks may have been through before it is renewed."""

    most_tasks: int
    most_bytes: int


def worn(facts: RunFacts, *, tasks: int, resident_bytes: int, wear: Wear) -> str:
    """Why a process is not to serve another task after this run; empty when it may."""
    odd = facts.bad_lines or facts.result_count != 1 or facts.denials or facts.api_retries or facts.mcp_failed
    reasons = {
        "its run was stopped": facts.stopped is not StopCause.NONE,
        "its run failed": facts.is_error or not facts.has_result,
        "its run was out of the ordinary": bool(odd),
        f"it has served {tasks} tasks": tasks >= wear.most_tasks,
        f"it holds {resident_bytes:,} bytes": resident_bytes > wear.most_bytes,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


class Habits:
    """Which profiles a slot was asked for lately. Older uses weigh less and less."""

    def __init__(self) -> None:
        self._weights: dict[str, float] = {}
        self._launches: dict[str, tuple[Launch, bool]] = {}
        self._kept: str | None = None

    def note(self, profile: str, launch: Launch, *, scratch: bool) -> None:
        """A task of this profile was carried out, in a directory of its own when `scratch`."""
        self._weights = {name: weight * _FADES for name, weight in self._weights.items()}
        self._weights[profile] = self._weights.get(profile, 0.0) + 1
        self._launches[profile] = (launch, scratch)
        while len(self._weights) > _REMEMBERED:
            least = min(self._weights, key=self._weights.__getitem__)
            del self._weights[least], self._launches[least]

    def commonest(self) -> tuple[str, Launch, bool] | None:
        """The profile to keep ready: another one than before only when it is clearly more wanted.

        So two profiles in turn find every other time what they want, instead of never.
        """
        if not self._weights:
            return None
        best = max(self._weights, key=self._weights.__getitem__)
        if self._kept is None or self._weights[best] > _CLEARLY * self._weights.get(self._kept, 0.0):
            self._kept = best
        return (self._kept, *self._launches[self._kept])
