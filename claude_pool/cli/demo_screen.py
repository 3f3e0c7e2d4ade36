"""What the audience of the demonstration sees: a live picture on a terminal, plain lines anywhere else.

Every picture and every line says so when the model is simulated. All text from tasks is cleaned by `render`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

from claude_pool.cli import output
from claude_pool.cli.live import now_ms
from claude_pool.cli.render import COLOURS, count, money, slot_table, span, state_word
from claude_pool.models.pool import Slot
from claude_pool.models.task import Task
from claude_pool.text import clean, one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

REAL: Final = "real model"
SIMULATED: Final = "simulated model"


class Screen:
    """Shows the tasks while they run."""

    def __init__(self, stream: TextIO, *, simulated: bool) -> None:
        self.stream = stream
        self.label = SIMULATED if simulated else REAL
        self._live: Live | None = None
        self._told: dict[str, tuple[str, ...]] = {}
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        if self.stream.isatty():
            from rich.live import Live  # noqa: PLC0415 - 0.1 s, and only where there is a terminal

            live: AbstractContextManager[Any] = Live(
                console=output.console(self.stream), auto_refresh=False, transient=True
            )
            self._live = self._exit.enter_context(live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live = None
        self._exit.close()

    def say(self, text: str) -> None:
        """A line that stays, under the label of the model."""
        for line in text.splitlines() or [""]:
            self.stream.write(f"[{self.label}] {line}".rstrip() + "\n")
        self.stream.flush()

    def update(self, tasks: Sequence[Task], slots: Sequence[Slot]) -> None:
        """Show how things stand: the whole picture on a terminal, else what has changed."""
        if self._live is not None:
            self._live.update(self._picture(tasks, slots), refresh=True)
            return
        for task in tasks:
            word, where = state_word(task), task.slot if not task.settled else None
            doing = one_line(task.progress, 90) if where else ""
            if self._told.get(task.id) != (seen := (word, where or "", doing)):
                self._told[task.id] = seen
                parts = (task.id, f"{word:<9}", where, task.title, doing)
                self.say("  ".join(part for part in parts if part))

    def _picture(self, tasks: Sequence[Task], slots: Sequence[Slot]) -> RenderableType:
        from rich.console import Group  # noqa: PLC0415 - as above
        from rich.panel import Panel  # noqa: PLC0415 - as above
        from rich.text import Text  # noqa: PLC0415 - as above

        by_id = {task.id: task for task in tasks}
        rows = Text()
        for task in tasks:
            rows.append(f"{state_word(task):<10} ", style=COLOURS.get(task.state.value, "dim"))
            rows.append(f"{one_line(task.title, 40):<40} {money(task.cost_usd):>9}\n")
        done = sum(task.settled for task in tasks)
        spent = sum(task.cost_usd for task in tasks)
        return Panel(
            Group(slot_table(slots, by_id, now_ms=now_ms()).rich(), "", rows),
            title=f"claude-pool demo · {self.label}",
            subtitle=f"{done} of {count(len(tasks), 'task')} done · {money(spent)}",
            border_style="yellow" if self.label == SIMULATED else "green",
        )

    def patch(self, text: str) -> None:
        """A diff, coloured on a terminal."""
        colours = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"} if self.stream.isatty() else {}
        for line in clean(text).splitlines():
            colour = colours.get(line[:1], "")
            self.stream.write(f"    {colour}{line}{chr(27) + '[0m' if colour else ''}\n")
        self.stream.flush()


def overlap(spans: Mapping[str, Sequence[tuple[int, int]]]) -> int:
    """For how many milliseconds two slots ran something at the same time; `spans` are each slot's runs."""
    edges = sorted(edge for runs in spans.values() for start, end in runs for edge in ((start, 1), (end, -1)))
    together, running, since = 0, 0, 0
    for at, change in edges:
        together += at - since if running > 1 else 0
        running, since = running + change, at
    return together


def timeline(spans: Mapping[str, Sequence[tuple[int, int]]], width: int = 60) -> list[str]:
    """Each slot's runs as bars on one scale."""
    edges = [edge for runs in spans.values() for run in runs for edge in run]
    if not edges:
        return []
    first, whole = min(edges), max(1, max(edges) - min(edges))
    lines: list[str] = []
    for slot, runs in sorted(spans.items()):
        bar = [" "] * width
        for start, end in runs:
            left = min(width - 1, (start - first) * width // whole)
            right = max(left + 1, (end - first) * width // whole)
            bar[left:right] = ["="] * (min(width, right) - left)
            bar[left] = "|"
        lines.append(f"{slot:<14} {''.join(bar)}|")
    return [*lines, f"{'':<14} 0{span(whole):>{width}}"]
