"""What people see: records to lines and tables. Pure; whether it ends on a terminal is decided in `output`.

Whatever a model or a repository may have had a hand in (titles, progress, log lines, output, branch names) is cleaned
before it is shown, and never read as rich markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from claude_pool.models.events import LogEntry
from claude_pool.models.pool import DrainSummary, Finding, Node, PoolStatus, Slot
from claude_pool.models.task import BranchFacts, Task, TaskError, TaskResult, TaskState
from claude_pool.models.workspace import Forecast, Outlook
from claude_pool.text import clean, excerpt, one_line

if TYPE_CHECKING:
    from rich.table import Table as RichTable

COLOURS: Final = {
    "completed": "green", "ok": "green", "idle": "green", "running": "cyan", "busy": "cyan", "claimed": "cyan",
    "pending_review": "magenta", "parked": "yellow", "warning": "yellow", "leaving": "yellow", "cancelled": "yellow",
    "failed": "red", "error": "red", "errored": "red",
}  # fmt: skip
NOTHING: Final = "-"
SIMULATED: Final = "simulated model: no answer here comes from a real one, and nothing was paid"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings. The last column takes the room that is left; a column named in `right` is aligned so."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str] = frozenset()

    def plain(self) -> str:
        """Padded columns, never cut, without a trace of colour."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]

        def padded(line: Sequence[str]) -> str:
            cells = [
                cell.rjust(width) if name in self.right else cell.ljust(width)
                for cell, width, name in zip(line, widths, self.columns, strict=True)
            ]
            return "  ".join(cells).rstrip()

        return "\n".join(padded(line) for line in lines)

    def rich(self) -> RichTable:
        """For a terminal: bold headings, states in colour, the last column cut to fit."""
        from rich.cells import cell_len  # noqa: PLC0415 - the same
        from rich.table import Table as RichTable  # noqa: PLC0415 - 0.1 s that a pipe need not pay
        from rich.text import Text  # noqa: PLC0415 - the same

        table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for place, name in enumerate(self.columns):
            last = name == self.columns[-1]
            widest = max((cell_len(row[place]) for row in self.rows), default=0)
            table.add_column(
                name,
                justify="right" if name in self.right else "left",
                no_wrap=not last,  # only what may wrap gives way; the text itself is then cut instead
                overflow="ellipsis",
                min_width=None if last else max(widest, cell_len(name)),  # an id that is cut is of no use
            )
        for row in self.rows:
            table.add_row(*(Text(cell, style=COLOURS.get(cell, ""), no_wrap=True, overflow="ellipsis") for cell in row))
        return table


Block = str | Table


def money(usd: float | None) -> str:
    """`$0.0123`; four places, because a task costs cents."""
    return NOTHING if usd is None else f"${usd:,.4f}"


def span(ms: float) -> str:
    """A duration: `340 ms`, `4.2 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    seconds = ms / 1000
    if ms < 1000:
        return f"{max(0, round(ms))} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def count(number: int, what: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def moment(at_ms: int) -> str:
    """A time of this machine's clock zone."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%H:%M:%S")


def state_word(task: Task) -> str:
    """The state and what it waits for: `parked: retry until 10:31:00`."""
    word = task.state.value
    if task.state is TaskState.PARKED and task.parked_for is not None:
        word += f": {task.parked_for.value}"
        word += f" until {moment(task.until_ms)}" if task.until_ms is not None else ""
    elif task.cancel_requested and not task.state.final:
        word += ", being stopped"
    return word


def task_table(tasks: Iterable[Task], *, now_ms: int) -> Table:
    """One line a task, newest first as the store gives them."""
    rows = tuple(
        (task.id, state_word(task), span(now_ms - task.since_ms), money(task.cost_usd), ",".join(task.options.tags),
         one_line(task.title))
        for task in tasks
    )  # fmt: skip
    return Table(("ID", "STATE", "SINCE", "COST", "TAGS", "TITLE"), rows, frozenset({"SINCE", "COST"}))


def task_line(task: Task, *, now_ms: int) -> str:
    """One task while it is watched: id, state, slot, how long, latest sign of life."""
    parts = [task.id, state_word(task), span(now_ms - task.since_ms)]
    if task.slot and not task.state.final:
        parts.append(f"on {task.slot}")
    doing = one_line(task.progress or task.title)
    return "  ".join(parts) + (f"  {doing}" if doing else "")


def status_screen(
    status: PoolStatus, slots: Sequence[Slot], nodes: Sequence[Node], tasks: Mapping[str, Task], *, now_ms: int
) -> list[Block]:
    """The pool in one screen: counts, money, then each slot with what it runs."""
    counts = " · ".join(
        f"{name.replace('_', ' ')} {number}"
        for name in (
            "blocked",
            "pending",
            "claimed",
            "running",
            "parked",
            "pending_review",
            "completed",
            "failed",
            "cancelled",
        )
        if (number := getattr(status, name)) or name in {"pending", "running"}
    )
    spent = f"spent {money(status.spent_usd)}"
    spent += f" of {money(status.budget_usd)}" if status.budget_usd is not None else ""
    spent += f", {money(status.reserved_usd)} reserved" if status.reserved_usd else ""
    blocks: list[Block] = [
        f"pool {status.pool}: {count(status.slots, 'slot')} ({status.idle} idle, {status.busy} busy) "
        f"on {count(status.nodes, 'node')}" + ("" if status.accepting else ", takes no new tasks"),
        f"tasks: {counts}",
        spent,
    ]
    blocks += [SIMULATED] if status.simulated else []
    blocks += [f"! {one_line(text)}" for text in status.notes]
    if slots:
        blocks += ["", slot_table(slots, tasks, now_ms=now_ms)]
    blocks += [
        f"{node.identity.node}: {node.orders.mode.value}" + ("" if node.alive else ", no sign of life")
        for node in nodes
        if not node.alive or node.orders.mode.value != "run"
    ]
    return blocks


def outlook_lines(outlook: Outlook) -> list[Block]:
    """How the open branches stand; nothing when there are none."""
    if not outlook.open:
        return []
    head = f"branches: {outlook.open} to merge into {one_line(outlook.target or '')}"
    head += f", of which {outlook.looked_at} were looked at" if outlook.looked_at < outlook.open else ""
    lines: list[Block] = [f"{head}, {count(len(outlook.conflicts), 'conflict')}"]
    lines += [f"  {one_line(one.branch)} conflicts with {_against(one)}" for one in outlook.conflicts]
    return [*lines, *(f"  {one_line(one.branch)} gets in the way of {_against(one)}" for one in outlook.collisions)]


def _against(forecast: Forecast) -> str:
    files = ", ".join(one_line(conflict.path, 100) for conflict in forecast.conflicts[:3])
    more = len(forecast.conflicts) - 3
    return f"{one_line(forecast.into)}: {files}" + (f" and {more} more" if more > 0 else "")


def slot_table(slots: Iterable[Slot], tasks: Mapping[str, Task], *, now_ms: int) -> Table:
    """Each slot, and what it runs."""

    def doing(slot: Slot) -> str:
        task = tasks.get(slot.task_id or "")
        text = slot.reason if task is None else ": ".join(part for part in (task.title, task.progress) if part)
        return one_line(text)

    rows = tuple(
        (slot.slot_id, slot.state.value, span(now_ms - slot.since_ms) if slot.since_ms else NOTHING,
         str(slot.tasks_done), slot.task_id or NOTHING, doing(slot))
        for slot in slots
    )  # fmt: skip
    return Table(("SLOT", "STATE", "SINCE", "DONE", "TASK", "DOING"), rows, frozenset({"SINCE", "DONE"}))


def output_text(result: TaskResult) -> str:
    """The answer itself: structured output as JSON when there is no text beside it."""
    if result.output or result.structured_output is None:
        return result.output
    return _json(result.structured_output)


def _json(value: Any) -> str:
    import json  # noqa: PLC0415 - wanted by a few results only

    return json.dumps(value, indent=2)


def summary(result: TaskResult) -> list[str]:
    """What is said on stderr under a task's output: state, cost, time, branch, and why it failed."""
    parts = [
        result.task_id,
        result.state.value,
        money(result.cost_usd) + (" (estimated)" if result.cost_estimated else ""),
    ]
    parts += [span(result.run_ms)] if result.run_ms else []
    parts += [count(result.num_turns, "turn")] if result.num_turns else []
    parts += [one_line(result.model)] if result.model else []
    lines = [" · ".join(parts)]
    lines += [branch_line(result.branch)] if result.branch else []
    lines += [f"  the branch is {one_line(result.branch_note)}"] if result.branch_note else []
    lines += error_lines(result.error) if result.error else []
    lines += [f"  not allowed: {one_line(denial.tool_name)}" for denial in result.denials[:5]]
    lines += [f"  MCP server left out: {one_line(name)}" for name in result.mcp_failed]
    if result.output_path:
        lines.append(f"  the whole output ({result.output_bytes:,} bytes): {result.output_path} on {result.node}")
    lines += [f"  {SIMULATED}"] if result.simulated else []
    return lines


def branch_line(branch: BranchFacts) -> str:
    """`  branch pool/t-… : 2 commits, 3 files, +10 -2`."""
    return (
        f"  branch {one_line(branch.branch)}: {count(branch.commits, 'commit')}, {count(branch.files, 'file')}, "
        f"+{branch.insertions} -{branch.deletions}"
    )


def error_lines(error: TaskError) -> list[str]:
    """Why it failed, what to do, and the evidence."""
    lines = [f"  {error.code.value}: {excerpt(error.message)}"]
    lines += [f"  {one_line(error.hint)}"] if error.hint else []
    lines += [f"  | {line}" for line in excerpt(error.detail, 1000).splitlines() if line not in error.message]
    return lines


_MARKS: Final = {
    "start": "▶", "thinking": "…", "tool": "→", "tool_result": "←", "retry": "↻", "limit": "!", "notice": "i",
    "error": "✗", "result": "■",
}  # fmt: skip


def log_lines(entry: LogEntry) -> list[str]:
    """One entry of a log, readable: time, mark, and text whose further lines are indented under the first."""
    text = clean(entry.text).rstrip()
    if entry.tool and not text.startswith(entry.tool):
        text = f"{one_line(entry.tool, 80)} {text}".rstrip()
    first, *rest = text.split("\n")
    head = f"{moment(entry.at_ms)} {_MARKS.get(entry.kind, ' ')} "
    return [head + first, *(" " * len(head) + line for line in rest)]


def drain_lines(left: DrainSummary) -> list[str]:
    """What a drain left behind."""
    lines = [
        (
            f"Drained in {span(left.duration_ms)}: {len(left.finished)} finished, "
            f"{len(left.checkpointed)} checkpointed, {left.waiting} waiting, cost {money(left.cost_usd)}."
        )
    ]
    if left.checkpointed:
        lines.append(f"They continue when slots are there again: {', '.join(left.checkpointed)}.")
    if left.slots_left:
        lines.append(f"{count(left.slots_left, 'slot')} did not leave in time.")
    return lines


def finding_table(findings: Iterable[Finding]) -> list[Block]:
    """The doctor's findings; under them what to do about those that are not well."""
    listed = list(findings)
    table = Table(
        ("HEALTH", "WHAT", "FOUND"), tuple((found.health, found.name, one_line(found.detail, 400)) for found in listed)
    )
    todo = [f"{found.name}: {found.hint}" for found in listed if found.hint and found.health != "ok"]
    return [table, "", "What to do:", *(f"  {line}" for line in todo)] if todo else [table]
