"""Preparing a slot's tree: files copied from the user's checkout (say `.env`), then the owner's set-up command, once.

Both come from the settings, never from the repository. Copies are made without following any link on either side, so a
branch can neither make us read a file elsewhere nor write to one; they are renewed before each task, and git is told to
overlook them, so that a secret does not end in a commit. The command runs again when it or the list has changed, or
when the tree was made anew; its output is in a log. A command that fails or takes too long raises WorkspaceError.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final

from claude_pool.config import PoolConfig
from claude_pool.errors import WorkspaceError
from claude_pool.git import user_settings
from claude_pool.processes import Completed, run
from claude_pool.workspace.ground import digest
from claude_pool.workspace.worktree import WorktreeManager

INPUTS: Final = ".claude-pool/inputs"
"""Where a run finds texts that are too long for its prompt; never committed."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LARGEST: Final = 64 << 20
_SHOWN: Final = 2000
_LOGGED: Final = 8 << 20
_HANDED_DOWN: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TERM", "SHELL", "USER", "LOGNAME", "TMPDIR")
"""What a command of the owner gets of our environment; it may run code of the repository, so no secret is in it."""


def left_alone(config: PoolConfig) -> str:
    """Ignore patterns on top of the tree's own: the user's, and the files that we copy in."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    chosen = user_settings().get("core.excludesfile")
    file = Path(chosen).expanduser() if chosen else home / "git" / "ignore"
    try:
        users = file.read_text(errors="surrogateescape")
    except OSError:
        users = ""
    return f"{users}\n/{INPUTS}/\n{patterns(config.copy_files)}"


def put_inputs(tree: Path, files: Mapping[str, bytes]) -> None:
    """Texts for a run, by their names in the folder `INPUTS` of its workspace; whatever was there before goes.

    No link that an earlier run left is followed. Raises WorkspaceError.
    """
    try:
        with _folder(tree, PurePosixPath(INPUTS).parts, make=True) as here:
            for old in os.listdir(here):  # noqa: PTH208 - a descriptor, so that no link is followed
                with suppress(IsADirectoryError, PermissionError):
                    os.unlink(old, dir_fd=here)
            for name, data in files.items():
                _write(name, data, 0o600, here)
    except OSError as error:
        raise WorkspaceError(f"{INPUTS} can't be written into the workspace: {error.strerror}.") from None


def take_inputs_away(tree: Path) -> None:
    """The run is over. What does not go stays, ignored, until the next run's inputs come."""
    parts = PurePosixPath(INPUTS).parts
    with suppress(OSError):
        with _folder(tree, parts, make=False) as here:
            for old in os.listdir(here):  # noqa: PTH208 - as above
                os.unlink(old, dir_fd=here)
        for depth in range(len(parts), 0, -1):
            with _folder(tree, parts[: depth - 1], make=False) as above:
                os.rmdir(parts[depth - 1], dir_fd=above)


def prepare(manager: WorktreeManager, config: PoolConfig, source: Path | None, tip: str) -> None:
    """Make a tree that holds commit `tip` ready for a run. `source` is the checkout that files are copied from."""
    if source is not None:
        copy_in(config.copy_files, source, manager.path)
    wanted = digest(config.setup_command, *config.copy_files)
    if config.setup_command and (config.clean_ignored or manager.note.prepared != wanted):
        log = manager.path.with_name(f"{manager.path.name}.setup.log")
        set_up(config.setup_command, manager.path, timeout_s=config.setup_timeout_s, log=log)
        manager.refresh(tip)
    manager.write_note(prepared=wanted)


def copy_in(names: tuple[str, ...], source: Path, tree: Path) -> None:
    """Copy these files from the user's checkout into the tree; one that is not there is skipped."""
    for name in names:
        _copy(_parts(name), source, tree, name)


def patterns(names: tuple[str, ...]) -> str:
    """Ignore patterns for exactly these files."""
    return "".join("/" + "".join(f"\\{c}" if c in "\\*?[]!# " else c for c in name) + "\n" for name in names)


def set_up(command: str, tree: Path, *, timeout_s: float, log: Path) -> None:
    """Run the owner's command in the tree. Raises WorkspaceError with the end of its output."""
    done = run_command(command, tree, timeout_s=timeout_s)
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    log.write_bytes(done.stdout + done.stderr)
    if done.ok:
        return
    why = f"took more than {timeout_s:g} s" if done.timed_out else f"ended with {done.code}"
    end = (done.text + done.error_text).strip()[-_SHOWN:]
    raise WorkspaceError(f"The set-up command {why}: {end or 'it said nothing'}", hint=f"Its whole output is in {log}.")


def run_command(command: str, tree: Path, *, timeout_s: float) -> Completed:
    """Run a command line of the pool's owner with `sh -c`, with a small environment and a time limit."""
    env = {name: os.environ[name] for name in _HANDED_DOWN if name in os.environ}
    return run(["/bin/sh", "-c", command], env=env, cwd=tree, timeout_s=timeout_s, max_output=_LOGGED)


def _parts(name: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or {"..", ".git"} & set(path.parts):
        raise WorkspaceError(f"copy_files names {name!r}, which is not a file below the repository.")
    return path.parts


def _copy(parts: tuple[str, ...], source: Path, tree: Path, name: str) -> None:
    try:
        with _folder(source, parts[:-1], make=False) as there:
            descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=there)
    except FileNotFoundError:
        return
    except OSError as error:
        raise WorkspaceError(f"copy_files: {name} can't be read, or is a link: {error.strerror}.") from None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size > _LARGEST:
            raise WorkspaceError(f"copy_files: {name} is no file, or is larger than 64 MiB.")
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            data = stream.read()
    finally:
        os.close(descriptor)
    try:
        with _folder(tree, parts[:-1], make=True) as here:
            _write(parts[-1], data, info.st_mode, here)
    except OSError as error:
        raise WorkspaceError(f"copy_files: {name} can't be written into the workspace: {error.strerror}.") from None


def _write(name: str, data: bytes, mode: int, folder: int) -> None:
    """Replace a file by a new one: whatever was there, a link too, is not written through."""
    temporary = f".{name[:200]}.claude-pool"
    for old in (temporary, name):
        try:
            if not stat.S_ISDIR(os.lstat(old, dir_fd=folder).st_mode):
                os.unlink(old, dir_fd=folder)
        except FileNotFoundError:
            continue
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, stat.S_IMODE(mode) & 0o777, dir_fd=folder), "wb") as stream:
        stream.write(data)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


@contextmanager
def _folder(top: Path, parts: tuple[str, ...], *, make: bool) -> Generator[int]:
    """The descriptor of a folder below `top`, reached without following a link."""
    current = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=current)
            inner = os.open(part, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = inner
        yield current
    finally:
        os.close(current)
