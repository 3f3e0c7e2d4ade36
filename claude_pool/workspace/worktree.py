"""WorktreeManager: the one work tree that a slot owns, at a fixed path, from its making to its repair.

A fixed path is what keeps a session resumable, a dependency folder warm and a spare process useful. Beside the tree
lies a note that says what is in it: it is written before something may be lost and cleared when nothing can be any
more, so that after a crash whoever comes next knows which branch the leftovers belong to.

    ready     make or repair the tree, and keep what a run that died left in it
    check_out put a branch into it: tracked and untracked files as the branch has them, ignored ones as they were
    let_go    detach it, so that any other slot can have the branch

`ready` wants the repository's lock, for it changes git's own records. What can't be repaired is rebuilt; a tree that
holds unsaved work is never deleted before that work is on its branch.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Final

from claude_pool.errors import WorkspaceError
from claude_pool.git import Git, GitFailed
from claude_pool.models.base import Record
from claude_pool.workspace.ground import Ground
from claude_pool.workspace.hygiene import Guarded
from claude_pool.workspace.keep import Kept, keep
from claude_pool.workspace.orphans import end_orphans

_UNFINISHED: Final = (
    "MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "MERGE_RR", "AUTO_MERGE", "SQUASH_MSG", "CHERRY_PICK_HEAD", "REVERT_HEAD",
    "REBASE_HEAD", "BISECT_LOG", "BISECT_START", "BISECT_TERMS", "BISECT_NAMES", "rebase-merge", "rebase-apply",
    "sequencer", "config.worktree", "info", "hooks", "refs",
)  # fmt: skip
"""What a run may leave in the tree's own part of the git directory, and the next must not find."""


_HEAD: Final = re.compile(r"(?:ref: refs/[^\x00-\x20]+|[0-9a-f]{40}(?:[0-9a-f]{24})?)\s*")


class Note(Record):
    """What is in a tree. `made` says that it was made whole, `branch` that it holds work for that branch."""

    made: bool = False
    prepared: str = ""
    task: str = ""
    branch: str = ""
    since: str = ""
    """The commit that was checked out when the run began."""


class WorktreeManager:
    """Makes, repairs, fills and empties one work tree."""

    def __init__(self, ground: Ground, path: Path, *, excludes: str = "", clean_ignored: bool = False) -> None:
        self.ground = ground
        self.path = path
        self.admin = ground.common / "worktrees" / path.name
        self.clean_ignored = clean_ignored
        self.guarded = Guarded(ground)
        self.unfinished = _UNFINISHED
        self._note_path = path.with_name(f"{path.name}.json")
        self._excludes = path.with_name(f"{path.name}.exclude")
        self._patterns = excludes
        self.quarantine = path.with_name(f"{path.name}.quarantine")

    @property
    def git(self) -> Git:
        """Git in this tree; its git directory is given, so a `.git` that a run wrote is not followed."""
        return self.ground.at(self.path, self.admin, excludes=self._excludes)

    @property
    def note(self) -> Note:
        try:
            return Note.model_validate_json(self._note_path.read_bytes())
        except (OSError, ValueError):
            return Note()

    def write_note(self, **changes: object) -> None:
        """Change the note, durably: it decides what is done after a crash."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._note_path.with_suffix(".new")
        with temporary.open("w") as stream:
            stream.write(json.dumps({**self.note.model_dump(), **changes}))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(self._note_path)

    # --- the watch over what all trees share; wants the repository's lock ---------------------------------------------

    def enter(self) -> list[str]:
        """A run begins. Gives warnings about what a run that died left."""
        return self.guarded.enter(self.path.name)

    def inspect(self) -> list[str]:
        """A run ended: undo what it did to what all share, mend what it broke, and say so."""
        warnings = self.guarded.check(self.path.name)
        if self._is_real_folder(self.path):
            self._mend(self.note.since)
        return warnings

    def leave(self) -> list[str]:
        """The watch ends."""
        return self.guarded.leave(self.path.name)

    # --- making -----------------------------------------------------------------------------------------------------

    def ready(self, base: str) -> list[str]:
        """Make the tree, or repair it, without files yet; wants the repository's lock. Gives warnings."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._excludes.write_text(self._patterns)
        note = self.note
        if note.made and self._is_real_folder(self.path):
            self._mend(base)
            return []
        self.write_note(made=False, task="", branch="", since="", prepared="")
        self.remove()
        self._add(base)
        self.write_note(made=True)
        gone = "The workspace directory was gone; what was committed is on"
        return [f"{gone} {note.branch}."] if note.made and note.branch else []

    def rescue(self) -> Kept:
        """Keep what a run that died left here, on its branch, and let the branch go."""
        note = self.note
        kept = self.keep(note.branch, f"claude-pool: work of {note.task} as its run left it")
        self.let_go()
        return kept

    def keep(self, branch: str, message: str) -> Kept:
        """Commit what is left in the tree on a branch."""
        since = self.note.since
        if not self._is_real_folder(self.path):
            gone = f"The run deleted its whole workspace; what it committed is on {branch}."
            return Kept(self.ground.tip(branch) or since, warnings=[gone])
        self._unlock()
        self._readable_index(since)
        return keep(self.ground, self.git, branch, message, since=since, quarantine=self.quarantine)

    def _add(self, base: str) -> None:
        try:
            self.ground.git.run("worktree", "add", "--quiet", "--detach", "--no-checkout", "--", str(self.path), base)
        except GitFailed as error:
            raise WorkspaceError(f"The worktree {self.path} could not be made: {error.message}") from error
        if not (self.admin / "HEAD").is_file():
            raise WorkspaceError(f"git keeps the worktree {self.path} under a name that is not ours.")

    def _mend(self, base: str) -> None:
        """Bring git's pointers between tree and repository in order; if git forgot the tree, tell it again."""
        forgotten = not self._is_real_folder(self.admin)
        if forgotten:
            delete_tree(self.admin)
            self.admin.mkdir(parents=True)
        self._mend_head(base)
        for name, text in (("gitdir", f"{self.path / '.git'}\n"), ("commondir", "../..\n")):
            if (file := self.admin / name).is_symlink() or not file.is_file() or file.read_text() != text:
                delete_tree(file)
                file.write_text(text)
        (self.admin / "locked").unlink(missing_ok=True)
        pointer, wanted = self.path / ".git", f"gitdir: {self.admin}\n"
        if pointer.is_symlink() or not pointer.is_file() or pointer.read_text(errors="replace") != wanted:
            self._set_aside(pointer)
            pointer.write_text(wanted)
        if forgotten:
            self.git.run("read-tree", "HEAD")

    def _mend_head(self, base: str) -> None:
        """See to it that the tree is on something: as it is, else on the branch whose work is in it, else the base."""
        head, note = self.admin / "HEAD", self.note
        if not head.is_symlink() and head.is_file() and _HEAD.fullmatch(head.read_text(errors="replace")):
            return
        delete_tree(head)
        on_branch = note.branch and self.ground.tip(note.branch) is not None
        head.write_text(f"ref: refs/heads/{note.branch}\n" if on_branch else f"{note.since or base}\n")

    def _set_aside(self, entry: Path) -> None:
        """Move something out of the tree that has no business there, but may hold somebody's commits."""
        if os.path.lexists(entry):
            self.quarantine.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.move(entry, self.quarantine / f"{entry.name.strip('.')}.{len(list(self.quarantine.iterdir()))}")

    def remove(self) -> None:
        """Take the tree and git's record of it away."""
        delete_tree(self.path)
        delete_tree(self.admin)

    # --- filling ----------------------------------------------------------------------------------------------------

    def check_out(self, task: str, branch: str, tip: str) -> None:
        """Put a branch into the tree. Everything that is here now may go."""
        self._unlock()
        for name in self.unfinished:
            delete_tree(self.admin / name)
        git = self.git
        try:
            self._fill(git, tip)
        except GitFailed:  # a broken index, say: with a new one git looks at every file
            (self.admin / "index").unlink(missing_ok=True)
            self._fill(git, tip)
        git.run("symbolic-ref", "HEAD", f"refs/heads/{branch}")
        self.write_note(task=task, branch=branch, since=tip)

    def _fill(self, git: Git, tip: str) -> None:
        if any(not line.startswith("H ") for line in git.run("ls-files", "-v", "-z").fields):
            (self.admin / "index").unlink(missing_ok=True)  # marks that make git overlook files
        git.run("update-ref", "--no-deref", "HEAD", tip)
        git.run("read-tree", "--reset", "-u", tip)
        git.run("clean", "--force", "--force", "-d", "--quiet", *(("-x",) if self.clean_ignored else ()))

    def refresh(self, tip: str) -> None:
        """Undo what the owner's preparations did to tracked files, and what they left that is not ignored."""
        self.git.run("read-tree", "--reset", "-u", tip)
        self.git.run("clean", "--force", "--force", "-d", "--quiet")

    def let_go(self, branch: str = "") -> None:
        """Detach the tree from its branch; the files stay as they are. `branch`: of a tree whose note has none."""
        branch = self.note.branch or branch
        if branch and (tip := self.ground.tip(branch)) is not None:
            self.git.run("update-ref", "--no-deref", "HEAD", tip)
        self.write_note(task="", branch="", since="")

    def _unlock(self) -> None:
        """Take away the locks of a git process that died here. The tree is ours, so one that lives is an orphan."""
        locks = list(self.admin.glob("*.lock"))
        if locks or self.note.branch:
            end_orphans(self.admin)
        for lock in locks:
            lock.unlink(missing_ok=True)

    def _readable_index(self, since: str) -> None:
        try:
            self.git.run("ls-files", "--stage", "-z")
        except GitFailed:
            (self.admin / "index").unlink(missing_ok=True)
            on = self.git.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}", ok=(0, 1, 128)).text
            self.git.run("read-tree", on or since)

    @staticmethod
    def _is_real_folder(path: Path) -> bool:
        try:
            return stat.S_ISDIR(path.lstat().st_mode)
        except OSError:
            return False


def delete_tree(path: Path) -> None:
    """Delete a file, a link or a whole tree; links are not followed, and folders that forbid it are opened first."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    if path.is_dir():
        for folder, folders, _ in os.walk(path):
            for name in folders:
                inner = Path(folder) / name
                if not inner.is_symlink():
                    inner.chmod(stat.S_IRWXU)
        shutil.rmtree(path)
