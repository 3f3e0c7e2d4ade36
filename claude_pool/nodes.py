"""Starting a node of this host in the background: for `up --detach`, for the MCP server, for anybody with a Pool.

    node = ensure_node(pool)        # there already, or started now; its slots are registered when this returns

The node is the console script `claude-pool-worker` in a session of its own, with the pool's settings in its environment
and its words in `<node_dir>/logs/node.log`. One that ends while it starts, or takes too long, raises PoolError with
the end of that log. Two programs that start one node at once end with one: the second process refuses, and both wait.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from claude_pool import processes
from claude_pool.config import PREFIX, PoolConfig
from claude_pool.errors import Conflict, PoolError
from claude_pool.models.pool import Node, NodeMode
from claude_pool.text import ending

if TYPE_CHECKING:  # `script` is wanted by programs that have no use for a pool
    from claude_pool.pool import Pool

START_S: Final = 60.0
"""How long a node may take until its slots are there."""
_LOOK_S: Final = 0.25
"""A process that ended is no event of the pool, so it is looked for this often."""


def script(name: str) -> Path:
    """One of our console scripts, beside this Python. Raises PoolError when it is nowhere."""
    folders = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts")), Path(sys.argv[0]).absolute().parent]
    for folder in folders:
        if os.access(found := folder / name, os.X_OK):
            return found
    if on_path := shutil.which(name):
        return Path(on_path).absolute()
    raise PoolError(f"The program {name} is not beside {sys.executable}.", hint="Install claude-pool again.")


def node_log(config: PoolConfig) -> Path:
    """Where a node in the background writes."""
    return config.node_dir / "logs" / "node.log"


def find_node(pool: Pool, name: str) -> Node | None:
    """The living node of that name."""
    return next((node for node in pool.nodes() if node.alive and node.identity.node == name), None)


def ensure_node(
    pool: Pool,
    *,
    slots: int | None = None,
    idle_exit: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    wait_s: float = START_S,
) -> tuple[Node, bool]:
    """This host's node with its slots, and whether it was started now.

    `slots` changes the number of a node that is there already; one that is leaving is waited for. With `idle_exit`, a
    node that is started now leaves by itself when it has had no work and no coordinator for long. Its environment and
    directory are ours unless given. Raises PoolError.
    """
    config = pool.config
    node = find_node(pool, config.node)
    if node is not None and node.orders.mode is not NodeMode.RUN:
        _until_left(pool, wait_s=wait_s)
        node = None
    if node is not None:
        asked = node.orders.slots
        wanted = asked if slots is None or slots == asked else pool.scale(slots, node=config.node)
        return _until_there(pool, wanted, pid=None, wait_s=wait_s), False
    wanted = config.slots if slots is None else slots
    argv = [str(script("claude-pool-worker")), "--slots", str(wanted), "--node", config.node, "--name", config.name]
    argv += ["--idle-exit"] if idle_exit else []
    env = {**(os.environ if env is None else env), **as_environment(config)}
    pid = processes.spawn_detached(argv, env=env, cwd=Path.cwd() if cwd is None else cwd, log=node_log(config))
    return _until_there(pool, wanted, pid=pid, wait_s=wait_s), True


def as_environment(config: PoolConfig) -> Mapping[str, str]:
    """The settings that are not defaults, as variables: a child process reads the same, wherever they came from.

    Lists are left out: they can only have come from the file or the variables that the child sees as well.
    """
    return {
        PREFIX + name.upper(): str(value)
        for name, value in config.model_dump(mode="json", exclude_defaults=True, exclude_none=True).items()
        if not isinstance(value, list)
    }


def _until_left(pool: Pool, *, wait_s: float) -> None:
    """Wait for a node that was told to leave: its slots take nothing any more."""
    name = pool.config.node
    deadline = time.monotonic() + wait_s
    with pool.hub.inbox(None) as inbox:
        while find_node(pool, name) is not None:
            if time.monotonic() > deadline:
                hint = "Wait for it, end it with `claude-pool down --now`, or choose another name."
                raise Conflict(f"Node {name} is still leaving.", hint=hint)
            inbox.take(_LOOK_S)


def _until_there(pool: Pool, slots: int, *, pid: int | None, wait_s: float) -> Node:
    name = pool.config.node
    deadline = time.monotonic() + wait_s
    with pool.hub.inbox(None) as inbox:
        while True:
            ended = pid is not None and not _alive(pid)
            node = find_node(pool, name)
            if node is not None and sum(slot.node == name for slot in pool.slots()) >= slots:
                return node
            if ended and node is None:
                raise _failed(pool.config, f"Node {name} ended while it started")
            if time.monotonic() > deadline:
                raise _failed(pool.config, f"Node {name} did not have {slots} slots after {wait_s:.0f} s")
            inbox.take(_LOOK_S)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _failed(config: PoolConfig, what: str) -> PoolError:
    log = node_log(config)
    try:
        tail = ending(log.read_bytes()[-4096:].decode(errors="replace"), 1000)
    except OSError:
        tail = ""
    return PoolError(f"{what}." + (f"\n{tail}" if tail else ""), hint=f"Its log: {log}")
