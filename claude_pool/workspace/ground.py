"""Ground: one git repository as everything in this package stands on it. Paths, refs, locks; no policy.

`locate` finds the git directory by looking, not by asking git: a repository that another user owns, or whose
configuration is broken, is found all the same. Git itself then works in a *void*: an empty directory of ours as work
tree and no index, so that neither the user's checkout nor attributes in it have a part in what we compute.

All changes of refs are compare-and-swap. One lock per repository, in its own git directory, so that all pools and users
of a machine share it; it is held for moments, never while a run works.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from claude_pool.errors import Conflict, WorkspaceError
from claude_pool.git import Git, GitFailed, GitPlace, require_version, user_settings
from claude_pool.workspace.locks import hold

LOCK_WAIT_S: Final = 120.0
BASES: Final = "refs/claude-pool/base/"
"""Where a branch of a pool started: a ref of our own, which also keeps that commit from being collected."""
MERGED: Final = "refs/claude-pool/merged/"
"""The tip that a branch of a pool was merged at: squashed and changed since, nothing else would tell."""
FALLBACK_NAME: Final = "claude-pool"
FALLBACK_EMAIL: Final = "claude-pool@localhost"
_OID: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def digest(*parts: object) -> str:
    """Eight characters that tell one from another."""
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Checkout:
    """One work tree of the repository: the user's own, a slot's, or another that somebody added."""

    path: Path
    git_dir: Path
    branch: str | None
    """Short name; None when detached."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A repository. `top` is the checkout that was named, None for a bare one; `state` is our folder about it."""

    common: Path
    top: Path | None
    state: Path
    filters: tuple[str, ...] = ()
    git: Git = field(init=False)

    def __post_init__(self) -> None:
        void = self.state / "void"
        void.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = GitPlace(self.common, self.common, void, index=self.state / "no-index", filters=self.filters)
        object.__setattr__(self, "git", Git(place))

    @property
    def name(self) -> str:
        """A short word for people, safe in a file name."""
        base = self.top.name if self.top else self.common.name.removesuffix(".git") or self.common.parent.name
        return re.sub(r"[^A-Za-z0-9._-]+", "-", base).strip("-.")[:40] or "repo"

    def at(self, work_tree: Path, git_dir: Path, *, index: Path | None = None, excludes: Path | None = None) -> Git:
        """Git in a work tree of this repository."""
        return Git(GitPlace(self.common, git_dir, work_tree, index=index, excludes=excludes, filters=self.filters))

    def lock(self, what: str, *, wait_s: float = LOCK_WAIT_S) -> AbstractContextManager[None]:
        """The repository's lock; raises WorkspaceBusy when it can't be had in time."""
        return hold(self.common / "claude-pool.lock", wait_s=wait_s, note=what)

    # --- refs -----------------------------------------------------------------------------------------------------

    def find(self, rev: str) -> str | None:
        """The commit that a revision names, or None."""
        done = self.git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}", ok=(0, 1, 128))
        return done.text if done.status == 0 and _OID.fullmatch(done.text) else None

    def resolve(self, rev: str) -> str:
        """The commit that a revision names. Raises WorkspaceError."""
        if (oid := self.find(rev)) is None:
            raise WorkspaceError(f"{rev!r} names no commit in {self.top or self.common}.")
        return oid

    def tip(self, branch: str) -> str | None:
        """The tip of a branch, or None when there is no such branch."""
        return self.find(f"refs/heads/{branch}")

    def move(self, ref: str, new: str, old: str | None, why: str) -> None:
        """Set a ref to `new` if it still is `old` (None: does not exist). Raises Conflict if it is not."""
        try:
            self.git.run("update-ref", "--create-reflog", "--no-deref", "-m", why, ref, new, old or "")
        except GitFailed as error:
            if self.find(ref) != old:
                raise Conflict(f"{ref} was changed by somebody else meanwhile.") from None
            raise WorkspaceError(f"{ref} can't be set: {error.message}") from None

    def delete(self, ref: str, old: str) -> None:
        """Delete a ref if it still is `old`. Raises Conflict if it is not."""
        try:
            self.git.run("update-ref", "--no-deref", "-d", ref, old)
        except GitFailed:
            if (now := self.find(ref)) not in (None, old):
                raise Conflict(f"{ref} was changed by somebody else meanwhile.") from None
            if now is not None:
                raise

    def is_ancestor(self, older: str, newer: str) -> bool:
        return older == newer or self.git.run("merge-base", "--is-ancestor", older, newer, ok=(0, 1)).status == 0

    def merge_base(self, one: str, two: str) -> str | None:
        done = self.git.run("merge-base", one, two, ok=(0, 1))
        return done.text or None if done.status == 0 else None

    def count(self, since: str, tip: str) -> int:
        """How many commits `tip` has that `since` has not."""
        return int(self.git.text("rev-list", "--count", f"{since}..{tip}", "--"))

    def merged(self) -> dict[str, str]:
        """Branches of pools that were merged here, and the tips that they had then."""
        listed = self.git.run("for-each-ref", "--format=%(objectname) %(refname)", MERGED).lines
        pairs = (line.split(" ", 1) for line in listed if line)
        return {ref.removeprefix(MERGED): oid for oid, ref in pairs}

    # --- whose branches these are --------------------------------------------------------------------------------

    def own(self, branch: str) -> None:
        """Remember that this pool made a branch here: others on the repository are not ours to clear away."""
        with (self.state / "owned").open("a") as stream:
            stream.write(f"{branch}\n")

    def owned(self) -> set[str]:
        """The branches that this pool made here."""
        try:
            return set((self.state / "owned").read_text(errors="replace").split())
        except FileNotFoundError:
            return set()

    def disown(self, branches: Collection[str]) -> None:
        """Forget branches that are gone; wants the repository's lock."""
        kept = sorted(self.owned() - set(branches))
        fresh = self.state / "owned.new"
        fresh.write_text("".join(f"{branch}\n" for branch in kept))
        fresh.replace(self.state / "owned")

    # --- where work starts and where it goes --------------------------------------------------------------------

    def head(self) -> str | None:
        """The branch that the named checkout is on; None when detached."""
        return _branch_in(self._top_dir())

    def target(self, *chosen: str | None) -> str | None:
        """The branch that work is meant for: the first that was chosen, else what the checkout is on."""
        return next((name for name in chosen if name), None) or self.head()

    def start(self, base_ref: str | None, target: str | None) -> str:
        """The commit that a new branch starts from. Raises WorkspaceError, also for a repository without commits."""
        if base_ref is not None:
            return self.resolve(base_ref)
        where = self.top or self.common
        name = self.target(target)
        oid = (self.tip(name) or self.find(name)) if name else self.find(_first_line(self._top_dir() / "HEAD"))
        if oid is not None:
            return oid
        if not self.git.run("for-each-ref", "--count=1").out:
            hint = "Make a first commit; an empty one will do (git commit --allow-empty)."
            raise WorkspaceError(f"{where} has no commit yet, so there is nothing to start from.", hint=hint)
        raise WorkspaceError(f"There is no branch {name!r} to start from in {where}.")

    def base_of(self, branch: str, tip: str) -> str | None:
        """Where a branch started: as noted, else where it left the target."""
        noted = self.find(f"{BASES}{branch}")
        if noted is not None and self.is_ancestor(noted, tip):
            return noted
        target = self.target()
        other = self.tip(target) if target else None
        return self.merge_base(other, tip) if other else None

    def _top_dir(self) -> Path:
        """The git directory of the named checkout; it may itself be a linked worktree."""
        return _git_dir_of(self.top)[0] if self.top else self.common

    def checkouts(self) -> list[Checkout]:
        """All work trees of the repository, the main one first; found in its own records, not in the trees'."""
        found: list[Checkout] = []
        main = self.common.parent if self.common.name == ".git" else self.top
        if main is not None and _git_dir_of(main)[0] == self.common:
            found.append(Checkout(main, self.common, _branch_in(self.common)))
        for admin in self.admin_dirs():
            pointer = _first_line(admin / "gitdir")
            path = Path(os.path.normpath(admin / pointer)).parent
            if pointer and path.is_dir():
                found.append(Checkout(path, admin, _branch_in(admin)))
        return found

    def admin_dirs(self) -> list[Path]:
        """The folders in which git keeps one linked work tree each."""
        folder = self.common / "worktrees"
        return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []

    # --- objects ----------------------------------------------------------------------------------------------------

    def tree_of(self, commit: str) -> str:
        return self.git.text("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}")

    def commit(self, tree: str, parents: list[str], message: str, author: Mapping[str, str] | None = None) -> str:
        """Make a commit object; no hook can run, no ref moves. `author` overrides GIT_AUTHOR_* variables."""
        argv = ["commit-tree", tree, *(word for parent in parents for word in ("-p", parent))]
        text = message.replace("\0", "").encode(errors="replace") or b"(no message)"
        return self.git.text(*argv, stdin=text, env={**self.identity(), **(author or {})})

    def identity(self) -> dict[str, str]:
        """Who commits: as the repository says, else as the user's configuration says, else we."""
        listed = self.git.run("config", "-z", "--get-regexp", r"^user\.(name|email)$", ok=(0, 1)).fields
        own = {**user_settings(), **{key: value for key, _, value in (entry.partition("\n") for entry in listed)}}
        name = own.get("user.name") or FALLBACK_NAME
        email = own.get("user.email") or FALLBACK_EMAIL
        return {
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": email,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": email,
        }


def locate(repo: Path, *, states: Path, filters: tuple[str, ...] = ()) -> Ground:
    """The repository at a path or above it; `states` is the folder that holds what we note about repositories.

    Raises WorkspaceError when there is none, or when git is missing or too old.
    """
    require_version()
    start = repo.resolve()
    for folder in (start, *start.parents):
        found = _git_dir_of(folder) if (folder / ".git").exists() else None
        if found is None and _is_git_dir(folder):
            found = (folder, folder)
        if found is None:
            continue
        common = found[1].resolve()
        if not _is_git_dir(common):
            break
        top = folder if (folder / ".git").exists() else None
        ground = Ground(common, top, states / digest(common), filters)
        if not (where := ground.state / "where").exists():
            where.write_bytes(os.fsencode(top or common))
        return ground
    raise WorkspaceError(
        f"{repo} is no git repository, so there is no workspace to be had.",
        hint="Name one with CLAUDE_POOL_REPO, or choose isolation none with a working directory.",
    )


def known(states: Path) -> list[Path]:
    """The repositories that a pool has worked in on this machine, as far as they are still there."""
    found = (Path(os.fsdecode(where.read_bytes())) for where in sorted(states.glob("*/where")))
    return [path for path in found if path.exists()]


def _git_dir_of(top: Path) -> tuple[Path, Path]:
    """The git directory of a checkout and the one that it shares with the others."""
    entry = top / ".git"
    directory = entry
    if entry.is_file():
        directory = Path(os.path.normpath(top / _first_line(entry).removeprefix("gitdir: ")))
    shared = _first_line(directory / "commondir")
    return directory, Path(os.path.normpath(directory / shared)) if shared else directory


def _first_line(path: Path) -> str:
    try:
        return path.read_bytes()[:4096].decode(errors="surrogateescape").partition("\n")[0].strip()
    except OSError:
        return ""


def _branch_in(git_dir: Path) -> str | None:
    prefix, _, branch = _first_line(git_dir / "HEAD").partition("refs/heads/")
    return branch if prefix == "ref: " and branch else None


def _is_git_dir(folder: Path) -> bool:
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
