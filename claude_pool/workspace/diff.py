"""Diffs of branches: what changed, counted, and the patch page by page.

Computed between commits, away from any checkout, so that no attribute, filter or external program of the repository has
a say: a branch can't hide a file from its reviewer by calling it binary. Patches are the branch's own bytes with what
is no UTF-8 replaced; who shows them to a terminal or to a model takes the control characters out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from claude_pool.errors import InvalidRequest, NotFound
from claude_pool.models.workspace import Diff, FileChange
from claude_pool.workspace.ground import Ground
from claude_pool.workspace.keep import shown

PAGE_BYTES: Final = 100_000
MOST_FILES: Final = 500
_TREE: Final = ("diff-tree", "-r", "--no-ext-diff", "--no-textconv", "--find-renames", "-l1000")
_KINDS: Final = {
    "A": "added", "M": "modified", "D": "deleted", "R": "renamed", "C": "copied", "T": "type_changed",
}  # fmt: skip
_PLAIN_FILE: Final = "100644"


def diff(
    ground: Ground,
    branch: str,
    *,
    against: str = "base",
    target: str | None = None,
    path: str | None = None,
    offset: int = 0,
    page_bytes: int = PAGE_BYTES,
) -> Diff:
    """What a branch changes since its `base`, since it left the `target`, or compared with a ref.

    `path` narrows it to one file or folder. `offset` and `page_bytes` choose a page of the patch, which ends with a
    whole line where that is possible; `page_bytes=0` leaves the patch out. Raises NotFound, InvalidRequest.
    """
    if offset < 0 or page_bytes < 0:
        raise InvalidRequest("A page of a diff has neither a negative beginning nor a negative size.")
    if (tip := ground.tip(branch)) is None:
        raise NotFound(f"There is no branch {branch!r} in {ground.top or ground.common}.")
    base = _base(ground, branch, tip, against, target)
    files = changes(ground, base, tip, path)
    page, following = _page(ground, base, tip, path, offset, page_bytes) if page_bytes else ("", None)
    return Diff(
        branch=branch,
        tip=tip,
        against=against,
        base=base,
        files=tuple(files[:MOST_FILES]),
        files_total=len(files),
        insertions=sum(file.insertions or 0 for file in files),
        deletions=sum(file.deletions or 0 for file in files),
        patch=page,
        patch_offset=offset,
        next_offset=following,
    )


def changes(ground: Ground, base: str, tip: str, path: str | None = None) -> list[FileChange]:
    """All changed files between two commits, with their counts."""
    only = ("--", path) if path else ("--",)
    counts = dict(_counts(ground.git.run(*_TREE, "--numstat", "-z", base, tip, *only).fields))
    found: list[FileChange] = []
    for mode, letter, old, new in _raw(ground.git.run(*_TREE, "--raw", "-z", base, tip, *only).fields):
        insertions, deletions = counts.get(new, (None, None))
        change = FileChange(
            path=shown(new),
            kind=_KINDS.get(letter, "modified"),  # pyright: ignore[reportArgumentType] - pydantic checks it
            old_path=shown(old) if old else None,
            insertions=insertions,
            deletions=deletions,
            mode=mode if mode not in (_PLAIN_FILE, "000000") else "",
        )
        found.append(change)
    return found


def paths_between(ground: Ground, base: str, tip: str) -> set[str]:
    """The names of all files that differ, renames as two; for comparing sets, not for people."""
    listed = ground.git.run("diff-tree", "-r", "--no-renames", "--name-only", "-z", base, tip, "--")
    return set(listed.fields)


def _base(ground: Ground, branch: str, tip: str, against: str, target: str | None) -> str:
    if against == "base":
        return ground.base_of(branch, tip) or tip
    if against == "target":
        name = ground.target(target)
        if name is None or (other := ground.find(name)) is None:
            raise InvalidRequest("There is no target branch to compare with.", hint="Name one, or compare with a ref.")
        return ground.merge_base(other, tip) or other
    return ground.resolve(against)


def _page(ground: Ground, base: str, tip: str, path: str | None, offset: int, size: int) -> tuple[str, int | None]:
    only = ("--", path) if path else ("--",)
    options = ("--patch", "--submodule=short", "--src-prefix=a/", "--dst-prefix=b/")
    done = ground.git.run(*_TREE, *options, base, tip, *only, keep=offset + size + 1)
    page, more = done.out[offset : offset + size], len(done.out) > offset + size
    if more and (line_end := page.rfind(b"\n")) >= 0:
        page = page[: line_end + 1]
    elif more:  # one line longer than a page: cut between characters at least
        while page and (page[-1] & 0xC0) == 0x80:
            page = page[:-1]
        page = page[:-1] if page and page[-1] >= 0xC0 else page
    return page.decode(errors="replace"), offset + len(page) if more and page else None


def _raw(fields: list[str]) -> Iterator[tuple[str, str, str | None, str]]:
    """New mode, letter, old path of a rename, path."""
    rest = iter(fields)
    for info in rest:
        words = info.split(" ")
        mode, letter = words[1], words[4][0]
        first = next(rest)
        yield (mode, letter, first, next(rest)) if letter in "RC" else (mode, letter, None, first)


def _counts(fields: list[str]) -> Iterator[tuple[str, tuple[int | None, int | None]]]:
    rest = iter(fields)
    for row in rest:
        added, removed, path = row.split("\t", 2)
        if not path:  # a rename: the old and the new name follow
            next(rest)
            path = next(rest)
        yield path, (None, None) if added == "-" else (int(added), int(removed))
