"""Verbs for work that waits for somebody's word: review, approve, reject."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Final, Literal

import typer

from claude_pool.cli import output
from claude_pool.cli.counter import Json, open_pool
from claude_pool.cli.render import Block, Table, money, output_text, span, summary
from claude_pool.cli.tasks import TaskId, read_prompt
from claude_pool.documents import of_approved, of_rejected, of_review, of_reviews
from claude_pool.errors import InvalidRequest
from claude_pool.models.review import Review
from claude_pool.models.task import Task
from claude_pool.models.workspace import Forecast
from claude_pool.text import clean, one_line

EXAMPLES: Final = {
    "review": """claude-pool review
claude-pool review --next
claude-pool review --json t-8f3k2m9q0d | jq .forecast.state""",
    "approve": """claude-pool approve t-8f3k2m9q0d
claude-pool approve t-8f3k2m9q0d --merge squash
claude-pool approve t-8f3k2m9q0d --run $RUN --tip $TIP""",
    "reject": """claude-pool reject t-8f3k2m9q0d "The parser must keep comments."
claude-pool reject t-8f3k2m9q0d --file feedback.md""",
}

Run = Annotated[str | None, typer.Option("--run", help="Only if this is still the run that was looked at.")]
Tip = Annotated[str | None, typer.Option(help="Only if the branch is still at this commit.", metavar="COMMIT")]
Merge = Annotated[
    Literal["merge", "squash", "rebase"] | None, typer.Option(help="Merge the branch first; how.", show_default=False)
]


def review(
    task_id: Annotated[str | None, typer.Argument(metavar="[TASK]", help="Show this one.", show_default=False)] = None,
    *,
    next_one: Annotated[bool, typer.Option("--next", help="Show the one that waits longest.")] = False,
    as_json: Json = False,
) -> int:
    """List what waits for a review, the longest waiting first; with a task, show all that a reviewer needs of it."""
    if task_id is not None and next_one:
        raise InvalidRequest("review takes a task or --next: one of the two.")
    with open_pool() as pool:
        waiting = [] if task_id is not None else pool.reviews(limit=1 if next_one else 1000)
        wanted = task_id or (waiting[0].id if next_one and waiting else None)
        if wanted is None:
            document = {"task_id": None} if next_one else of_reviews(waiting)
            output.answer(document, *_queue(waiting), as_json=as_json)
            return output.DONE
        shown = pool.review(wanted)
        output.answer(of_review(shown), *_screen(shown), as_json=as_json)
    return output.DONE


def approve(
    task_id: TaskId,
    *,
    merge: Merge = None,
    target: Annotated[str | None, typer.Option(help="Branch to merge into.", metavar="BRANCH")] = None,
    run: Run = None,
    tip: Tip = None,
    as_json: Json = False,
) -> int:
    """Accept what a task brought. With --merge, its branch is merged first, and without that nothing is approved.

    Exit code 4 when it ran again or its branch moved since it was shown, or when somebody else was first.
    """
    if target is not None and merge is None:
        raise InvalidRequest("--target says where to merge to; --merge is missing.")
    with open_pool() as pool:
        approved = pool.approve(task_id, run_id=run, tip=tip, merge=merge, target=target)
        said = f"{task_id}  {approved.task.state.value}"
        if (merged := approved.merge) is not None:
            said += f"; {merged.target} is at {(merged.commit or '')[:12]}"
            said += f". {one_line(merged.message)}" if merged.message else ""
        output.answer(of_approved(approved), said, as_json=as_json)
    return output.DONE


def reject(
    task_id: TaskId,
    feedback: Annotated[
        str | None, typer.Argument(help="What has to be different; - reads it from stdin.", show_default=False)
    ] = None,
    *,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Read the feedback from this file.", metavar="PATH")
    ] = None,
    run: Run = None,
    as_json: Json = False,
) -> int:
    """Send a task back with feedback: it goes on in its own session and branch. At its limit it fails."""
    text = read_prompt(feedback, file, what="feedback")
    with open_pool() as pool:
        rejected = pool.reject(task_id, text, run_id=run)
    said = f"{task_id}  {rejected.task.state.value}; rejection {rejected.rejections} of {rejected.max_rejections}"
    said += "" if rejected.again else ": the limit is reached, and its answer is kept"
    output.answer(of_rejected(rejected), said, as_json=as_json)
    return output.DONE


def _queue(tasks: list[Task]) -> list[Block]:
    if not tasks:
        return ["Nothing waits for a review."]
    now_ms = time.time_ns() // 1_000_000
    rows = tuple(
        (task.id, span(max(0, now_ms - task.since_ms)), money(task.cost_usd),
         f"{task.counters.rejections} of {task.options.max_rejections}", one_line(task.title))
        for task in tasks
    )  # fmt: skip
    table = Table(("ID", "WAITS", "COST", "REJECTED", "TITLE"), rows, frozenset({"WAITS", "COST"}))
    return [table, "", f"Look at one: claude-pool review {tasks[0].id}"]


def _screen(shown: Review) -> list[Block]:
    """One review: what was asked, what was said before, the answer, what changed, what a merge would do."""
    task = shown.task
    lines: list[Block] = [f"{task.id}  {one_line(task.title)}", "", _text(shown.prompt)]
    for number, said in enumerate(shown.feedback, 1):
        lines += ["", f"-- rejection {number} of {task.options.max_rejections}", _text(said)]
    lines += ["", "-- answer", _text(output_text(shown.result)), "", *summary(shown.result)]
    if shown.branch is not None:
        lines += [f"  changed: {one_line(path)}" for path in shown.branch.paths[:50]]
        lines += [f"  {one_line(warning)}" for warning in shown.branch.warnings]
    lines += _outlook(shown)
    run, tip = f" --run {shown.run_id}", f" --tip {shown.tip}" if shown.tip else ""
    return [
        *lines,
        "",
        f"claude-pool approve {task.id}{run}{tip}",
        f"claude-pool reject {task.id}{run} 'what to change'",
    ]


def _text(text: str) -> str:
    return clean(text) if sys.stdout.isatty() else text


def _outlook(shown: Review) -> list[Block]:
    if shown.moved:
        return ["  the branch changed since the run left it: it can't be approved as it is"]
    if shown.forecast is not None:
        others = [f"  gets in the way of {one_line(one.into)}" for one in shown.collisions]
        return [*_forecast(shown.forecast), *others]
    kept = shown.result.outlook
    if kept is not None:
        return [f"  merge into {kept.into}: {kept.state}, as of the run's end ({shown.note})", *_paths(kept.conflicts)]
    return [f"  no forecast: {one_line(shown.note)}"] if shown.note else []


def _forecast(forecast: Forecast) -> list[Block]:
    head = f"  merge into {one_line(forecast.into)}: {forecast.state.replace('_', ' ')}"
    head += f" ({one_line(forecast.message)})" if forecast.message else ""
    return [head, *_paths(tuple(conflict.path for conflict in forecast.conflicts))]


def _paths(paths: tuple[str, ...]) -> list[Block]:
    return [f"    conflict: {one_line(path)}" for path in paths[:50]]
