"""The MCP program: reads its command line, and serves the pool or sees to its tokens.

Over stdio, stdout belongs to the protocol; over HTTP it has one line, the address. Messages go to stderr.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial

from claude_pool._version import __version__
from claude_pool.config import PoolConfig, load
from claude_pool.errors import InvalidRequest, PoolError
from mcp_server.rights import SCOPES
from mcp_server.session import submitter_of
from mcp_server.tokens import TokenFile


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="claude-pool-mcp", description="The pool as tools for a Claude session (MCP), on stdin and stdout."
    )
    parser.add_argument("--slots", type=int, help="start a node of this host with so many slots, unless one is there")
    parser.add_argument("--name", help="the pool's name")
    parser.add_argument("--label", help="what this coordinator is called in the records")
    parser.add_argument(
        "--toolset", choices=["core", "full"], default="full", help="core: only the tools that are always loaded"
    )
    parser.add_argument("--verbose", "-v", action="store_true", help="say more, on stderr")
    parser.add_argument("--version", action="version", version=f"claude-pool {__version__}")
    http = parser.add_argument_group("streamable HTTP")
    http.add_argument("--http", action="store_true", help="serve HTTP instead; every request needs a token")
    http.add_argument("--host", default="127.0.0.1", help="address to listen on (default: the loopback)")
    http.add_argument("--port", type=int, default=8377, help="default: 8377; 0 takes any free one")
    http.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a further name of this host")
    tokens = parser.add_argument_group("tokens")
    tokens.add_argument("--new-token", metavar="SCOPES", help=f"make a token and print it; of {','.join(SCOPES)}")
    tokens.add_argument("--token-name", metavar="NAME", help="who will use it")
    tokens.add_argument("--list-tokens", action="store_true", help="show the tokens there are, without their secrets")
    tokens.add_argument("--revoke-token", metavar="ID", help="make a token worthless")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what was asked; the exit code of `claude-pool-mcp`."""
    arguments = parse(argv)
    level = logging.DEBUG if arguments.verbose else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(message)s", force=True)
    try:
        config, _ = load(slots=arguments.slots, name=arguments.name)
        if arguments.new_token or arguments.list_tokens or arguments.revoke_token:
            return _tokens(TokenFile(config), arguments)
        return _serve(config, arguments)
    except PoolError as error:
        sys.stderr.write(f"claude-pool-mcp: {error}\n")
        return error.exit_code


def _tokens(tokens: TokenFile, arguments: argparse.Namespace) -> int:
    if arguments.new_token:
        text, token = tokens.add(arguments.new_token.replace(",", " ").split(), arguments.token_name)
        sys.stdout.write(text + "\n")
        scopes = ", ".join(token.scopes)
        sys.stderr.write(f"Token {token.id} ({token.name}) may {scopes}. It can't be shown again.\n")
    elif arguments.revoke_token:
        gone = tokens.revoke(arguments.revoke_token)
        sys.stderr.write(f"Token {gone.id} ({gone.name}) is worthless now.\n")
    else:
        for token in tokens.all():
            sys.stdout.write(f"{token.id}\t{token.name}\t{','.join(token.scopes)}\n")
    return 0


def _serve(config: PoolConfig, arguments: argparse.Namespace) -> int:
    from mcp_server.counter import Counter  # noqa: PLC0415 - a wrong setting is told before the protocol is loaded
    from mcp_server.server import build  # noqa: PLC0415 - the same

    counter = Counter(config, submitter=submitter_of(os.environ, arguments.label), slots=arguments.slots)
    if not arguments.http:
        from mcp_server import stdio  # noqa: PLC0415 - the same

        stdio.serve(lambda closed: build(counter, closed=closed, tools=arguments.toolset))
    from mcp_server import http  # noqa: PLC0415 - uvicorn is wanted here only

    if not 0 <= arguments.port < 1 << 16:
        raise InvalidRequest(f"--port {arguments.port} is no port.", hint="Choose one up to 65535; 0 takes a free one.")
    tokens = TokenFile(config)
    if not tokens.all():
        sys.stderr.write("There is no token yet, so nobody can come in: claude-pool-mcp --new-token read,submit\n")
    if not http.is_loopback(arguments.host):
        sys.stderr.write("Tokens and prompts travel unencrypted beyond this machine: put a proxy with TLS before it.\n")
    return http.serve(
        partial(build, counter, tools=arguments.toolset),
        tokens,
        host=arguments.host,
        port=arguments.port,
        hosts=arguments.allow_host,
    )
