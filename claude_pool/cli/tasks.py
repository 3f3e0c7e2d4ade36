"""Verbs for single tasks: run, submit, wait, result, cancel, hold, wake."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from claude_pool.cli import live, output
from claude_pool.cli.counter import Json, open_pool, repository_around
from claude_pool.cli.flags import read_file, with_task_options
from claude_pool.cli.graph_answers import give_whole
from claude_pool.cli.render import output_text, state_word, summary
from claude_pool.documents import of_cancelled, of_result, of_stopped, of_submitted, of_task, of_waited
from claude_pool.errors import InvalidRequest
from claude_pool.ids import kind_of
from claude_pool.models.options import MAX_PROMPT_BYTES
from claude_pool.models.task import Task, TaskResult
from claude_pool.text import clean

if TYPE_CHECKING:
    from claude_pool.pool import Pool
    from claude_pool.store.base import Submitted

EXAMPLES: Final = {
    "run": """claude-pool run "Summarise README.md in one sentence"
claude-pool run --model haiku --max-budget-usd 0.50 --file task.md
git diff | claude-pool run --repo none - > review.md
claude-pool run --json-schema @answer.json --json "Which licence is this?" """,
    "submit": """claude-pool submit "Write tests for parser.py" --tag nightly
claude-pool submit --idempotency-key build-512 --timeout 1800 --file task.md
claude-pool submit --session continue:t-8f3k2m9q0d "Now the documentation as well" """,
    "wait": """claude-pool wait t-8f3k2m9q0d t-1b7x5c2e9a
claude-pool wait --any --timeout 600 --json t-8f3k2m9q0d t-1b7x5c2e9a
claude-pool wait --any --after 1760000000000-0 --json t-8f3k2m9q0d t-1b7x5c2e9a""",
    "result": """claude-pool result t-8f3k2m9q0d
claude-pool result --json t-8f3k2m9q0d | jq .cost_usd""",
    "cancel": """claude-pool cancel t-8f3k2m9q0d
claude-pool cancel --tag nightly
claude-pool cancel --all --reason "wrong branch" """,
    "hold": "claude-pool hold t-8f3k2m9q0d --reason 'after the release'",
    "wake": "claude-pool wake t-8f3k2m9q0d",
}

Prompt = Annotated[str | None, typer.Argument(help="What to do; - reads it from stdin.", show_default=False)]
File = Annotated[str | None, typer.Option("--file", "-f", help="Read the prompt from this file.", metavar="PATH")]
Title = Annotated[str, typer.Option(help="A short name for lists; default: the prompt's beginning.")]
Key = Annotated[
    str | None, typer.Option("--idempotency-key", help="Repeating a call with the same key gives the same task.")
]
TaskId = Annotated[str, typer.Argument(metavar="ID", help="The id of a task, a chain or a fan-out.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the task.")]
OutTag = Annotated[list[str] | None, typer.Option("--tag", help="Only tasks with this tag; repeatable.")]


@with_task_options
def run(
    prompt: Prompt = None,
    *,
    file: File = None,
    title: Title = "",
    idempotency_key: Key = None,
    wait: Annotated[
        float | None, typer.Option(help="Wait at most so long; the task goes on", metavar="SECONDS")
    ] = None,
    as_json: Json = False,
    options: dict[str, Any],
) -> int:
    """Hand in a task, wait for it and print its output.

    The output goes to stdout and nothing else does; cost, time and branch are told on stderr.
    In a git repository, the task works on a branch of that repository, in a workspace of its own.
    """
    text = read_prompt(prompt, file)
    with open_pool() as pool:
        answer = _submit(pool, text, title=title, key=idempotency_key, options=options)
        try:
            live.wait(pool, [answer.task_id], timeout_s=wait)
        except KeyboardInterrupt:
            return _left(answer.task_id, as_json=as_json)
        return _give_result(pool.result(answer.task_id), task=pool.get(answer.task_id), as_json=as_json)


@with_task_options
def submit(
    prompt: Prompt = None,
    *,
    file: File = None,
    title: Title = "",
    idempotency_key: Key = None,
    as_json: Json = False,
    options: dict[str, Any],
) -> int:
    """Hand in a task and return at once with its id.

    In a git repository, the task works on a branch of that repository, in a workspace of its own.
    """
    text = read_prompt(prompt, file)
    with open_pool() as pool:
        answer = _submit(pool, text, title=title, key=idempotency_key, options=options)
        output.answer(of_submitted(answer), answer.task_id, as_json=as_json)
        if not as_json and not answer.created:
            output.note(f"This key had been used for the same request: task {answer.task_id} is {answer.state}.")
        live.warn_without_slots(pool)
    return output.DONE


def wait(
    tasks: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of tasks, chains and fan-outs.")],
    *,
    until_any: Annotated[bool, typer.Option("--any", help="Until the first one is done, not all.")] = False,
    after: Annotated[
        str | None, typer.Option(help="A cursor of an earlier wait: leave out what had finished by then.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Wait at most this long.", metavar="SECONDS")] = None,
    as_json: Json = False,
) -> int:
    """Wait until tasks are done, or wait for somebody to act.

    Exit code 1 if one of them failed or was cancelled, 5 if time ran out. A wait uses nothing up: ask again at will.
    """
    with open_pool() as pool:
        try:
            waited = live.wait(pool, tasks, until="any" if until_any else "all", after=after, timeout_s=timeout)
        except KeyboardInterrupt:
            code = live.goes_on(tasks)
            if as_json:
                output.document({**of_waited(pool.look(tasks, after=after)), "interrupted": True})
            return code
        lines = [f"{task.id}  {state_word(task)}  {clean(task.title)}" for task in waited.finished]
        lines += [f"{task_id}  not finished" for task_id in waited.running]
        output.answer(of_waited(waited), "\n".join(lines), as_json=as_json)
    if waited.timed_out:
        return output.UNFINISHED
    return max((output.code_of(task.state) for task in waited.finished), key=output.SEVERITY.index, default=output.DONE)


def result(task_id: TaskId, *, as_json: Json = False) -> int:
    """Print what a task, a chain or a fan-out brought back; of one that still runs, what is known so far."""
    with open_pool() as pool:
        if kind_of(task_id) in {"chain", "fan-out"}:
            return give_whole(pool, task_id, as_json=as_json)
        return _give_result(pool.result(task_id), task=pool.get(task_id), as_json=as_json)


def cancel(
    tasks: Annotated[
        list[str] | None, typer.Argument(metavar="[ID…]", help="Ids of tasks, chains and fan-outs.")
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Everything that is not final.")] = False,
    tag: OutTag = None,
    reason: Reason = "",
    as_json: Json = False,
) -> int:
    """Stop tasks for good. A running one is stopped; its cost, output and branch are kept.

    An accepted cancel wins: the task never becomes completed afterwards.
    """
    if sum((bool(tasks), everything, bool(tag))) != 1:
        raise InvalidRequest("cancel takes ids, or --tag, or --all: one of the three.")
    with open_pool() as pool:
        stopped = [pool.cancel(task_id, reason=reason) for task_id in tasks or ()]
        stopped += [] if tasks else pool.cancel_all(tags=tag or (), reason=reason)
        single = tasks is not None and len(tasks) == 1
        lines = "\n".join(f"{task.id}  {state_word(task)}" for task in stopped) or "There was nothing to cancel."
        output.answer(of_stopped(stopped[0]) if single else of_cancelled(stopped), lines, as_json=as_json)
    return output.DONE


def hold(task_id: TaskId, *, reason: Reason = "", as_json: Json = False) -> int:
    """Keep a pending task from starting until `wake`."""
    with open_pool() as pool:
        task = pool.hold(task_id, reason=reason)
    output.answer(of_task(task), f"{task.id}  {state_word(task)}", as_json=as_json)
    return output.DONE


def wake(task_id: TaskId, *, as_json: Json = False) -> int:
    """Let a parked task try again now."""
    with open_pool() as pool:
        woken = pool.wake(task_id)
        task = pool.get(task_id)
    said = f"{task.id}  {state_word(task)}" + ("" if woken else "; it was not parked")
    output.answer({**of_task(task), "woken": woken}, said, as_json=as_json)
    return output.DONE


def read_prompt(prompt: str | None, file: str | None, *, what: str = "prompt") -> str:
    """The prompt from the argument, stdin or a file: exactly one of them. Raises InvalidRequest."""
    if (prompt is None) == (file is None):
        raise InvalidRequest(
            f"Give the {what} as an argument, as - for stdin, or with --file: one of the three.",
            hint=f'A {what} that begins with a dash goes behind two: … -- "-5 or 5?"',
        )
    if file is not None and file != "-":
        return read_file(file, "--file")
    if prompt not in {None, "-"}:
        return prompt or ""
    given = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1)
    if len(given) > MAX_PROMPT_BYTES:
        raise InvalidRequest(f"The {what} on stdin is larger than {MAX_PROMPT_BYTES:,} bytes (8 MiB).")
    try:
        return given.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"The {what} on stdin is not UTF-8 text.") from None


def _submit(pool: Pool, prompt: str, *, title: str, key: str | None, options: dict[str, Any]) -> Submitted:
    placed = place(options, configured=pool.config.repo is not None or pool.config.isolation == "none", here=Path.cwd())
    return pool.submit(prompt, title=title, idempotency_key=key, **placed)


def place(options: dict[str, Any], *, configured: bool, here: Path) -> dict[str, Any]:
    """The options with a repository to work on: the one around this directory, unless something else was chosen."""
    if options.get("repo") == "none":
        return {name: value for name, value in options.items() if name != "repo"} | {"isolation": "none"}
    chosen = configured or options.get("isolation") == "none" or not options.keys().isdisjoint({"repo", "working_dir"})
    root = None if chosen else repository_around(here)
    return options if root is None else {**options, "repo": str(root)}


def _give_result(found: TaskResult, *, task: Task, as_json: bool) -> int:
    text = output_text(found)
    if as_json:
        output.document(of_result(found))
    elif text:
        output.say(clean(text) if sys.stdout.isatty() else text)
    if not as_json:
        _summarise(summary(found))
    if not found.state.final and not as_json:
        output.note(f"  {state_word(task)}" + (f": {task.error.message}" if task.error and not found.error else ""))
    return output.code_of(found.state)


def _summarise(lines: Iterable[str]) -> None:
    output.note("\n".join(lines))


def _left(task_id: str, *, as_json: bool) -> int:
    code = live.goes_on([task_id])
    if as_json:
        output.document({"task_id": task_id, "interrupted": True})
    return code
