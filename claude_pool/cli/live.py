"""Waiting in front of a person: the pool's own wait, with live lines and bars when stderr is a terminal.

Ctrl-C ends the waiting, never the task; whoever waits says so with `goes_on`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Final, Literal

from claude_pool.cli import output
from claude_pool.cli.graph_render import picture
from claude_pool.cli.render import count, task_line
from claude_pool.ids import kind_of
from claude_pool.models.task import Task, TaskState
from claude_pool.text import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from claude_pool.desks.tasks import Waited
    from claude_pool.pool import Pool

_GLANCE_S: Final = 1.0
"""How often the lines on a terminal are renewed."""
_LINES: Final = 12
_ROWS: Final = 20
"""Steps and branches that are shown of everything that is waited for, together."""


def now_ms() -> int:
    """This machine's clock, to say how long ago something was."""
    return round(time.time() * 1000)


class Latest:
    """What each running task did last, from its log: fresher than the progress that comes with a slot's heartbeat."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._seen: dict[str, tuple[str, str]] = {}

    def of(self, task: Task) -> Task:
        """The task with its latest log line as its progress."""
        if task.state is not TaskState.RUNNING or kind_of(task.id) != "task":
            return task
        after, doing = self._seen.get(task.id, ("", task.progress))
        for entry in self._pool.stream(task.id, after=after, follow=False):
            after = entry.id
            if entry.kind != "tool_result":
                doing = one_line(f"{entry.tool or ''} {entry.text}")
        self._seen[task.id] = after, doing
        return task.evolve(progress=doing)


def wait(
    pool: Pool,
    ids: Collection[str],
    *,
    until: Literal["any", "all"] = "all",
    after: str | None = None,
    timeout_s: float | None = None,
) -> Waited:
    """`Pool.wait`; on a terminal one can see what it waits for."""
    first = pool.wait(ids, until=until, after=after, timeout_s=0)
    if not first.timed_out:
        return first
    warn_without_slots(pool)
    if not sys.stderr.isatty():
        return pool.wait(ids, until=until, after=after, timeout_s=timeout_s)
    return _wait_and_show(pool, ids, until=until, after=after, timeout_s=timeout_s)


def _wait_and_show(
    pool: Pool, ids: Collection[str], *, until: Literal["any", "all"], after: str | None, timeout_s: float | None
) -> Waited:
    from rich.live import Live  # noqa: PLC0415 - 0.1 s, and only where there is a terminal

    latest = Latest(pool)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with Live(console=output.console(sys.stderr), transient=True, auto_refresh=False) as live:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            waited = pool.wait(
                ids, until=until, after=after, timeout_s=_GLANCE_S if left is None else min(_GLANCE_S, left)
            )
            if not waited.timed_out or (deadline is not None and time.monotonic() >= deadline):
                return waited
            live.update(_lines(pool, waited, latest), refresh=True)


def _lines(pool: Pool, waited: Waited, latest: Latest) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415 - as above

    lines = [_one(pool, id_, latest, most=_ROWS // len(waited.running[:_LINES])) for id_ in waited.running[:_LINES]]
    if len(waited.running) > _LINES:
        lines.append(Text(f"… and {len(waited.running) - _LINES} more"))
    if waited.finished:
        lines.append(Text(f"{len(waited.finished)} finished"))
    shown = Text("\n", overflow="ellipsis", no_wrap=True).join(lines)
    shown.rstrip()
    return shown


def _one(pool: Pool, id_: str, latest: Latest, *, most: int) -> Text:
    """What is seen of one task, chain or fan-out."""
    from rich.text import Text  # noqa: PLC0415 - as above

    if kind_of(id_) == "task":
        return Text(task_line(latest.of(pool.get(id_)), now_ms=now_ms()))
    progress = pool.chain_progress(id_) if kind_of(id_) == "chain" else pool.fan_out_progress(id_)
    return picture(progress, now_ms=now_ms(), most=max(most, 3))


def warn_without_slots(pool: Pool) -> None:
    """Say so when nobody is there to do the work: the wait would be a long one."""
    if pool.status().slots == 0:
        output.note("No slot is there: tasks wait until one comes. Start some with `claude-pool up`.")


def goes_on(ids: Collection[str]) -> int:
    """After Ctrl-C: what becomes of the tasks, and how to stop them. The exit code."""
    shown = " ".join(ids) if len(ids) <= 3 else "ID …"
    verb = "goes" if len(ids) == 1 else "go"
    kinds = {kind_of(id_) or "task" for id_ in ids}
    what = count(len(ids), kinds.pop() if len(kinds) == 1 else "id")
    output.note(f"\nNo longer waiting; {what} {verb} on. To stop: claude-pool cancel {shown}")
    return output.INTERRUPTED
