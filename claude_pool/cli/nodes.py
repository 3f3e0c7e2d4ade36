"""Verbs for the pool's machines: up, worker, scale, drain, down."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Collection
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from claude_pool.cli import output
from claude_pool.cli.counter import Json, open_pool
from claude_pool.cli.render import SIMULATED, count, drain_lines
from claude_pool.config import load
from claude_pool.documents import of_drain, of_node
from claude_pool.errors import InvalidRequest
from claude_pool.launch import load as load_program
from claude_pool.nodes import ensure_node, node_log

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from claude_pool.models.pool import DrainSummary
    from claude_pool.pool import Pool

EXAMPLES: Final = {
    "up": """claude-pool up
claude-pool up --detach --slots 4
CLAUDE_POOL_REDIS_URL=rediss://redis.example:6379 claude-pool up --node build-2""",
    "worker": """claude-pool worker --slots 4 --node build-2
claude-pool worker --slots 8 --verbose""",
    "scale": """claude-pool scale 4
claude-pool scale --by -1 --node build-2""",
    "drain": """claude-pool drain
claude-pool drain build-2 --timeout 600
claude-pool drain --now""",
    "down": """claude-pool down
claude-pool down --now
claude-pool down --all --timeout 60""",
}

Slots = Annotated[int | None, typer.Option(help="How many slots; default: the settings' `slots`.", min=0, max=256)]
NodeName = Annotated[str | None, typer.Option("--node", help="The node's name; default: this host's.")]
Now = Annotated[
    bool, typer.Option("--now", help="Don't wait: checkpoint what runs; it continues when slots come back.")
]
Timeout = Annotated[
    float | None, typer.Option(help="Checkpoint what still runs after this; default: `drain_s`.", metavar="SECONDS")
]


def up(
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="In the background; it stays until `down`.")] = False,
    slots: Slots = None,
    node: NodeName = None,
    as_json: Json = False,
) -> int:
    """Start what is missing: the private Redis, and a node with its slots.

    In the foreground the node runs until Ctrl-C, which lets running tasks finish; a second one does not wait for them.
    """
    if not detach:
        return _foreground(_node_arguments(slots, node), as_json=as_json)
    with open_pool(node=node) as pool, _busy("Starting …"):
        found, started = ensure_node(pool, slots=slots)
        there = sum(slot.node == found.identity.node for slot in pool.slots())
        document = {"pool": pool.config.name, "started": started, **of_node(found), "log": str(node_log(pool.config))}
    word = "is up" if started else "was up already"
    lines = [f"Pool {pool.config.name}: node {found.identity.node} {word} with {count(there, 'slot')}."]
    lines += [SIMULATED] if found.identity.simulated else []
    output.answer(document, "\n".join(lines), as_json=as_json)
    if not as_json:
        output.note(f"Its log: {document['log']}\nTo stop it: claude-pool down")
    return output.DONE


def worker(context: typer.Context, *, slots: Slots = None, node: NodeName = None, as_json: Json = False) -> int:
    """Run a node in the foreground: the same as the program claude-pool-worker, whose further arguments it takes."""
    return _foreground([*_node_arguments(slots, node), *context.args], as_json=as_json)


def _node_arguments(slots: int | None, node: str | None) -> list[str]:
    return [*(["--slots", str(slots)] if slots is not None else []), *(["--node", node] if node is not None else [])]


def _foreground(arguments: list[str], *, as_json: bool) -> int:
    try:
        code = int(load_program("workers.main").main(arguments) or 0)
    except SystemExit as end:  # its own parser's
        code = end.code if isinstance(end.code, int) else output.WRONG_USAGE
    if as_json:
        output.document({"node": "left", "exit_code": code})
    return code


def scale(
    target: Annotated[int | None, typer.Argument(metavar="[SLOTS]", help="How many slots.", min=0, max=256)] = None,
    *,
    by: Annotated[int | None, typer.Option(help="So many more, or with a minus fewer.", metavar="N")] = None,
    node: NodeName = None,
    as_json: Json = False,
) -> int:
    """Change a node's number of slots. Idle ones go first; a busy one goes after its task."""
    if (target is None) == (by is None):
        raise InvalidRequest("scale takes the number of slots, or --by: one of the two.")
    with open_pool() as pool:
        slots = pool.scale(target, node=node) if target is not None else pool.scale_by(by or 0, node=node)
    output.answer({"slots": slots, "node": node}, f"The node will have {count(slots, 'slot')}.", as_json=as_json)
    if target is not None and slots != target and not as_json:
        output.note("That is the bound of this node: `min_slots` and `max_slots` in its settings.")
    return output.DONE


def drain(
    nodes: Annotated[list[str] | None, typer.Argument(metavar="[NODE…]", help="Nodes; default: all.")] = None,
    *,
    timeout: Timeout = None,
    now: Now = False,
    as_json: Json = False,
) -> int:
    """Let nodes finish what they run, take nothing more, and leave. Redis and all tasks stay."""
    with open_pool() as pool:
        alive = {node.identity.node for node in pool.nodes() if node.alive}
        if unknown := sorted(set(nodes or ()) - alive):
            raise InvalidRequest(
                f"There is no node {', '.join(unknown)}.", hint=f"There are: {', '.join(sorted(alive))}."
            )
        summary = _drain(pool, nodes or alive, timeout_s=timeout, now=now)
    if summary is None:
        return output.INTERRUPTED
    output.answer(of_drain(summary), "\n".join(drain_lines(summary)), as_json=as_json)
    return output.UNFINISHED if summary.slots_left else output.DONE


def down(
    *,
    everywhere: Annotated[bool, typer.Option("--all", help="All nodes of the pool, not only this host's.")] = False,
    timeout: Timeout = None,
    now: Now = False,
    as_json: Json = False,
) -> int:
    """Stop this host's nodes, and with the last one the private Redis. Tasks are kept and go on after the next `up`."""
    from claude_pool import embedded  # noqa: PLC0415 - wanted here only

    config = load()[0]
    if config.embedded and embedded.running(config) is None:
        output.answer({"nodes": [], "redis_stopped": False}, "Nothing is running.", as_json=as_json)
        return output.DONE
    with open_pool() as pool:
        here = socket.gethostname()
        leaving = [node for node in pool.nodes() if node.alive and (everywhere or node.identity.host == here)]
        names = sorted(node.identity.node for node in leaving)
        summary = _drain(pool, names, timeout_s=timeout, now=now)
        others = [node.identity.node for node in pool.nodes() if node.alive]
    if summary is None:
        return output.INTERRUPTED
    stopped = config.embedded and not others and embedded.stop(config)
    document = {"nodes": names, "redis_stopped": stopped, "others": others, **of_drain(summary)}
    lines = drain_lines(summary) if names else ["No node of this host was running."]
    lines += ["The private Redis has stopped; its data is kept."] if stopped else []
    lines += [f"Still up: {', '.join(others)}."] if others else []
    output.answer(document, "\n".join(lines), as_json=as_json)
    return output.UNFINISHED if summary.slots_left else output.DONE


def _drain(pool: Pool, names: Collection[str], *, timeout_s: float | None, now: bool) -> DrainSummary | None:
    """Drain while a person can see what is waited for, and may stop waiting: then None."""
    done: list[Any] = []

    def work() -> None:
        try:
            done.append(pool.drain(nodes=set(names), deadline_s=timeout_s, now=now))
        except Exception as error:  # noqa: BLE001 - raised again where somebody can hear it
            done.append(error)

    thread = threading.Thread(target=work, name="drain", daemon=True)
    thread.start()
    try:
        with _busy("Draining …") as line:
            while thread.is_alive():
                thread.join(0.5)
                busy = [slot.slot_id for slot in pool.slots() if slot.node in names and slot.task_id] if line else []
                if line and busy:
                    line.update(f"Draining: {count(len(busy), 'slot')} still busy ({', '.join(busy[:4])})")
    except KeyboardInterrupt:
        output.note("\nNo longer waiting; the nodes go on draining. `claude-pool status` shows how far they are.")
        return None
    if isinstance(done[0], Exception):
        raise done[0]
    return done[0]


def _busy(text: str) -> AbstractContextManager[Any]:
    """A spinner on a terminal; elsewhere nothing."""
    return output.console(sys.stderr).status(text) if sys.stderr.isatty() else nullcontext()
