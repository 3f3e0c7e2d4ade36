"""Tokens: who may talk to the pool over HTTP, and what each may do.

A token is shown once, when it is made; `<pool_dir>/tokens.json` (0600) keeps its SHA-256, its name and its scopes. It
has 256 random bits, so a plain hash can't be guessed back, and comparison takes the same time wherever it fails. The
file is read anew whenever it changed: a token that is revoked stops working at once. A file that can't be read lets
nobody in, and says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from claude_pool.config import PoolConfig
from claude_pool.errors import InvalidRequest, NotFound, PoolError
from claude_pool.models.base import Record
from mcp_server.rights import SCOPES, Scope

FILE: Final = "tokens.json"
_PREFIX: Final = "cpt"


class Token(Record):
    """One token, as it is kept."""

    id: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,39}$")]
    """Who uses it: the submitter of the tasks that come with it."""
    sha256: str
    scopes: tuple[Scope, ...]
    created_ms: int


_TOKENS: Final = TypeAdapter(tuple[Token, ...])


class TokenFile:
    """The tokens of one pool."""

    def __init__(self, config: PoolConfig) -> None:
        self.path: Final[Path] = config.pool_dir / FILE
        self._seen: tuple[int, int] | None = None
        self._tokens: tuple[Token, ...] = ()

    def add(self, scopes: Sequence[str], name: str | None = None) -> tuple[str, Token]:
        """Make a token; its text, which nobody can get again, and its record. Raises InvalidRequest."""
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            wrong = f"There is no scope {', '.join(unknown)}." if unknown else "A token needs a scope."
            raise InvalidRequest(wrong, hint=f"Scopes are {', '.join(SCOPES)}.")
        found, key = secrets.token_hex(4), secrets.token_urlsafe(32)
        text = f"{_PREFIX}_{found}_{key}"
        try:
            token = Token(
                id=found,
                name=name or f"token-{found}",
                sha256=_hash(text),
                scopes=tuple(scope for scope in SCOPES if scope in scopes),
                created_ms=time.time_ns() // 1_000_000,
            )
        except ValidationError:
            raise InvalidRequest(f"{name!r} is no name for a token.", hint="Use letters, digits and . _ @ -") from None
        with self._locked():
            self._write([*self.all(), token])
        return text, token

    def revoke(self, token_id: str) -> Token:
        """Make a token worthless. Raises NotFound."""
        with self._locked():
            tokens = self.all()
            gone = next((token for token in tokens if token.id == token_id), None)
            if gone is None:
                ids = ", ".join(f"{token.id} ({token.name})" for token in tokens) or "none"
                raise NotFound(f"There is no token {token_id!r}.", hint=f"There are: {ids}.")
            self._write([token for token in tokens if token is not gone])
        return gone

    def all(self) -> tuple[Token, ...]:
        """The tokens as they are now. Raises PoolError when the file is broken."""
        try:
            status = self.path.stat()
            if (seen := (status.st_mtime_ns, status.st_ino)) != self._seen:
                self._tokens = _TOKENS.validate_json(self.path.read_bytes())
                self._seen = seen
        except FileNotFoundError:
            self._tokens, self._seen = (), None
        except (OSError, ValidationError) as error:
            raise PoolError(
                f"{self.path} can't be read ({type(error).__name__}).", hint="Remove it and make tokens anew."
            ) from None
        return self._tokens

    def find(self, text: str) -> Token | None:
        """The token that this is the text of. Raises PoolError."""
        digest = _hash(text)
        matches = [token for token in self.all() if hmac.compare_digest(token.sha256, digest)]
        return matches[0] if matches else None

    @contextmanager
    def _locked(self) -> Generator[None]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, tokens: Iterable[Token]) -> None:
        """The whole file or nothing: readers never see half of it."""
        fresh = self.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_TOKENS.dump_json(tuple(tokens), indent=1))
        fresh.rename(self.path)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
