"""The tool that waits: pool_wait. It consumes nothing, may be repeated, and holds no thread while it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from claude_pool.models.base import Record
from mcp_server.tools.answers import Document, finished_line, gives
from mcp_server.tools.arguments import Id
from mcp_server.tools.tool import Call, Definition

if TYPE_CHECKING:
    from claude_pool.desks.tasks import Waited
    from mcp_server.counter import Tell

MOST_TOLD: Final = 200
"""Finished tasks in one answer; a wait after its cursor tells of the next ones."""


class Wait(Record):
    """What to wait for."""

    ids: Annotated[tuple[Id, ...], Field(min_length=1, max_length=1000)] = Field(
        description="of tasks, chains, fan-outs"
    )
    until: Literal["any", "all"] = "all"
    after: Annotated[str, Field(pattern=r"^(\d{1,20}(-\d{1,20})?)?$")] | None = Field(
        default=None, description="your last wait's cursor: tells only what finished since"
    )
    timeout_s: Annotated[float, Field(ge=0, le=86_400)] = 3000


def teller(call: Call, what: str) -> Tell:
    """Signs of life of a wait, numbered; they say counts only, nothing that a worker wrote."""
    beats = iter(range(1, 1 << 31))

    async def tell(running: int, settled: int) -> None:
        await call.report(next(beats), f"{what}: {running} to go, {settled} done")

    return tell


async def wait(call: Call, asked: Wait) -> Document:
    """Wait for tasks; running out of time is an answer, too."""
    ids = list(dict.fromkeys(asked.ids))
    what = ids[0] if len(ids) == 1 else f"{len(ids)} tasks"
    waited = await call.counter.wait(
        ids, until=asked.until, after=asked.after or None, timeout_s=asked.timeout_s, tell=teller(call, what)
    )
    return _document(waited)


def _document(waited: Waited) -> Document:
    """One line for each finished task, oldest first, and a cursor behind the last one told."""
    finished = sorted(waited.finished, key=lambda task: _place(task.event_id))
    told, held_back = finished[:MOST_TOLD], len(finished[MOST_TOLD:])
    document: Document = {
        "finished": [finished_line(task) for task in told],
        "running": list(waited.running[:MOST_TOLD]),
        "cursor": told[-1].event_id if held_back else waited.cursor,
        "timed_out": waited.timed_out,
    }
    if (more := len(waited.running) - MOST_TOLD) > 0:
        document["running_more"] = more
    return document | ({"finished_more": held_back} if held_back else {})


def _place(event_id: str) -> tuple[int, int]:
    ms, _, number = event_id.partition("-")
    return int(ms or 0), int(number or 0)


DEFINITIONS: Final = (
    Definition(
        name="pool_wait",
        title="Wait for tasks",
        description=(
            "Block until any or all of these are done, failed, cancelled or wait for somebody. One long wait, no"
            " polling. Never consumes: if an answer seems lost, ask again. Cancelling it stops nothing but the wait."
        ),
        arguments=Wait,
        work=wait,
        gives=gives(finished=list, running=list, cursor=str, timed_out=bool),
        effect="reads",
        scope="read",
        core=True,
    ),
)
