"""Session: what this process takes over from the coordinator's session that started it, and what it leaves behind.

Duties: a name for the records, an environment for a node that is to outlive the session, and the lock that tells such a
node that a coordinator is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from claude_pool.config import PoolConfig
from claude_pool.models.task import Submitter

COORDINATOR_LOCK: Final = "coordinator.lock"
"""In the node's folder; a node that may leave when idle asks whether anybody holds it. `workers.main` knows it too."""

_OF_THE_SESSION: Final = re.compile(r"CLAUDE\w*|MCP_\w+|AI_AGENT|NODE_OPTIONS|PYTHON\w*")
"""Belongs to the calling session: its id, its messaging token, its switches, and how its servers were started."""
_STAYS: Final = re.compile(
    r"CLAUDE_POOL_\w+|CLAUDE_CONFIG_DIR|CLAUDE_CODE_OAUTH_TOKEN"
    r"|CLAUDE_CODE_USE_\w+|CLAUDE_CODE_SKIP_\w+_AUTH|CLAUDE_CODE_CLIENT_(CERT|KEY|KEY_PASSPHRASE)"
)
"""What the workers' CLI needs of it: the pool's settings and how the user is signed in."""


def scrubbed_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a node that a session starts: the user's, without what is the session's own."""
    return {name: value for name, value in env.items() if _STAYS.fullmatch(name) or not _OF_THE_SESSION.fullmatch(name)}


def submitter_of(env: Mapping[str, str], label: str | None = None) -> Submitter:
    """Who this coordinator is in the records: its label, else its session, else the user."""
    if label:
        return Submitter(name=label, kind="mcp")
    if session := re.sub(r"[^0-9A-Za-z-]", "", env.get("CLAUDE_CODE_SESSION_ID", ""))[:8]:
        return Submitter(name=f"session-{session}", kind="mcp")
    try:
        return Submitter(name=getpass.getuser(), kind="mcp")
    except (KeyError, OSError):  # a user without a name, as in some containers
        return Submitter(name=f"uid-{os.getuid()}", kind="mcp")


@contextmanager
def present(config: PoolConfig) -> Generator[None]:
    """Be there as a coordinator: a node of this host that leaves when idle stays meanwhile.

    On a folder that can't be written to, the node just does not know of us.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            config.node_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = stack.enter_context((config.node_dir / COORDINATOR_LOCK).open("a"))
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield
