"""Bringing a person's checkout along when the branch that it is on moves by a merge. The most careful file here.

A checkout is touched only when git sees no change in it, nothing unfinished is going on, and no file in it, ignored
ones included, would be overwritten that is not the old commit's. A journal is written before the first file changes. A
process that dies in between leaves it behind, and whoever merges or clears up next takes the checkout back to where it
was: each file that is ours, that is one with the new content or a beginning of it. Any other content is a person's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from claude_pool.errors import Conflict
from claude_pool.git import Git, GitFailed
from claude_pool.models.base import Record
from claude_pool.workspace.ground import Checkout, Ground
from claude_pool.workspace.orphans import end_orphans

_GOING_ON: Final = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "BISECT_LOG")
_NAMED: Final = 5
_LARGEST: Final = 64 << 20


class Journal(Record):
    """A merge that has begun to change a checkout."""

    target: str
    before: str
    after: str
    path: str
    git_dir: str


def holder(ground: Ground, target: str) -> Checkout | None:
    """The checkout that is on the target branch, if there is one. Raises Conflict when there are several."""
    found = [checkout for checkout in ground.checkouts() if checkout.branch == target]
    if len(found) > 1:
        raise Conflict(f"{target} is checked out in {found[0].path} and in {found[1].path}.", hint="Leave it in one.")
    return found[0] if found else None


def require_clean(ground: Ground, checkout: Checkout, before: str, after: str | None) -> None:
    """Raise Conflict unless the checkout can be brought from `before` to `after` without losing anything."""
    git = ground.at(checkout.path, checkout.git_dir)
    hint = "Commit or stash what is there, or switch that checkout to another branch."
    for name in _GOING_ON:
        if (checkout.git_dir / name).exists():
            raise Conflict(f"Something is unfinished in {checkout.path} ({name}).", hint=hint)
    if (checkout.git_dir / "index.lock").exists():
        raise Conflict(f"Another git command is at work in {checkout.path} (index.lock).", hint=hint)
    changed = git.run("status", "--porcelain", "-z", "--untracked-files=no", "--no-renames").fields
    if changed:
        names = ", ".join(entry[3:] for entry in changed[:_NAMED])
        raise Conflict(f"{checkout.path} has changes that are not committed: {names}.", hint=hint)
    if after is not None:
        _require_room(git, checkout.path, before, after, hint)


def bring(ground: Ground, checkout: Checkout, target: str, before: str, after: str) -> None:
    """Change files and index of a clean checkout; the branch itself is moved by the caller, who then calls `done`."""
    git = ground.at(checkout.path, checkout.git_dir)
    journal = Journal(target=target, before=before, after=after, path=str(checkout.path), git_dir=str(checkout.git_dir))
    _journal_path(ground).write_text(journal.model_dump_json())
    try:
        git.run("read-tree", "-m", "-u", before, after)
    except GitFailed as error:
        recover(ground)
        raise Conflict(f"{checkout.path} could not be brought along: {error.message}") from error


def done(ground: Ground) -> None:
    """The branch has moved: nothing is left to take back."""
    _journal_path(ground).unlink(missing_ok=True)


def recover(ground: Ground) -> str | None:
    """Take back what a merge that died, or failed, did to a checkout. Says what was done; None for nothing."""
    path = _journal_path(ground)
    try:
        journal = Journal.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        path.unlink()
        return None
    checkout = Checkout(Path(journal.path), Path(journal.git_dir), journal.target)
    said = None
    if ground.tip(journal.target) == journal.before and checkout in ground.checkouts():
        said = _take_back(ground, checkout, journal)
    path.unlink(missing_ok=True)
    return said


def _take_back(ground: Ground, checkout: Checkout, journal: Journal) -> str:
    git = ground.at(checkout.path, checkout.git_dir)
    end_orphans(checkout.git_dir)
    (checkout.git_dir / "index.lock").unlink(missing_ok=True)
    listed = git.run("diff-tree", "-r", "--no-renames", "--name-status", "-z", journal.before, journal.after, "--")
    ours: list[tuple[str, str]] = []
    others: list[str] = []
    for letter, name in zip(listed.fields[::2], listed.fields[1::2], strict=True):
        old = None if letter == "A" else journal.before
        new = None if letter == "D" else journal.after
        if _is_ours(git, checkout.path, name, old, new):
            ours.append((letter, name))
        else:
            others.append(name)
    git.run("read-tree", journal.before)
    for letter, name in ours:
        if letter == "A":
            _remove(checkout.path, name)
    again = b"".join(os.fsencode(name) + b"\0" for letter, name in ours if letter != "A")
    git.run("checkout-index", "--force", "-z", "--stdin", stdin=again)
    git.run("update-index", "-q", "--refresh", ok=(0, 1))
    left = f"; left as they are: {', '.join(others[:_NAMED])}" if others else ""
    return f"A merge into {journal.target} that died was taken back in {checkout.path}{left}."


def _is_ours(git: Git, top: Path, name: str, before: str | None, after: str | None) -> bool:
    """Whether a file is as one of the two commits has it, or as an interrupted write of the new one left it."""
    path = top / name
    if any(folder.is_symlink() for folder in path.parents if folder.is_relative_to(top) and folder != top):
        return False
    found = _content(path)
    blobs = [
        git.run("cat-file", "blob", f"{commit}:{name}", ok=(0, 128), keep=_LARGEST).out if commit else None
        for commit in (before, after)
    ]
    return found in blobs or found is None or (blobs[1] is not None and blobs[1].startswith(found))


def _content(path: Path) -> bytes | None:
    if path.is_symlink():
        return os.fsencode(path.readlink())
    return path.read_bytes() if path.is_file() and path.stat().st_size <= _LARGEST else None


def _remove(top: Path, name: str) -> None:
    (top / name).unlink(missing_ok=True)
    for folder in (top / name).parents:
        if folder == top or any(folder.iterdir()):
            break
        folder.rmdir()


def _require_room(git: Git, top: Path, before: str, after: str, hint: str) -> None:
    """No file that the merge adds may be there already: also an ignored one, which git itself would overwrite."""
    listed = git.run("diff-tree", "-r", "--no-renames", "--name-status", "-z", before, after, "--").fields
    letters, names = listed[::2], listed[1::2]
    added = [name for letter, name in zip(letters, names, strict=True) if letter == "A"]
    there = [name for name in added if os.path.lexists(top / name)]
    if there:
        raise Conflict(f"{top} has files that the merge would overwrite: {', '.join(there[:_NAMED])}.", hint=hint)
    filtered = _filtered(git, names)
    if filtered:
        raise Conflict(
            f"{top} has files that pass through a content filter, such as git-lfs: {', '.join(filtered[:_NAMED])}.",
            hint="Switch that checkout to another branch, merge, and switch back.",
        )


def _filtered(git: Git, names: list[str]) -> list[str]:
    if not names:
        return []
    asked = b"".join(os.fsencode(name) + b"\0" for name in names)
    fields = git.run("check-attr", "-z", "--stdin", "filter", stdin=asked).fields
    values = zip(fields[::3], fields[2::3], strict=True)
    return [name for name, value in values if value not in ("unspecified", "unset", *git.place.filters)]


def _journal_path(ground: Ground) -> Path:
    return ground.state / "merge.json"
