"""Git, hardened: the only file that uses GitPython, and only its plain command form (`Git.execute` with a list).

A repository that an agent could write to is hostile data. So every call runs with an environment of its own: no hooks,
no file system monitor, no system or user configuration, no prompts, no editor, no replaced commits, no transports
unless asked for; the repository's own configuration is read first, and every key in it that names a program is
overridden. The git directory and the work tree are always given, never searched for, so that a `.git` that somebody
put into a tree is not followed. Foreign strings reach git only behind `--end-of-options`, behind `--`, or by stdin.

A call that fails, takes too long or says too much raises `GitFailed`, a WorkspaceError; git's own words are in it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, cast

from claude_pool.errors import WorkspaceError

OLDEST: Final = (2, 38)
"""`git merge-tree --write-tree` came with it."""
TIMEOUT_S: Final = 300.0
MOST_OUTPUT: Final = 64 << 20
STARTER: Final = "CLAUDE_POOL_GIT_OF"
"""Variable by which a git process of ours is known; its value is the pid of who started it."""
_TERM_GRACE_S: Final = 2.0
_CHUNK: Final = 1 << 16
_STDERR_KEPT: Final = 1 << 16

_FIXED_SETTINGS: Final = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.splitIndex": "false",
    "core.attributesFile": "/dev/null",
    "core.sshCommand": "ssh",
    "core.gitProxy": "",
    "core.alternateRefsCommand": "true",
    "core.pager": "cat",
    "core.quotePath": "false",
    "core.trustctime": "true",
    "core.checkStat": "default",
    "core.logAllRefUpdates": "true",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "log.showSignature": "false",
    "merge.verifySignatures": "false",
    "merge.renormalize": "false",
    "merge.default": "text",
    "merge.conflictStyle": "merge",
    "diff.ignoreSubmodules": "dirty",
    "submodule.recurse": "false",
    "status.submoduleSummary": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.prune": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "index.sparse": "false",
    "uploadpack.packObjectsHook": "",
    "protocol.ext.allow": "never",
    "credential.helper": "",
    "safe.directory": "*",  # the pool's owner named this repository; who may write to it is the owner's affair
}

_DISARM: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"filter\..*\.(?:clean|smudge|process)"), ""),
    (re.compile(r"filter\..*\.required"), "false"),
    (re.compile(r"diff\.external|diff\..*\.(?:command|textconv)"), ""),
    (re.compile(r"merge\..*\.driver"), "false"),
    (re.compile(r"remote\..*\.uploadpack"), "git-upload-pack"),
    (re.compile(r"remote\..*\.receivepack"), "git-receive-pack"),
    (re.compile(r"remote\..*\.(?:vcs|proxy)"), ""),
    (re.compile(r"credential\..*\.helper|gpg\..*program|.*\.askpass"), ""),
    (re.compile(r"protocol\..*\.allow"), "never"),
)
"""Keys of the repository's configuration that name programs or open doors, and what each is overridden with."""

_USER_SETTINGS: Final = frozenset({"core.autocrlf", "core.eol"})
"""What counts of the user's own configuration in our calls: how files look in a checkout, nothing that runs."""


class GitFailed(WorkspaceError):
    """A git command failed."""

    def __init__(self, message: str = "", *, status: int = -1, stderr: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.stderr = stderr


@dataclass(frozen=True, slots=True)
class Output:
    """What a git command said. `cut` means that it was stopped because it said more than was wanted."""

    status: int
    out: bytes
    err: str
    cut: bool = False

    @property
    def text(self) -> str:
        """Standard output in one piece, without the last line end."""
        return os.fsdecode(self.out.removesuffix(b"\n"))

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n") if self.out else []

    @property
    def fields(self) -> list[str]:
        """Standard output of a `-z` command."""
        return [os.fsdecode(part) for part in self.out.split(b"\0")[:-1]]


@dataclass(frozen=True, slots=True)
class GitPlace:
    """Where a git command works: always all of it, so that git searches for nothing."""

    common_dir: Path
    git_dir: Path
    work_tree: Path
    index: Path | None = None
    excludes: Path | None = None
    """Patterns of files that are to be left alone, on top of the tree's own `.gitignore` files."""
    filters: tuple[str, ...] = ()
    """Names of content filters that the pool's owner trusts; their commands come from the user's configuration."""


@dataclass(slots=True)
class Git:
    """Runs git commands in one place."""

    place: GitPlace
    settings: Mapping[str, str] = field(default_factory=dict[str, str])

    def run(
        self,
        *argv: str,
        stdin: bytes = b"",
        ok: Container[int] = (0,),
        timeout_s: float = TIMEOUT_S,
        keep: int | None = None,
        env: Mapping[str, str] | None = None,
        transports: Iterable[str] = (),
    ) -> Output:
        """Run `git *argv`. With `keep`, more output than that many bytes is cut off; without, it is an error."""
        variables = self._variables(transports)
        done = _execute(
            argv,
            {**variables, **(env or {})},
            cwd=self.place.work_tree,
            stdin=stdin,
            timeout_s=timeout_s,
            most=MOST_OUTPUT if keep is None else keep,
        )
        if done.cut and keep is None:
            raise GitFailed(f"git {argv[0]} gave more than {MOST_OUTPUT:,} bytes.")
        if not done.cut and done.status not in ok:
            said = done.err.strip() or done.text.strip()[-2000:]
            raise GitFailed(f"git {argv[0]} failed ({done.status}): {said}", status=done.status, stderr=done.err)
        return done

    def text(self, *argv: str, **how: Any) -> str:
        """The output of a git command that gives one line or one text."""
        return self.run(*argv, **how).text

    def _variables(self, transports: Iterable[str]) -> dict[str, str]:
        place = self.place
        variables = {
            **_clean_environment(),
            "GIT_DIR": str(place.git_dir),
            "GIT_COMMON_DIR": str(place.common_dir),
            "GIT_WORK_TREE": str(place.work_tree),
        }
        if place.index is not None:
            variables["GIT_INDEX_FILE"] = str(place.index)
        keys, lazy = _keys_of(place, variables)
        allowed = [*transports, *(("https", "ssh") if lazy else ())]
        variables["GIT_ALLOW_PROTOCOL"] = ":".join(allowed) or "none"
        excludes = {"core.excludesFile": str(place.excludes or "/dev/null")}
        own = {**_FIXED_SETTINGS, **excludes, **self.settings}
        return {**variables, **_as_variables({**_disarmed(keys), **own, **_of_the_user(place.filters)})}


def version() -> tuple[int, int]:
    """The version of the git on the PATH. Raises WorkspaceError when there is none."""
    return _version(os.environ.get("PATH", os.defpath))


def require_version() -> None:
    """Raise WorkspaceError unless git is new enough."""
    if (found := version()) < OLDEST:
        wanted, got = (".".join(map(str, numbers)) for numbers in (OLDEST, found))
        raise WorkspaceError(f"git {got} is too old for workspaces.", hint=f"Install git {wanted} or newer.")


def plain(*argv: str, cwd: Path = Path("/"), ok: Container[int] = (0,)) -> Output:
    """Run a git command that works in no repository, such as `git config --file`. Raises GitFailed."""
    variables = {**_clean_environment(), **_as_variables(_FIXED_SETTINGS)}
    done = _execute(argv, variables, cwd=cwd, stdin=b"", timeout_s=TIMEOUT_S, most=MOST_OUTPUT)
    if done.status not in ok:
        raise GitFailed(f"git {argv[0]} failed ({done.status}): {done.err.strip()}", status=done.status)
    return done


def user_settings() -> Mapping[str, str]:
    """The user's and the machine's git configuration, last value of each key; read once per process and home."""
    return _user_settings(tuple((name, os.environ[name]) for name in ("HOME", "XDG_CONFIG_HOME") if name in os.environ))


@functools.lru_cache(maxsize=4)
def _user_settings(real: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    variables = {**_clean_environment(), **dict(real)}
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"):
        variables.pop(name)
    argv = ("config", "--list", "-z", "--includes")
    done = _execute(argv, variables, cwd=Path("/"), stdin=b"", timeout_s=TIMEOUT_S, most=MOST_OUTPUT)
    if done.status:
        return {}
    pairs = (entry.partition("\n") for entry in done.fields)
    return {key: value for key, _, value in pairs}


def _of_the_user(filters: Iterable[str]) -> dict[str, str]:
    names = {f"filter.{name}.{part}" for name in filters for part in ("clean", "smudge", "process", "required")}
    return {key: value for key, value in user_settings().items() if key in _USER_SETTINGS or key in names}


def _disarmed(keys: Iterable[str]) -> dict[str, str]:
    return {key: value for key in keys for pattern, value in _DISARM if pattern.fullmatch(key)}


def _as_variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as GIT_CONFIG_* variables: unlike `-c`, they can hold any key, such as `filter.a=b.clean`."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


def _clean_environment() -> dict[str, str]:
    """What git gets to see: nothing of ours but the absolute parts of PATH and where temporary files go."""
    path = [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part.startswith("/")]
    return {
        "PATH": os.pathsep.join(path),
        "TMPDIR": tempfile.gettempdir(),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "false",
        "SSH_ASKPASS": "false",
        "GIT_EDITOR": ":",
        "GIT_SEQUENCE_EDITOR": ":",
        "GIT_PAGER": "cat",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_GRAFT_FILE": "/dev/null",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_MERGE_AUTOEDIT": "no",
        STARTER: str(os.getpid()),
    }


_Signature = tuple[tuple[int, int, int], ...]
_known_keys: dict[Path, tuple[_Signature, tuple[str, ...]]] = {}


def _signature(place: GitPlace) -> _Signature:
    found: list[tuple[int, int, int]] = []
    for path in (place.common_dir / "config", place.common_dir / "config.worktree", place.git_dir / "config.worktree"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns))
    return tuple(found)


def _keys_of(place: GitPlace, variables: Mapping[str, str]) -> tuple[tuple[str, ...], bool]:
    """All keys of the repository's configuration, and whether it fetches objects lazily from a promisor.

    Remembered until a file changes; never when it includes others, which could change unseen.
    """
    before = _signature(place)
    known = _known_keys.get(place.git_dir)
    if known and known[0] == before:
        keys = known[1]
    else:
        argv = ("config", "--list", "--includes", "--name-only", "-z")
        plain = {**variables, **_as_variables(_FIXED_SETTINGS)}
        done = _execute(argv, plain, cwd=place.work_tree, stdin=b"", timeout_s=TIMEOUT_S, most=MOST_OUTPUT)
        if done.status:
            raise GitFailed(f"The repository's git configuration can't be read: {done.err.strip()}", status=done.status)
        keys = tuple(dict.fromkeys(done.fields))
        if not any(key.startswith(("include.", "includeif.")) for key in keys):
            _known_keys[place.git_dir] = (before, keys)
    return keys, any(re.fullmatch(r"remote\..*\.promisor", key) for key in keys)


@functools.lru_cache(maxsize=8)
def _version(path: str) -> tuple[int, int]:
    del path  # the key of the cache: another PATH, another git
    done = _execute(("version",), _clean_environment(), cwd=Path("/"), stdin=b"", timeout_s=30, most=_CHUNK)
    numbers = re.search(r"(\d+)\.(\d+)", done.text)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


@functools.cache
def _gitpython() -> Callable[[Path], Any]:
    """GitPython's command object. Imported on first use: it takes 0.1 s, and most programs of a pool never need it."""
    try:
        from git.cmd import Git as Command  # noqa: PLC0415 - start-up time, see above
    except ImportError as error:  # that is how GitPython says that there is no git
        raise WorkspaceError("There is no git on the PATH.", hint="Install git 2.38 or newer.") from error
    return Command


def _execute(
    argv: Iterable[str], variables: Mapping[str, str], *, cwd: Path, stdin: bytes, timeout_s: float, most: int
) -> Output:
    """One git process with exactly these variables: `env -i` drops those that GitPython would hand down."""
    env = shutil.which("env") or "/usr/bin/env"
    command = [env, "-i", *(f"{name}={value}" for name, value in variables.items()), "git", "--no-pager", *argv]
    with contextlib.ExitStack() as stack:
        source: IO[bytes] | None = None
        if stdin:
            source = cast("IO[bytes]", stack.enter_context(tempfile.TemporaryFile()))
            source.write(stdin)
            source.seek(0)
        try:
            handle = _gitpython()(cwd).execute(command, istream=source, as_process=True, start_new_session=True)
        except OSError as error:
            raise GitFailed(f"git could not be started: {error}.") from error
        process = cast("subprocess.Popen[bytes]", handle.proc)
        return _attend(process, timeout_s=timeout_s, most=most)


def _attend(process: subprocess.Popen[bytes], *, timeout_s: float, most: int) -> Output:
    """Read both outputs until they end, the time is over or there is more than `most` bytes of the first."""
    assert process.stdout is not None
    assert process.stderr is not None
    kept: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    deadline = time.monotonic() + timeout_s
    cut = False
    try:
        with selectors.DefaultSelector() as selector:
            for stream in kept:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map() and not cut:
                if not (ready := selector.select(max(0.0, deadline - time.monotonic()))):
                    raise GitFailed(f"git did not finish within {timeout_s:g} s.")
                for key, _ in ready:
                    stream = cast("IO[bytes]", key.fileobj)
                    if not (data := os.read(stream.fileno(), _CHUNK)):
                        selector.unregister(stream)
                    elif stream is process.stdout or len(kept[stream]) < _STDERR_KEPT:
                        kept[stream] += data
                cut = len(kept[process.stdout]) > most
        if not cut:
            process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise GitFailed(f"git did not finish within {timeout_s:g} s.") from None
    finally:
        _end(process)
    out, err = (bytes(kept[stream]) for stream in (process.stdout, process.stderr))
    return Output(process.returncode, out[:most], err.decode(errors="replace"), cut)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop it if it still runs: TERM first, so that git takes its lock files with it; then KILL, for the group."""
    for number, grace_s in ((signal.SIGTERM, _TERM_GRACE_S), (signal.SIGKILL, None)):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
