"""Furnish: make a slot's directories fit for a run, before each run.

Duties: private directories (0700), the way from the slot's config directory to the node's shared transcripts, the
node's sign-in within the slot's reach, and the files that a launch names. Harmless to repeat. What can't be made raises
OSError: a run in a place that is not in order would lose its session.

The sign-in. `claude` keeps it in `.credentials.json` of its config directory (on macOS in the keychain instead). With a
config directory per slot it would not be found, so a symbolic link leads to the node's own file: tokens that the CLI
renews are renewed for all. A CLI that replaces the link by a file of its own keeps that one as long as it is newer. The
contents are never read here. In a keychain, or in a container, `CLAUDE_CODE_OAUTH_TOKEN` (`claude setup-token`) or
`ANTHROPIC_API_KEY` in the node's environment do the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from workers.places import Place

CREDENTIALS: Final = ".credentials.json"


def furnish(place: Place, *, sign_in: Path | None = None) -> None:
    """Make everything a run needs. `sign_in` is the node's own config directory, or None to share no sign-in."""
    for folder in (*place.shared, *place.own):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _lead(place.config / "projects", place.projects)
    if sign_in is not None:
        share_sign_in(place, sign_in)


def node_config_dir(env: Mapping[str, str]) -> Path | None:
    """Where the node's own `claude` keeps its settings: `CLAUDE_CONFIG_DIR`, else `~/.claude`."""
    if named := env.get("CLAUDE_CONFIG_DIR"):
        return Path(named)
    return Path(env["HOME"]) / ".claude" if env.get("HOME") else None


def share_sign_in(place: Place, sign_in: Path) -> bool:
    """Let the slot use the node's sign-in. False when the node has none, or the slot holds a newer one."""
    source, link = sign_in / CREDENTIALS, place.config / CREDENTIALS
    if not source.is_file():
        if link.is_symlink():
            link.unlink()
        return False
    if link.is_file() and not link.is_symlink() and link.stat().st_mtime > source.stat().st_mtime:
        return False
    _lead(link, source)
    return True


def write_files(files: Mapping[str, str]) -> None:
    """The files that a launch names, each whole and readable by this user only."""
    for name, content in files.items():
        path = Path(name)
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(content)
        fresh.replace(path)


def _lead(link: Path, target: Path) -> None:
    """A symbolic link that leads to `target`, whatever stood there; a real directory's contents are moved over."""
    if link.is_symlink() and link.readlink() == target:
        return
    if link.is_dir() and not link.is_symlink():
        _move_contents(link, target)
    fresh = link.with_name(f"{link.name}.link")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def _move_contents(folder: Path, target: Path) -> None:
    for item in folder.iterdir():
        there = target / item.name
        if item.is_dir() and not item.is_symlink() and there.is_dir():
            _move_contents(item, there)
        elif there.exists():
            item.replace(there.with_name(f"{there.name}.old"))
        else:
            item.replace(there)
    folder.rmdir()
