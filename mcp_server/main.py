"""The MCP program: reads its command line and serves the pool over stdio. Stdout belongs to the protocol."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from claude_pool._version import __version__
from claude_pool.config import load
from claude_pool.errors import PoolError
from mcp_server.session import submitter_of


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="claude-pool-mcp", description="The pool as tools for a Claude session (MCP)."
    )
    parser.add_argument("--slots", type=int, help="start a node of this host with so many slots, unless one is there")
    parser.add_argument("--name", help="the pool's name")
    parser.add_argument("--label", help="what this coordinator is called in the records")
    parser.add_argument("--verbose", "-v", action="store_true", help="say more, on stderr")
    parser.add_argument("--version", action="version", version=f"claude-pool {__version__}")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve; the exit code of `claude-pool-mcp` when it could not."""
    arguments = parse(argv)
    level = logging.DEBUG if arguments.verbose else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(message)s", force=True)
    try:
        config, _ = load(slots=arguments.slots, name=arguments.name)
    except PoolError as error:
        sys.stderr.write(f"claude-pool-mcp: {error}\n")
        return error.exit_code
    from mcp_server.counter import Counter  # noqa: PLC0415 - a wrong setting is told before the protocol is loaded
    from mcp_server.server import build  # noqa: PLC0415 - the same
    from mcp_server.stdio import serve  # noqa: PLC0415 - the same

    counter = Counter(config, submitter=submitter_of(os.environ, arguments.label), slots=arguments.slots)
    return serve(lambda closed: build(counter, closed=closed))
