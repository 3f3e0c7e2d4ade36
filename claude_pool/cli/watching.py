"""Verbs that look and change nothing: status, list, logs."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from claude_pool.cli import output
from claude_pool.cli.counter import Json, open_pool, open_pool_here
from claude_pool.cli.live import now_ms
from claude_pool.cli.render import log_lines, outlook_lines, status_screen, task_table
from claude_pool.documents import Document, of_log, of_page, of_status
from claude_pool.models.task import TaskState

EXAMPLES: Final = {
    "status": """claude-pool status
claude-pool status --json | jq .running""",
    "list": """claude-pool list
claude-pool list --state running --state parked
claude-pool list --tag nightly --limit 200 --json""",
    "logs": """claude-pool logs t-8f3k2m9q0d
claude-pool logs -f t-8f3k2m9q0d
claude-pool logs --raw t-8f3k2m9q0d | jq -r .kind""",
}


def status(*, as_json: Json = False) -> int:
    """The pool in one screen: slots and what they run, tasks by state, money."""
    with open_pool_here() as pool:
        found, slots, nodes = pool.status(), pool.slots(), pool.nodes()
        page = pool.list(states=[TaskState.RUNNING, TaskState.CLAIMED], limit=500) if found.busy else None
        tasks = {task.id: task for task in page.tasks} if page else {}
        outlook = pool.glance()
    document = of_status(found, slots=slots, nodes=nodes, tasks=tasks, outlook=outlook)
    screen = status_screen(found, slots, nodes, tasks, now_ms=now_ms()) + outlook_lines(outlook)
    output.answer(document, *screen, as_json=as_json)
    return output.DONE


def list_(
    *,
    state: Annotated[list[TaskState] | None, typer.Option(help="Only tasks in this state; repeatable.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only tasks with this tag; repeat for all of several.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    after: Annotated[str | None, typer.Option(help="Begin after this task: where the page before ended.")] = None,
    as_json: Json = False,
) -> int:
    """Tasks, newest first."""
    with open_pool() as pool:
        page = pool.list(states=state or (), tags=tag or (), limit=limit, after=after)
    table = task_table(page.tasks, now_ms=now_ms()) if page.tasks else "There is no such task."
    output.answer(of_page(page), table, as_json=as_json)
    if page.next and not as_json:
        output.note(f"More: claude-pool list --after {page.next}")
    return output.DONE


def logs(
    task_id: Annotated[str, typer.Argument(metavar="TASK", help="A task's id.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task is done.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="One line of JSON an entry.")] = False,
    as_json: Json = False,
) -> int:
    """What a task's runs said and did, from the beginning.

    A bounded number of lines is kept for all to read; the whole log is a file on the task's node, told at the end.
    """
    with open_pool() as pool:
        try:
            entries: list[Document] = []
            for entry in pool.stream(task_id, follow=follow):
                if as_json:
                    entries.append(of_log(entry))
                elif raw:
                    output.json_line(of_log(entry))
                else:
                    output.say("\n".join(log_lines(entry)))
        except KeyboardInterrupt:
            output.note(f"\nNo longer following; the task goes on. To stop it: claude-pool cancel {task_id}")
            return output.INTERRUPTED
        found = pool.result(task_id)
    if as_json:
        output.document(
            {
                "task_id": task_id,
                "state": found.state.value,
                "entries": entries,
                "log_path": found.log_path,
                "node": found.node,
            }
        )
    elif found.log_path:
        output.note(f"The whole log: {found.log_path} on {found.node or 'its node'}")
    return output.DONE
