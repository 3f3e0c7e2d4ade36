"""Hygiene: what a run does to the part of the repository that all share is seen, undone and reported.

A linked work tree shares the repository's configuration, hooks and attributes, so a run can plant a command there that
the next git call of its owner executes. (Our own calls are armed against it, see `claude_pool.git`; the user's are
not.) A copy of these files is taken when the first run opens a work tree and no other is open, and compared whenever
one ends; while runs overlap they share one copy, so that nobody takes a planted file for the original. A run that died
without this check is noticed by the lock that it no longer holds, and checked before the next copy is taken.

Harmless keys of the configuration (what `git switch -c` or `gh` write about branches) stay. Everything else that
differs goes to a quarantine folder, and the original comes back: also a change that the user made by hand in that time,
which the warning names with the place where it is kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from claude_pool.git import GitFailed, plain
from claude_pool.workspace.ground import Ground
from claude_pool.workspace.locks import is_held

_WATCHED: Final = (
    "config",
    "config.worktree",
    "info/attributes",
    "info/exclude",
    "info/grafts",
    "objects/info/alternates",
)
_TREES: Final = ("hooks",)
_LARGEST: Final = 64 << 20
_HARMLESS: Final = re.compile(
    r"branch\..*\.(?:remote|merge|rebase|description|pushremote|gh-merge-base|vscode-merge-base|github-pr-owner-number)"
    r"|remote\..*\.gh-resolved|lfs\..*\.access"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or link as it was: `data` is its content or the link's aim."""

    kind: str
    mode: int
    data: bytes

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The entry at a path, links not followed; None when there is nothing, or more than could be copied."""
        try:
            info = path.lstat()
        except OSError:
            return None
        mode = stat.S_IMODE(info.st_mode)
        if stat.S_ISLNK(info.st_mode):
            return cls("link", 0, os.fsencode(path.readlink()))
        if stat.S_ISREG(info.st_mode):
            return cls("file", mode, path.read_bytes()) if info.st_size <= _LARGEST else None
        return cls("folder" if stat.S_ISDIR(info.st_mode) else "device", 0, b"")


def picture(common: Path) -> dict[str, Entry]:
    """Everything watched in a git directory, by its path below it."""
    found: dict[str, Entry] = {}
    for name in (*_WATCHED, *_TREES):
        if (entry := Entry.of(common / name)) is not None:
            found[name] = entry
    for tree in _TREES:
        if found.get(tree, Entry("", 0, b"")).kind == "folder":
            for folder, folders, names in os.walk(common / tree):
                for name in (*folders, *names):
                    path = Path(folder) / name
                    if (entry := Entry.of(path)) is not None:
                        found[str(path.relative_to(common))] = entry
    return found


class Guarded:
    """The watch over one repository. All methods want the repository's lock."""

    def __init__(self, ground: Ground) -> None:
        self._common = ground.common
        self._copy = ground.state / "original"
        self._open = ground.state / "open"

    def enter(self, mark: str) -> list[str]:
        """A run begins. Gives warnings about what runs that died left behind. Takes the copy unless others run.

        What is found while others run is theirs: each of them is told when it is checked.
        """
        self._open.mkdir(parents=True, exist_ok=True, mode=0o700)
        marks = [path for path in self._open.iterdir() if path.suffix == ".run"]
        running = [path for path in marks if path.stem != mark and is_held(self._open / f"{path.stem}.lock")]
        warnings = self._undo() if marks else []
        for path in marks:
            if path not in running:
                path.unlink(missing_ok=True)
        for path in running if warnings else ():
            path.write_text(json.dumps([*_told(path), *warnings]))
        if not running:
            self._take()
        (self._open / f"{mark}.run").touch(mode=0o600)
        return [] if running else warnings

    def check(self, mark: str) -> list[str]:
        """Undo what differs from the copy. Gives warnings: about that, and about what was found while this run ran."""
        path = self._open / f"{mark}.run"
        warnings = [*_told(path), *self._undo()]
        if path.exists():
            path.write_text("")
        return warnings

    def leave(self, mark: str) -> list[str]:
        """A run ended: check, and give warnings."""
        warnings = self.check(mark)
        (self._open / f"{mark}.run").unlink(missing_ok=True)
        return warnings

    def lock_path(self, mark: str) -> Path:
        """The lock that a run holds as long as it lives."""
        return self._open / f"{mark}.lock"

    def _undo(self) -> list[str]:
        """Compare with the copy, undo what differs, and say what it was."""
        if not self._copy.is_dir():
            return []
        before, now = picture(self._copy), picture(self._common)
        differing = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        warnings: list[str] = []
        for name in differing:
            if name != "config":
                self._restore(name, before.get(name))
                word = "added" if name not in before else "removed" if name not in now else "changed"
                warnings.append(f"{name} of the repository was {word} during the run; undone.")
        if "config" in differing:
            warnings += self._check_config(before.get("config"))
        if warnings:
            warnings.append(f"What was undone is kept in {self._quarantine(make=False)}.")
        return warnings

    def _check_config(self, before: Entry | None) -> list[str]:
        config = self._common / "config"
        was, now = keys_in(self._copy / "config") or {}, keys_in(config)
        changed = sorted(key for key in {*was, *(now or {})} if was.get(key) != (now or {}).get(key))
        bad = alarming(was, now)
        if now is not None and not bad and config.is_file() and not config.is_symlink():
            return []
        harmless = {key: (now or {}).get(key, []) for key in changed if key not in bad} if now is not None else {}
        self._restore("config", before)
        _write_keys(config, harmless)
        named = ", ".join(bad[:10]) or "its form"
        return [f"The repository's git configuration was changed during the run ({named}); undone."]

    def _take(self) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir(parents=True, mode=0o700)
        for name, entry in picture(self._common).items():
            _put(self._copy / name, entry)

    def _restore(self, name: str, entry: Entry | None) -> None:
        """Put the original back, keeping what is there now in the quarantine."""
        path = self._common / name
        if os.path.lexists(path) and not (entry and entry.kind == "folder" == (Entry.of(path) or entry).kind):
            kept = self._quarantine(make=True) / name.replace("/", "-")
            shutil.move(path, kept.with_name(f"{kept.name}.{len(list(kept.parent.iterdir()))}"))
        if entry is not None:
            _put(path, entry)

    def _quarantine(self, *, make: bool) -> Path:
        folder = self._copy.parent / "quarantine"
        if make:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder


def _told(mark: Path) -> list[str]:
    """What others found while a run was open, as noted in its mark."""
    try:
        return [str(word) for word in json.loads(mark.read_bytes() or b"[]")]
    except (OSError, ValueError, TypeError):
        return []


def keys_in(config: Path) -> dict[str, list[str]] | None:
    """All keys and values of one configuration file, includes not followed; None when git can't read it."""
    done = plain("config", "--file", str(config), "--no-includes", "--list", "-z", ok=range(256))
    if done.status:
        return None
    found: dict[str, list[str]] = {}
    for entry in done.fields:
        key, _, value = entry.partition("\n")
        found.setdefault(key, []).append(value)
    return found


def alarming(was: Mapping[str, list[str]], now: Mapping[str, list[str]] | None) -> list[str]:
    """The keys that differ between two configurations and are not harmless; `now` is None for one that is broken."""
    if now is None:
        return ["config"]
    changed = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
    return [key for key in changed if not _HARMLESS.fullmatch(key)]


def _put(path: Path, entry: Entry) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry.kind == "folder":
        path.mkdir(exist_ok=True)
    elif entry.kind == "link":
        path.symlink_to(os.fsdecode(entry.data))
    elif entry.kind == "file":
        path.write_bytes(entry.data)
        path.chmod(entry.mode)


def _write_keys(config: Path, changes: Mapping[str, list[str]]) -> None:
    """Bring harmless changes back into a restored configuration; one that git refuses is left out."""
    for key, values in changes.items():
        base = ("config", "--file", str(config))
        plain(*base, "--unset-all", key, ok=range(256))
        for value in values:
            try:
                plain(*base, "--add", key, value)
            except GitFailed:
                break
