"""Which addresses are the machine's own, and which names a server answers to on any of them."""

from __future__ import annotations

from functools import partial

import httpx2
import pytest

from claude_pool.config import PoolConfig
from mcp_server.counter import Counter
from mcp_server.http import Verifier, application, is_loopback
from mcp_server.server import build
from mcp_server.tokens import TokenFile


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_the_loopback_is_the_machines_own(host: str, own: bool) -> None:
    assert is_loopback(host) is own


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "10.1.2.3"])
async def test_host_and_origin_are_checked_on_whatever_address_it_listens(
    config: PoolConfig, counter: Counter, host: str
) -> None:
    tokens = TokenFile(config)
    text, _ = tokens.add(["read"])
    app = application(partial(build, counter), tokens, host=host, port=80, hosts=["pool.example"])
    known = {"Authorization": f"Bearer {text}", "Accept": "application/json, text/event-stream"}
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://pool.example:80") as http:
            post = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}

            async def status(**headers: str) -> int:
                sent = {**known, "Host": "pool.example:80", **headers}
                return (await http.post("/mcp", json=post, headers=sent)).status_code

            assert await status() not in {401, 403, 421}
            assert await status(Host="evil.example:80") == 421
            assert await status(Origin="http://evil.example") == 403
            assert await status(Authorization="Bearer x") == 401


@pytest.mark.anyio
async def test_a_broken_token_file_lets_nobody_in(config: PoolConfig) -> None:
    tokens = TokenFile(config)
    text, _ = tokens.add(["read"], "ada")
    found = await Verifier(tokens).verify_token(text)
    assert found is not None
    assert (found.client_id, found.scopes) == ("ada", ["read"])
    tokens.path.write_text("?")
    assert await Verifier(tokens).verify_token(text) is None
