"""What `claude-pool-worker` runs: one node of slots, in the foreground, until it is drained.

Before the first slot starts, the node makes sure that it is alone under its name on this host, that the store is the
one it knows, that no process of an earlier incarnation is left, and that results which an earlier one could not deliver
are delivered.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final

from claude_pool._version import __version__
from claude_pool.config import PoolConfig, load
from claude_pool.embedded import acquire
from claude_pool.errors import PoolError, SlotTaken, StoreReset
from claude_pool.ids import new_run_id
from claude_pool.keys import PROTOCOL
from claude_pool.models.pool import NodeIdentity
from claude_pool.store import Store, open_store
from workers import proctable
from workers.journal import Journal
from workers.memory import Memory
from workers.slot_process import Ground
from workers.supervisor import Supervisor, bury
from workers.sweep import sweep

_log = logging.getLogger(__name__)

COORDINATOR_LOCK: Final = "coordinator.lock"
"""Coordinators that want the node to stay hold a shared lock on this file in the node's folder."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="claude-pool-worker", description="One node: slots that each run one claude at a time."
    )
    parser.add_argument("--slots", type=int, help="number of slots")
    parser.add_argument("--node", help="name of this node in the pool")
    parser.add_argument("--name", help="the pool's name")
    parser.add_argument("--idle-exit", action="store_true", help="leave after idle_exit_s without work or coordinator")
    parser.add_argument("--accept-reset", action="store_true", help="work on although the store was reset")
    parser.add_argument("--verbose", "-v", action="store_true", help="say more")
    parser.add_argument("--version", action="version", version=f"claude-pool {__version__}")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a node; the exit code of `claude-pool-worker`."""
    arguments = parse(argv)
    set_up_logging(verbose=arguments.verbose)
    try:
        config, _ = load(slots=arguments.slots, node=arguments.node, name=arguments.name)
        run_node(config, idle_exit=arguments.idle_exit, accept_reset=arguments.accept_reset)
    except PoolError as error:
        _log.error("%s", error)
        return error.exit_code
    return 0


def set_up_logging(*, verbose: bool) -> None:
    """Short lines on stderr; stdout belongs to documents."""
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(message)s", force=True)
    for noisy in ("celery", "kombu", "amqp", "git"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def run_node(config: PoolConfig, *, idle_exit: bool = False, accept_reset: bool = False) -> None:
    """Be the node until it is drained. Raises PoolError when it can't begin."""
    config.node_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(config) as lock, _redis(config) as (url, revive):
        store = open_store(url, config)
        try:
            epoch = _know(config, store, accept_reset=accept_reset)
            if killed := sweep(config.name, config.node):
                _log.warning("killed %d processes that an earlier node left", len(killed))
            Journal(config.node_dir / "journal").deliver(store.tasks.finish)
            _bury_the_dead(config, store)
            idle = _Idleness(config, store) if idle_exit else _never
            _log.info("pool %s, node %s: %d slots", config.name, config.node, config.slots)
            ground = Ground(config, url, epoch, dict(os.environ))
            supervisor = Supervisor(ground, _identity(config), may_leave=idle, revive=revive, own_fds=[lock])
            supervisor.supervise()
        finally:
            store.close()


def _bury_the_dead(config: PoolConfig, store: Store) -> None:
    """Slots of this node whose processes are gone. One that still finishes its task (its supervisor died) stays."""
    for slot in store.slots.slots():
        if slot.node == config.node and slot.pid and proctable.look_up(slot.pid) is None:
            bury(config, store, slot.slot_id, slot.pid)


def _identity(config: PoolConfig) -> NodeIdentity:
    return NodeIdentity(
        node=config.node,
        incarnation=new_run_id(),
        host=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        protocol=PROTOCOL,
        slots=config.slots,
        min_slots=min(config.min_slots, config.slots),
        max_slots=max(config.max_slots, config.slots),
        simulated=bool(os.environ.get("CLAUDE_POOL_SIMULATED")),
    )


@contextmanager
def _redis(config: PoolConfig) -> Generator[tuple[str, Callable[[], None]]]:
    """The server's URL, and how to bring the server back: nothing one can do about somebody else's."""
    if config.redis_url is not None:
        yield config.redis_url, lambda: None
        return
    with acquire(config) as lease:
        yield lease.url, lease.ensure


@contextmanager
def _alone(config: PoolConfig) -> Generator[int]:
    """One process per node name on this host; the lock's descriptor. Raises SlotTaken."""
    with (config.node_dir / "node.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "Stop it with `claude-pool down`, or choose another name with --node."
            raise SlotTaken(f"Node {config.node!r} is running on this host already.", hint=hint) from None
        yield lock.fileno()


def _know(config: PoolConfig, store: Store, *, accept_reset: bool) -> str:
    """Check that the store is the one this node worked on before, no older, and remember it."""
    memory = Memory(config)
    try:
        epoch = store.pool.prepare(epoch=None if accept_reset else memory.recall())
    except StoreReset as error:
        raise StoreReset(
            error.message, hint="Restore the store, or start the node with --accept-reset to work on with this one."
        ) from None
    memory.keep(epoch)
    return epoch


def _never() -> bool:
    return False


class _Idleness:
    """Whether a node that was started for a coordinator has had nothing to do, and nobody to do it for, for long."""

    def __init__(self, config: PoolConfig, store: Store) -> None:
        self._config = config
        self._store = store
        self._since = time.monotonic()

    def __call__(self) -> bool:
        status = self._store.pool.status()
        at_work = status.pending + status.claimed + status.running + status.blocked
        if at_work or self._coordinated():
            self._since = time.monotonic()
        return time.monotonic() - self._since > self._config.idle_exit_s

    def _coordinated(self) -> bool:
        with (self._config.node_dir / COORDINATOR_LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False
