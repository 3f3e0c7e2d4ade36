"""Isolation `clone`: the slot's own copy of the repository, with a git directory that nothing else shares.

A run can do to it what it likes: nobody else's git reads it. It has the origin of the repository it was made from, so
that a run can open pull requests, and its own objects, so that a damaged one damages nothing. Its git directory is put
in order before our calls: our configuration, no hooks, no attributes, no other object stores. The branch goes in and
comes back as a bundle; branches that the run made beside it come back under `<branch>.left-<n>`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from claude_pool.git import plain
from claude_pool.workspace.ground import Ground
from claude_pool.workspace.hygiene import alarming, keys_in
from claude_pool.workspace.keep import Kept, beside
from claude_pool.workspace.travel import bring_branch, write_bundle
from claude_pool.workspace.worktree import WorktreeManager, delete_tree

MARK: Final = ".clone"
"""Ending of the files that say which clones of a repository have work in them."""
_ENTRANCES: Final = (
    "hooks",
    "info/attributes",
    "info/grafts",
    "objects/info/alternates",
    "config.worktree",
    "commondir",
)
_MOST_KNOWN: Final = 64
_MOST_BESIDE: Final = 20


class CloneManager(WorktreeManager):
    """A work tree whose git directory is its own, in `.git`. `source` is the repository that it was made from."""

    def __init__(self, source: Ground, path: Path, *, excludes: str = "", clean_ignored: bool = False) -> None:
        own = Ground(path / ".git", path, path.with_name(f"{path.name}.state"), source.filters)
        super().__init__(own, path, excludes=excludes, clean_ignored=clean_ignored)
        self.admin = own.common
        self.unfinished = tuple(name for name in self.unfinished if name not in ("info", "refs"))
        self._source = source
        self._mark = source.state / "open" / f"{path.name}{MARK}"

    def enter(self) -> list[str]:
        self._mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._mark.write_text(str(self.path))
        return []

    def leave(self) -> list[str]:
        self._mark.unlink(missing_ok=True)
        return []

    def ready(self, base: str) -> list[str]:
        """Make the clone, or put its git directory in order. Gives warnings."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._excludes.write_text(self._patterns)
        if self.note.made and self._is_real_folder(self.path):
            return self._mended(base)
        self.write_note(made=False, task="", branch="", since="", prepared="")
        self.remove()
        self._make()
        self.write_note(made=True)
        return []

    def remove(self) -> None:
        delete_tree(self.path)
        delete_tree(self.ground.state)
        (self.ground.state / "void").mkdir(parents=True, mode=0o700)

    def inspect(self) -> list[str]:
        """Put the git directory in order after a run. Says what had to be put."""
        return self._mended(self.note.since) if self._is_real_folder(self.path) else []

    def _mended(self, base: str) -> list[str]:
        note = self.note
        if self._is_real_folder(self.admin) and self._is_real_folder(self.admin / "objects"):
            was = self.ground.state / "config"
            was.write_text(self._configuration())
            changed = alarming(keys_in(was) or {}, keys_in(self.admin / "config"))
            found = [name for name in _ENTRANCES if os.path.lexists(self.admin / name)]
            self._order()
            (self.admin / "refs").mkdir(exist_ok=True)
            self._mend_head(base)
            return [f"{name} of the clone was changed by the run; undone." for name in (*found, *changed[:10])]
        self._set_aside(self.admin)
        self._make()
        if not note.branch:
            return []
        tip = self.bring_in(note.branch) or base
        self.git.run("symbolic-ref", "HEAD", f"refs/heads/{note.branch}")
        self.git.run("read-tree", tip)
        return ["The clone's git directory was gone; what was committed only there is lost, its files are kept."]

    def _make(self) -> None:
        plain("init", "--quiet", "--template=", "--initial-branch=unused", "--", str(self.path))
        self._order()

    def check_out(self, task: str, branch: str, tip: str) -> None:
        self.bring_in(branch)
        super().check_out(task, branch, tip)

    def keep(self, branch: str, message: str) -> Kept:
        """Keep what is left in the clone, and bring it into the repository."""
        kept = super().keep(branch, message)
        if not self._is_real_folder(self.admin):
            return kept
        for name in (branch, *kept.aside):
            bring_branch(self.ground, self._source, name)
        self._bring_others(branch, kept)
        return kept

    def _bring_others(self, branch: str, kept: Kept) -> None:
        """Branches that the run made beside its own would go with the clone: they come back under our names."""
        listed = self.ground.git.run("for-each-ref", "--format=%(objectname) %(refname:short)", "refs/heads").lines
        for line in listed[:_MOST_BESIDE]:
            oid, _, name = line.partition(" ")
            if name not in (branch, *kept.aside) and self._source.find(oid) is None:
                ours = beside(self.ground, branch, oid)
                bring_branch(self.ground, self._source, ours)
                kept.aside.append(ours)
                kept.warnings.append(f"The run's branch {name} is in the repository as {ours}.")

    def bring_in(self, branch: str) -> str | None:
        """Bring a branch of the repository, as it is now, into the clone. Gives its tip."""
        tip = self._source.tip(branch)
        if tip is None:
            return None
        if self.ground.find(tip) is None:
            if (shallow := self._source.common / "shallow").is_file():
                shutil.copyfile(shallow, self.admin / "shallow")
            bundle = self.ground.state / "in.bundle"
            listed = self.ground.git.run("for-each-ref", "--format=%(objectname)", "--sort=-committerdate").lines
            known = [oid for oid in dict.fromkeys(listed[:_MOST_KNOWN]) if self._source.find(oid)]
            write_bundle(self._source, bundle, [f"refs/heads/{branch}"], without=known)
            options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance")
            arrived = f"+refs/heads/{branch}:refs/claude-pool/seen"
            self.ground.git.run("fetch", *options, "--", str(bundle), arrived, transports=("file",))
            bundle.unlink()
        self.ground.git.run("update-ref", "--no-deref", f"refs/heads/{branch}", tip)
        return tip

    def _order(self) -> None:
        """Our configuration, and nothing in the git directory by which something could be run or read."""
        for name in _ENTRANCES:
            self._set_aside(self.admin / name)
        config, wanted = self.admin / "config", self._configuration()
        if config.is_symlink() or not config.is_file() or config.read_text(errors="replace") != wanted:
            delete_tree(config)
            config.write_text(wanted)
        for lock in self.admin.rglob("*.lock"):
            lock.unlink(missing_ok=True)

    def _configuration(self) -> str:
        """The clone's whole configuration: who commits, and where the repository came from."""
        who = self._source.identity()
        origin = self._source.git.run("config", "--get", "remote.origin.url", ok=(0, 1)).text
        entries = (
            ("core", "repositoryformatversion", "0"),
            ("core", "bare", "false"),
            ("core", "logallrefupdates", "true"),
            ("user", "name", who["GIT_AUTHOR_NAME"]),
            ("user", "email", who["GIT_AUTHOR_EMAIL"]),
            ('remote "origin"', "url", origin or str(self._source.top or self._source.common)),
            ('remote "origin"', "fetch", "+refs/heads/*:refs/remotes/origin/*"),
        )
        quoted = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": " "})
        return "".join(f'[{section}]\n\t{name} = "{value.translate(quoted)}"\n' for section, name, value in entries)
