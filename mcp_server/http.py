"""HTTP: the server as streamable HTTP, for coordinators that don't start their own.

Every request needs a bearer token (`tokens`), also on the loopback, which any local program and any page in a browser
can reach; Host and Origin are checked on whatever address it listens. Answers are streams of events, never one JSON
document: a call that waits for an hour would else be given up after a minute. A signal ends it gracefully, also while
streams are open; a second one at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final

import uvicorn
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl

from claude_pool.errors import PoolError, Refused
from mcp_server.counter import Counter
from mcp_server.tokens import TokenFile

_log = logging.getLogger(__name__)

PATH: Final = "/mcp"
_GRACE_S: Final = 3
_IDLE_SESSION_S: Final = 86_400.0
"""Longer than the longest wait."""

Build = Callable[..., MCPServer[Counter]]


class Verifier(TokenVerifier):
    """Accepts the tokens of this pool's file; they are made for it alone, so they carry no audience."""

    def __init__(self, tokens: TokenFile) -> None:
        self._tokens = tokens

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token with its name and scopes, or None."""
        try:
            found = self._tokens.find(token)
        except PoolError as error:
            _log.error("nobody is let in: %s", error)
            return None
        return found and AccessToken(token=token, client_id=found.name, scopes=list(found.scopes))


def serve(build: Build, tokens: TokenFile, *, host: str, port: int, hosts: Sequence[str] = ()) -> int:
    """Serve until a signal; the exit code. Prints the address once it listens. Raises Refused when it can't listen."""
    listener = _listen(host, port)
    url = f"http://{_spelt(host)}:{listener.getsockname()[1]}{PATH}"
    caught: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        caught.append(number)

    logging.getLogger("uvicorn.error").addFilter(_worth_telling)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises again, at its end, what it was ended by
        signal.signal(number, note)
    app = application(build, tokens, host=host, port=listener.getsockname()[1], hosts=hosts)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_S, server_header=False
    )
    sys.stdout.write(url + "\n")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listener])
    return 128 + caught[0] if caught else 0


def _worth_telling(record: logging.LogRecord) -> bool:
    """Calls that still waited at the end were cancelled: that is as it should be, and no trace is wanted."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def application(build: Build, tokens: TokenFile, *, host: str, port: int, hosts: Sequence[str] = ()) -> Any:
    """The ASGI application of a server that listens on `host`; `hosts` are further names that it is called by."""
    server = build(
        token_verifier=Verifier(tokens),
        auth=AuthSettings(issuer_url=AnyHttpUrl(f"http://{_spelt(host)}:{port}"), resource_server_url=None),
    )
    names = [f"{_spelt(name)}:{port}" for name in dict.fromkeys([*_names(host), *hosts])]
    checks = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=names,
        allowed_origins=[f"http://{name}" for name in names],
    )
    return server.streamable_http_app(
        streamable_http_path=PATH,
        host=host,
        transport_security=checks,
        session_idle_timeout=_IDLE_SESSION_S,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise Refused(
            f"Can't listen on {host}:{port}: {error.strerror or error}.", hint="Choose another --port."
        ) from None


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(host: str) -> list[str]:
    """What a client may call us in its Host header."""
    if is_loopback(host):
        return ["127.0.0.1", "localhost", "::1"]
    own = [socket.gethostname(), socket.getfqdn()]
    return own if host in {"0.0.0.0", "::"} else [host, *own]  # noqa: S104 - compared with, not bound to


def _spelt(host: str) -> str:
    return f"[{host}]" if ":" in host else host
