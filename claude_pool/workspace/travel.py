"""How branches travel: as git bundles between repositories that don't see each other, or by a remote that both know.

A bundle is a file; which transport brings it (the store, a clone's directory) is the caller's affair. Nothing in it is
trusted: one branch of the expected name is taken, git checks that its objects are complete, and the local branch moves
only forward; what was there and would be lost gets a branch of its own.

A remote is used with the user's own configuration for credentials and addresses, because without it nobody could reach
one; of the repository's configuration only the address of the remote counts. No prompt can appear: it fails instead.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from claude_pool.errors import InvalidRequest, NotFound, WorkspaceError
from claude_pool.git import Git, GitFailed, user_settings
from claude_pool.workspace.ground import BASES, Ground
from claude_pool.workspace.keep import beside

MOST_BYTES: Final = 32 << 20
"""Default limit for bundles that go through the store."""
ARRIVED: Final = "refs/claude-pool/arrived/"
_REMOTE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TRANSPORTS: Final = ("https", "ssh", "file")
_SYMREF: Final = re.compile(r"ref: (refs/heads/[^\x00-\x20]+)\tHEAD")
_TRAVEL_TIMEOUT_S: Final = 1800.0


def export_bundle(ground: Ground, branch: str, base: str | None = None, *, most_bytes: int = MOST_BYTES) -> bytes:
    """A branch as a bundle, without the history that the receiver has: everything up to `base`.

    Empty when the branch has nothing beyond the base. Raises NotFound, WorkspaceError above the limit.
    """
    if (tip := ground.tip(branch)) is None:
        raise NotFound(f"There is no branch {branch!r} in {ground.top or ground.common}.")
    known = ground.find(base) if base else None
    if known is not None and ground.is_ancestor(tip, known):
        return b""
    with _temporary(ground) as file:
        write_bundle(ground, file, [f"refs/heads/{branch}"], without=[known] if known else [])
        if (size := file.stat().st_size) > most_bytes:
            raise WorkspaceError(
                f"{branch} is {size:,} bytes as a bundle; at most {most_bytes:,} go through the store.",
                hint="Give the repository a remote that all nodes can reach.",
            )
        return file.read_bytes()


def import_bundle(ground: Ground, data: bytes, branch: str, *, most_bytes: int = MOST_BYTES) -> str | None:
    """Take a branch from a bundle. Gives its tip, None for an empty bundle. Raises WorkspaceError."""
    if not data:
        return ground.tip(branch)
    if len(data) > most_bytes:
        raise WorkspaceError(f"A bundle of {len(data):,} bytes is more than the {most_bytes:,} that are taken.")
    with _temporary(ground) as file:
        file.write_bytes(data)
        return read_bundle(ground, file, branch)


def write_bundle(ground: Ground, file: Path, refs: Iterable[str], *, without: Iterable[str]) -> None:
    """Write refs with their history into a bundle, without the history of some commits."""
    asked = "".join(f"{ref}\n" for ref in (*refs, *(f"^{oid}" for oid in without)))
    ground.git.run(
        "bundle", "create", "--quiet", str(file), "--stdin", stdin=asked.encode(), timeout_s=_TRAVEL_TIMEOUT_S
    )


def read_bundle(ground: Ground, file: Path, branch: str) -> str:
    """Take one branch from a bundle into a branch of the same name; gives its tip."""
    try:
        heads = ground.git.run("bundle", "list-heads", str(file)).lines
        if not any(line.endswith(f" refs/heads/{branch}") for line in heads):
            raise WorkspaceError(f"The bundle has no branch {branch}.")
        ground.git.run("bundle", "verify", "--quiet", str(file))
    except GitFailed as error:
        raise WorkspaceError(
            f"The bundle of {branch} can't be used here: {error.stderr.strip() or error.message}"
        ) from None
    return _receive(ground, ground.git, str(file), branch, ("file",))


def bring_branch(source: Ground, into: Ground, branch: str) -> str:
    """Bring a branch from one repository of this machine into another, the way a bundle goes. Gives its tip there."""
    tip = source.tip(branch)
    if tip is None:
        raise NotFound(f"There is no branch {branch!r} in {source.top or source.common}.")
    if into.find(tip) is not None:
        _forward(into, branch, tip)
        return into.tip(branch) or tip
    known = [oid for oid in (into.find(f"{BASES}{branch}"), into.tip(branch)) if oid and source.find(oid)]
    with _temporary(into) as file:
        write_bundle(source, file, [f"refs/heads/{branch}"], without=known)
        return read_bundle(into, file, branch)


def push(ground: Ground, remote: str, branch: str) -> None:
    """Push a branch to a remote of the repository, never by force. Raises WorkspaceError."""
    if ground.tip(branch) is None:
        raise NotFound(f"There is no branch {branch!r} in {ground.top or ground.common}.")
    ref = f"refs/heads/{branch}"
    git, env = _reaching_out(ground)
    words = (
        "--quiet",
        "--no-verify",
        "--no-recurse-submodules",
        "--no-follow-tags",
        "--",
        _remote(remote),
        f"{ref}:{ref}",
    )
    git.run("push", *words, env=env, transports=_TRANSPORTS, timeout_s=_TRAVEL_TIMEOUT_S)


def fetch(ground: Ground, remote: str, branch: str) -> str:
    """Take a branch from a remote of the repository into a branch of the same name; gives its tip."""
    git, env = _reaching_out(ground)
    return _receive(ground, git, _remote(remote), branch, _TRANSPORTS, env)


def fetch_all(ground: Ground, remote: str, *, besides: str) -> None:
    """Take all branches of a remote as they are there, but those whose names begin with `besides`; and its HEAD."""
    git, env = _reaching_out(ground)
    how: dict[str, Any] = {"env": env, "transports": _TRANSPORTS, "timeout_s": _TRAVEL_TIMEOUT_S}
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")
    git.run("fetch", *options, "--", _remote(remote), "+refs/heads/*:refs/heads/*", f"^refs/heads/{besides}*", **how)
    listed = git.run("ls-remote", "--symref", "--", _remote(remote), "HEAD", **how).lines
    if listed and (head := _SYMREF.fullmatch(listed[0])) is not None:
        git.run("symbolic-ref", "HEAD", head[1])


def _receive(
    ground: Ground, git: Git, source: str, branch: str, transports: Iterable[str], env: dict[str, str] | None = None
) -> str:
    arrived = f"{ARRIVED}{branch}"
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")
    refs = f"+refs/heads/{branch}:{arrived}"
    git.run("fetch", *options, "--", source, refs, env=env, transports=transports, timeout_s=_TRAVEL_TIMEOUT_S)
    new = ground.resolve(arrived)
    try:
        _forward(ground, branch, new)
    finally:
        ground.delete(arrived, new)
    return ground.tip(branch) or new


def _forward(ground: Ground, branch: str, new: str) -> None:
    old = ground.tip(branch)
    if old is not None and ground.is_ancestor(new, old):
        return
    if old is not None and not ground.is_ancestor(old, new):
        beside(ground, branch, old)
    ground.move(f"refs/heads/{branch}", new, old, "claude-pool: arrived")
    if old is None:
        ground.own(branch)
    if ground.find(f"{BASES}{branch}") is None and (base := _guess_base(ground, new)) is not None:
        ground.move(f"{BASES}{branch}", base, None, "claude-pool: base")


def _guess_base(ground: Ground, tip: str) -> str | None:
    target = ground.target()
    other = ground.tip(target) if target else None
    return ground.merge_base(other, tip) if other else None


def _remote(name: str) -> str:
    if not _REMOTE.fullmatch(name):
        raise InvalidRequest(f"{name!r} is no name of a remote.")
    return name


def _reaching_out(ground: Ground) -> tuple[Git, dict[str, str]]:
    """Git that may leave this machine: with the user's credentials, addresses and keys."""
    wanted = ("credential.", "http.", "https.", "url.", "ssh.")
    settings = {key: value for key, value in user_settings().items() if key.startswith(wanted)}
    handed_down = ("HOME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
    env = {name: os.environ[name] for name in handed_down if name in os.environ}
    return Git(ground.git.place, {"core.sshCommand": "ssh -oBatchMode=yes", **settings}), env


@contextmanager
def _temporary(ground: Ground) -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=ground.state) as folder:
        yield Path(folder) / "branch.bundle"
