"""Conflict forecasts: what a merge would do, found out in memory with `git merge-tree`; nothing is touched.

Cheap enough to ask often: a pair of commits is computed once per process, and two branches that changed no file in
common are not compared at all. Merge drivers and attributes of the repository have no part in it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from claude_pool.errors import NotFound
from claude_pool.git import GitFailed
from claude_pool.models.workspace import FileConflict, Forecast, Hunk
from claude_pool.workspace.diff import paths_between
from claude_pool.workspace.ground import Ground
from claude_pool.workspace.keep import shown

_REMEMBERED: Final = 1024
_MOST_CONFLICTS: Final = 100
_MOST_HUNKS: Final = 20
_SIDE_CHARS: Final = 4000
_LARGEST: Final = 4 << 20
_KIND: Final = re.compile(r"CONFLICT \((.*)\)")
_OURS, _MIDDLE, _THEIRS = "<" * 7, "=" * 7, ">" * 7


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge in memory: its tree, which holds conflict markers when there are conflicts."""

    tree: str
    conflicts: tuple[FileConflict, ...] = ()


def merge_tree(ground: Ground, ours: str, theirs: str) -> Merged:
    """Merge two commits in memory. Raises GitFailed when they have no common history."""
    done = ground.git.run("merge-tree", "--write-tree", "--messages", "-z", ours, theirs, ok=(0, 1))
    fields = done.fields
    tree, rest = fields[0], fields[1:]
    if done.status == 0:
        return Merged(tree)
    end = rest.index("") if "" in rest else len(rest)
    paths = list(dict.fromkeys(entry.partition("\t")[2] for entry in rest[:end]))
    said = list(_messages(rest[end + 1 :]))
    found = [_conflict(ground, tree, path, said) for path in paths[:_MOST_CONFLICTS]]
    return Merged(tree, tuple(found))


class Forecaster:
    """Makes forecasts in one repository, and remembers them by the commits they are about."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._merged: dict[tuple[str, str], Merged] = {}
        self._paths: dict[tuple[str, str], set[str]] = {}

    def forecast(self, branch: str, into: str) -> Forecast:
        """What merging `branch` into `into` would do now. Raises NotFound when one of them does not exist."""
        tip, other = (self._tip(name) for name in (branch, into))
        about = Forecast(branch=branch, tip=tip, into=into, into_tip=other, state="nothing_to_merge")
        if self._ground.is_ancestor(tip, other):
            return about.evolve(tree=self._ground.tree_of(other))
        try:
            merged = self._merge(other, tip)
        except GitFailed as error:
            return about.evolve(state="unknown", message=error.message)
        if merged.conflicts:
            return about.evolve(state="conflicts", conflicts=merged.conflicts)
        nothing = merged.tree == self._ground.tree_of(other)
        return about.evolve(state="nothing_to_merge" if nothing else "clean", tree=merged.tree)

    def between(self, branches: Iterable[str], *, one: str | None = None) -> list[Forecast]:
        """The pairs of branches that would get in each other's way: those with conflicts, and those unknown.

        With `one`, only the pairs that it is part of.
        """
        tips = {name: tip for name in branches if (tip := self._ground.tip(name)) is not None}
        found: list[Forecast] = []
        pairs = itertools.combinations(tips, 2) if one is None else ((other, one) for other in tips if other != one)
        for first, second in pairs:
            base = self._ground.merge_base(tips[first], tips[second])
            if base is None or self._changed(base, tips[first]) & self._changed(base, tips[second]):
                forecast = self.forecast(second, first)
                found += [forecast] if forecast.state in ("conflicts", "unknown") else []
        return found

    def _tip(self, name: str) -> str:
        if (tip := self._ground.tip(name) or self._ground.find(name)) is None:
            raise NotFound(f"There is no branch {name!r} in {self._ground.top or self._ground.common}.")
        return tip

    def _merge(self, ours: str, theirs: str) -> Merged:
        key = (ours, theirs)
        if key not in self._merged:
            while len(self._merged) >= _REMEMBERED:
                self._merged.pop(next(iter(self._merged)))
            self._merged[key] = merge_tree(self._ground, ours, theirs)
        return self._merged[key]

    def _changed(self, base: str, tip: str) -> set[str]:
        key = (base, tip)
        if key not in self._paths:
            while len(self._paths) >= _REMEMBERED:
                self._paths.pop(next(iter(self._paths)))
            self._paths[key] = paths_between(self._ground, base, tip)
        return self._paths[key]


def hunks(text: str) -> list[Hunk]:
    """The conflicts in a file with conflict markers. Markers that the file had before look the same: a limit of git."""
    found: list[Hunk] = []
    ours: list[str] = []
    theirs: list[str] = []
    begin, side = 0, None
    for number, line in enumerate(text.split("\n"), 1):
        mark = line[:7]
        if side is None and mark == _OURS:
            begin, side, ours, theirs = number, ours, [], []
            side = ours
        elif side is ours and side is not None and line == _MIDDLE:
            side = theirs
        elif side is theirs and side is not None and mark == _THEIRS:
            found.append(_hunk(begin, "\n".join(ours), "\n".join(theirs)))
            side = None
        elif side is not None:
            side.append(line)
    return found


def _hunk(line: int, ours: str, theirs: str) -> Hunk:
    cut = max(len(ours), len(theirs)) > _SIDE_CHARS
    return Hunk(line=line, ours=ours[:_SIDE_CHARS], theirs=theirs[:_SIDE_CHARS], cut=cut)


def _messages(fields: list[str]) -> Iterator[tuple[list[str], str, str]]:
    """Git's remarks: the paths that each is about, its kind, its text."""
    rest = iter(fields)
    for count in rest:
        paths = list(itertools.islice(rest, int(count)))
        yield paths, next(rest, ""), next(rest, "")


def _conflict(ground: Ground, tree: str, path: str, said: list[tuple[list[str], str, str]]) -> FileConflict:
    about = [(found[1], text.strip()) for paths, kind, text in said if path in paths and (found := _KIND.match(kind))]
    kind, message = about[0] if about else ("conflict", "")
    blob = ground.git.run("cat-file", "blob", f"{tree}:{path}", ok=(0, 128), keep=_LARGEST)
    text = "" if blob.status or b"\0" in blob.out else blob.out.decode(errors="replace")
    return FileConflict(path=shown(path), kind=kind, message=message[:500], hunks=tuple(hunks(text)[:_MOST_HUNKS]))
