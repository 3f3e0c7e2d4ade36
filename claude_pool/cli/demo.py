"""`claude-pool demo`: the product's main job on a fresh machine, before everybody's eyes, with nothing pretended.

A pool of its own with two slots and its private Redis, a scratch repository, six tasks carried out by the real CLI, one
of them meant to fail. With a sign-in it asks before it spends; otherwise the same CLI talks to a simulated model on the
loopback, and every screen says so. At the end everything is shut down and it is checked that no process is left.
Exit code 0 only when each expectation came true.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from claude_pool.binary import ClaudeBinary, credentials_hint, find_claude
from claude_pool.cli import output
from claude_pool.cli.counter import Json
from claude_pool.cli.demo_jobs import JOBS, Job
from claude_pool.cli.demo_screen import Screen, overlap, timeline
from claude_pool.cli.demo_stage import BUDGET_USD, MODEL, SLOTS, Stage, stage
from claude_pool.cli.live import Latest
from claude_pool.cli.render import branch_line, count, error_lines, money, output_text, span
from claude_pool.config import load
from claude_pool.documents import Document, of_result
from claude_pool.errors import InvalidRequest, PoolError
from claude_pool.nodes import ensure_node
from claude_pool.testing import simulated as simulated_model
from claude_pool.text import excerpt

if TYPE_CHECKING:
    from claude_pool.models.task import TaskDetail, TaskResult
    from claude_pool.pool import Pool

EXAMPLES: Final = {
    "demo": """claude-pool demo
claude-pool demo --simulated
claude-pool demo --real --keep ./demo"""
}

_PATIENCE_S: Final = {True: 240.0, False: 900.0}
"""How long all tasks together may take, simulated and real."""


_GLANCE_S: Final = 0.3
"""How often the logs are looked at: their lines are no events of the pool."""


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation, and whether it came true."""

    what: str
    ok: bool


def demo(
    *,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Use the simulated model, whatever sign-in there is.")
    ] = False,
    real: Annotated[bool, typer.Option("--real", help="Use the sign-in that is there, and don't ask first.")] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Work in this folder (new or empty) and leave it there.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> int:
    """Show what a pool does: six tasks on a scratch repository, by the real CLI on two slots.

    With a sign-in it asks before it spends (at most a dollar). Without, the CLI talks to a simulated model here.
    """
    if simulated and real:
        raise InvalidRequest("--simulated and --real exclude each other.")
    stream = sys.stderr if as_json else sys.stdout
    binary = find_claude(load()[0])
    simulate, why = choose(credentials_hint(os.environ, Path.home()), simulated=simulated, real=real)
    screen = Screen(stream, simulated=simulate)
    screen.say(f"claude {binary.version} at {binary.path}. {why}")
    with _folder(keep) as folder:
        document, checks = _perform(folder, binary, screen, simulate=simulate)
    for check in checks:
        screen.say(("ok    " if check.ok else "FAIL  ") + check.what)
    good = all(check.ok for check in checks)
    screen.say("Everything went as expected." if good else "Not everything went as expected.")
    if as_json:
        expectations = [{"what": check.what, "ok": check.ok} for check in checks]
        output.document({**document, "ok": good, "checks": expectations})
    return output.DONE if good else output.TASK_FAILED


def choose(sign_in: str | None, *, simulated: bool, real: bool) -> tuple[bool, str]:
    """Whether to simulate, and the sentence that says why. Raises InvalidRequest for --real without a sign-in."""
    if simulated:
        return True, "Simulated model, as you asked: nothing is paid."
    if sign_in is None:
        if real:
            raise InvalidRequest(
                "--real, but no sign-in was found.", hint="Set ANTHROPIC_API_KEY, or run `claude` once."
            )
        return True, "No sign-in was found, so the model is simulated: nothing is paid."
    if real:
        return False, f"Sign-in found: {sign_in}. The tasks are paid for, {money(BUDGET_USD)} at most."
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True, f"Sign-in found ({sign_in}), but nobody can be asked: simulated model. To spend, say --real."
    question = f"Sign-in found: {sign_in}. Run six small tasks with {MODEL} for at most {money(BUDGET_USD)}?"
    if typer.confirm(question, default=False, err=True):
        return False, "Thank you."
    return True, "Then with the simulated model: nothing is paid."


@contextmanager
def _folder(keep: Path | None) -> Generator[Path]:
    if keep is not None:
        yield keep.expanduser().absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="claude-pool-demo-"))
    try:
        yield folder / "stage"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _perform(folder: Path, binary: ClaudeBinary, screen: Screen, *, simulate: bool) -> tuple[Document, list[Check]]:
    with ExitStack() as stack:
        model = stack.enter_context(simulated_model.start()).environment if simulate else None
        with stage(folder, claude=binary.path, simulated=model) as place:
            screen.say(
                f"Pool {place.config.name} in {folder}: private Redis, {count(SLOTS, 'slot')}, a scratch repository."
            )
            document, checks = _with_pool(place, screen)
            checks.append(Check("the repository's own checkout was left alone", place.untouched()))
        left = place.leftovers()
    if left is not None:
        what = "no process is left" if not left else f"no process is left, but there are {', '.join(map(str, left))}"
        checks.append(Check(what, not left))
    return {"simulated": simulate, "claude": binary.version, **document}, checks


def _with_pool(place: Stage, screen: Screen) -> tuple[Document, list[Check]]:
    from claude_pool.pool import Pool  # noqa: PLC0415 - brings Celery

    with Pool.open(place.config) as pool:
        try:
            ensure_node(pool, slots=SLOTS, env=place.env, cwd=place.folder)
            jobs = _dispatch(pool, place, screen)
            in_time = _watch(pool, jobs, screen, patience_s=_PATIENCE_S[place.simulated])
            details = {task_id: pool.detail(task_id) for task_id in jobs}
            results = {task_id: pool.result(task_id) for task_id in jobs}
            checks = [
                Check(f"{job.title}: {job.expectation()}", job.fulfilled(results[key])) for key, job in jobs.items()
            ]
            checks.append(Check("all tasks ended in time", in_time))
            checks.append(_tell(place, screen, jobs, results, details))
        finally:
            screen.say("Shutting down …")
            summary = pool.drain(now=True)
            checks_left = Check("the node has left", summary.slots_left == 0)
        spent = pool.status().spent_usd
    document = {"cost_usd": spent, "tasks": [{"title": jobs[key].title, **of_result(results[key])} for key in jobs]}
    return document, [*checks, checks_left]


def _dispatch(pool: Pool, place: Stage, screen: Screen) -> dict[str, Job]:
    requests = [
        pool.request(job.text(simulated=place.simulated), title=job.title, tags=("demo",), **job.options)
        for job in JOBS
    ]
    answers = pool.submit_many(requests)
    screen.say(f"{count(len(answers), 'task')} dispatched.")
    return {answer.task_id: job for answer, job in zip(answers, JOBS, strict=True)}


def _watch(pool: Pool, jobs: Mapping[str, Job], screen: Screen, *, patience_s: float) -> bool:
    """Show the tasks until all are settled; False when patience ran out first."""
    deadline, latest = time.monotonic() + patience_s, Latest(pool)
    with screen, pool.hub.inbox(None) as inbox:
        while True:
            tasks = [latest.of(pool.get(task_id)) for task_id in jobs]
            screen.update(tasks, sorted(pool.slots(), key=lambda slot: slot.number))
            if all(task.settled for task in tasks):
                return True
            if time.monotonic() > deadline:
                return False
            inbox.take(_GLANCE_S)


def _tell(
    place: Stage,
    screen: Screen,
    jobs: Mapping[str, Job],
    results: Mapping[str, TaskResult],
    details: Mapping[str, TaskDetail],
) -> Check:
    """Results, branches, a diff, costs, and when each slot was at work."""
    for task_id, job in jobs.items():
        _tell_one(place, screen, job, results[task_id])
    spans: dict[str, list[tuple[int, int]]] = {}
    for detail in details.values():
        for run in detail.runs:
            if run.started_ms and run.ended_ms:
                spans.setdefault(run.slot, []).append((run.started_ms, run.ended_ms))
    screen.say("\n".join(["", "Who worked when:", *timeline(spans)]))
    total = sum(result.cost_usd for result in results.values())
    free = " by the list price of the real model; nothing was paid" if place.simulated else ""
    screen.say(f"Cost of all tasks: {money(total)}{free}")
    together = overlap(spans)
    return Check(f"tasks ran at the same time on {count(len(spans), 'slot')}, for {span(together)}", together > 0)


def _tell_one(place: Stage, screen: Screen, job: Job, result: TaskResult) -> None:
    facts: Sequence[str] = (
        result.state.value,
        span(result.run_ms),
        count(result.num_turns, "turn"),
        money(result.cost_usd),
    )
    screen.say("")
    screen.say(f"{job.title}: " + " · ".join(facts))
    for line in excerpt(output_text(result), 600).splitlines():
        screen.say(f"  {line}")
    for line in error_lines(result.error) if result.error else []:
        screen.say(line)
    if result.branch is not None:
        screen.say(branch_line(result.branch))
        try:
            screen.patch(place.patch(result.branch))
        except PoolError as error:
            screen.say(f"  its diff can't be shown: {error.message}")
