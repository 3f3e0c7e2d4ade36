"""Chains and fan-outs for people: a bar a step or branch while they run, tables and answers afterwards. Pure.

A bar is full when its step has ended, empty while it waits, and moves while a model works, as nobody knows how far that
one is; a fan-out's bar says how many of its branches have ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from claude_pool.cli.render import COLOURS, NOTHING, Table, count, error_lines, money, span
from claude_pool.models.chain import SKIPPED, ChainProgress, ChainResult, StepProgress
from claude_pool.models.fanout import BranchProgress, BranchResult, FanOutProgress, FanOutResult
from claude_pool.models.task import TaskState
from claude_pool.text import clean, one_line, shorten

if TYPE_CHECKING:
    from rich.text import Text

    from claude_pool.chain_files import Found
    from claude_pool.models.graph import Whole

Progress = ChainProgress | FanOutProgress

WIDTH: Final = 20
_PULSE: Final = 5
_STEP_MS: Final = 150
_MOST_NAME: Final = 32
_ENDED: Final = frozenset({"completed", "failed", "cancelled", SKIPPED})
_WAITING: Final = frozenset({"blocked", "pending"})
_STYLES: Final = {**COLOURS, SKIPPED: "dim", "blocked": "dim", "pending": "dim"}


def bar(one: BranchProgress, *, now_ms: int, width: int = WIDTH) -> str:
    """The bar of one step or branch."""
    if one.state in _ENDED:
        return ("╌" if one.state == SKIPPED else "━") * width
    ended, of, total = one.progress.partition(" of ")
    if isinstance(one, StepProgress) and one.fan_out and of and ended.isdecimal() and total.isdecimal():
        return _filled(int(ended), int(total), width)
    if one.state in _WAITING or one.started_ms is None:
        return "╌" * width
    if one.state != TaskState.RUNNING:
        return "━" * (width // 2) + "╌" * (width - width // 2)
    at = (now_ms // _STEP_MS) % (width + _PULSE) - _PULSE
    return "".join("━" if at <= place < at + _PULSE else "╌" for place in range(width))


def _filled(ended: int, total: int, width: int) -> str:
    done = width * min(ended, total) // max(total, 1)
    return "━" * done + "╌" * (width - done)


def head(progress: Progress, *, now_ms: int) -> str:
    """`c-…  running  2 of 5 steps  $0.0200 of $1.0000  12.0 s  title`."""
    if isinstance(progress, ChainProgress):
        id_, done = progress.chain_id, f"{_ended(progress.steps)} of {count(progress.total_steps, 'step')}"
    else:
        id_, done = progress.fan_out_id, f"{progress.ended} of {_branches(progress.total)}"
        done += f", {progress.failed} failed" if progress.failed else ""
        done += ", gathering" if progress.gathering and not progress.state.final else ""
    spent = money(progress.cost_usd) + (f" of {money(progress.budget_usd)}" if progress.budget_usd else "")
    took = span((progress.ended_ms or now_ms) - progress.created_ms)
    return "  ".join([id_, progress.state.value, done, spent, took, one_line(progress.title, 60)]).rstrip()


def _branches(number: int) -> str:
    return f"{number} branch" + ("" if number == 1 else "es")


def _ended(steps: Sequence[BranchProgress]) -> int:
    return sum(step.state in _ENDED for step in steps)


def rows_of(progress: Progress) -> tuple[BranchProgress, ...]:
    """Its steps or branches."""
    return progress.steps if isinstance(progress, ChainProgress) else progress.branches


def chosen(progress: Progress, most: int) -> tuple[Sequence[BranchProgress], str]:
    """The rows that there is room for, and what is said of the others: those at work matter most."""
    rows = rows_of(progress)
    if len(rows) <= most:
        return rows, ""
    if isinstance(progress, ChainProgress):
        first = max(0, min((progress.current_step or 0) - most // 2, len(rows) - most))
        shown: Sequence[BranchProgress] = rows[first : first + most]
    else:
        order = sorted(rows, key=lambda one: (one.state in _WAITING) + 2 * (one.state in _ENDED))
        shown = order[:most]
    left = [one.state for one in rows if one not in shown]
    words = ", ".join(f"{left.count(state)} {state}" for state in dict.fromkeys(left))
    return shown, f"… and {words}"


def picture(progress: Progress, *, now_ms: int, most: int = 16) -> Text:
    """All of it for a live view."""
    from rich.text import Text  # noqa: PLC0415 - 0.1 s, and only where there is a terminal

    rows, rest = chosen(progress, most)
    width = min(max((len(one_line(row.name)) for row in rows), default=0), _MOST_NAME)
    text = Text(head(progress, now_ms=now_ms) + "\n", overflow="ellipsis", no_wrap=True)
    for row in rows:
        style = _STYLES.get(row.state, "")
        text.append(f"  {shorten(one_line(row.name), _MOST_NAME):<{width}}  ")
        text.append(bar(row, now_ms=now_ms), style=style)
        text.append(f"  {row.state:<9}", style=style)
        text.append(f"  {took(row, now_ms=now_ms):>12}  {money(row.cost_usd) if row.cost_usd else '':>8}")
        text.append(f"  {one_line(doing(row), 80)}\n", style="dim")
    if rest:
        text.append(f"  {rest}\n", style="dim")
    return text


def took(row: BranchProgress, *, now_ms: int) -> str:
    """How long it takes or took; nothing before it begins."""
    if row.started_ms is None or row.state == SKIPPED:
        return ""
    return span((row.ended_ms or now_ms) - row.started_ms)


def doing(row: BranchProgress) -> str:
    """Its latest sign of life, its repeats, or why it failed."""
    if row.error is not None and row.state not in {"completed", SKIPPED}:
        return f"{row.error.code.value}: {row.error.message}"
    again = f"retry {row.retries}" if row.retries else ""
    return ": ".join(part for part in (again, row.progress) if part)


def table(progress: Progress, *, now_ms: int) -> Table:
    """Steps or branches as a table."""
    rows = tuple(
        (one_line(row.name, 60), row.id, row.state, took(row, now_ms=now_ms) or NOTHING, money(row.cost_usd),
         one_line(doing(row)))
        for row in rows_of(progress)
    )  # fmt: skip
    name = "STEP" if isinstance(progress, ChainProgress) else "BRANCH"
    return Table((name, "ID", "STATE", "TIME", "COST", "WHAT"), rows, frozenset({"TIME", "COST"}))


def answers(results: Sequence[BranchResult]) -> str:
    """What branches said, each under its label."""
    return "\n\n".join(f"== {one_line(one.label)}: {one.state}\n{_said(one)}".rstrip() for one in results)


def _said(one: BranchResult) -> str:
    why = "\n".join(error_lines(one.error)) if one.error and one.state not in {"completed", SKIPPED} else ""
    return "\n".join(part for part in (one.output, why) if part)


def whole_lines(result: ChainResult | FanOutResult) -> list[str]:
    """What is said under the answer of a chain or a fan-out."""
    branch = result.branch if isinstance(result, ChainResult) else result.gather.branch if result.gather else None
    lines = [f"  branch {one_line(branch.branch)}"] if branch else []
    return [*lines, *(error_lines(result.error) if result.error else [])]


def named_table(found: Sequence[Found]) -> Table:
    """Reusable chains."""
    rows = tuple(
        (one.name, ", ".join(_argument(name, required=arg.required) for name, arg in one.chain.args.items()) or NOTHING,
         one_line(one.trouble or one.chain.description)) if one.chain
        else (one.name, NOTHING, f"can't be used: {one_line(one.trouble)}")
        for one in found
    )  # fmt: skip
    return Table(("CHAIN", "ARGUMENTS", "WHAT"), rows)


def _argument(name: str, *, required: bool) -> str:
    return name if required else f"[{name}]"


def named_lines(found: Found) -> list[str]:
    """One reusable chain: what it is for, its arguments, its steps."""
    lines = [f"{found.name}  {found.path}"]
    if found.chain is None:
        return [*lines, f"  can't be used: {clean(found.trouble)}"]
    lines += [f"  {clean(found.chain.description)}", "", "arguments:"]
    for name, one in found.chain.args.items():
        default = "required" if one.required else f"default {one.default}"
        lines.append(f"  {name} ({one_line(default)}): {one_line(one.description)}")
    lines += ["steps:"]
    for number, step in enumerate(found.chain.steps, 1):
        what = _branches(len(step.fan_out.branches)) if step.fan_out else one_line(step.prompt or "", 90)
        lines.append(f"  {number}. {step.name}: {what}" + (f"  (when {one_line(step.when)})" if step.when else ""))
    return [*lines, *([f"can't be used: {clean(found.trouble)}"] if found.trouble else [])]


def wholes_table(wholes: Sequence[Whole], *, now_ms: int) -> Table:
    """Chains and fan-outs that were handed in."""
    rows = tuple(
        (one.id, (one.waiting or one.state).value, f"{one.ended} of {one.total}", span(now_ms - one.created_ms),
         money(one.cost_usd), one_line(one.title))
        for one in wholes
    )  # fmt: skip
    return Table(("ID", "STATE", "ENDED", "AGE", "COST", "TITLE"), rows, frozenset({"AGE", "COST"}))
