"""What the fake `claude` does to the machine: files, git, child processes, memory, its parent.

Each deed shows up as a tool call and goes on to the next directive. Children run `sleep`, inherit the run's marks in
their environment, and end by themselves after `seconds=` (default 120): not even a failed test leaves one for good.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # spares the fake the 3 ms that importing typing costs, in every run
if TYPE_CHECKING:
    from claude_pool.testing.fake_script import Step
    from claude_pool.testing.fake_turn import Turn

_IDENTITY = ("-c", "user.name=Fake Claude", "-c", "user.email=fake@localhost", "-c", "commit.gpgsign=false")
_MIB = 1 << 20


def put(turn: Turn, path: str, content: str) -> None:
    """Write one file, with its folders; relative to the working directory."""
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)
    turn.use("Write", {"file_path": os.path.abspath(path), "content": content}, f"File created at: {path}")


def write(turn: Turn, step: Step) -> bool:
    """Write `content=` to `path=`."""
    put(turn, step.args["path"], step.text("content"))
    return False


def edit(turn: Turn, step: Step) -> bool:
    """Replace `find=` by `replace=` in `path=`; the tool reports an error when it is not there."""
    path, find, replace = step.args["path"], step.text("find"), step.text("replace")
    call = {"file_path": os.path.abspath(path), "old_string": find, "new_string": replace}
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if find not in text:
        turn.use("Edit", call, "String to replace not found in file.", is_error=True)
        return False
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(find, replace, 1))
    turn.use("Edit", call, f"The file {path} has been updated.")
    return False


def read(turn: Turn, step: Step) -> bool:
    """Read `path=` and say what is in it."""
    with open(step.args["path"], encoding="utf-8", errors="replace") as file:
        text = file.read()
    turn.use("Read", {"file_path": os.path.abspath(step.args["path"])}, text)
    turn.say(text)
    return False


def remove(turn: Turn, step: Step) -> bool:
    """Remove the file `path=`."""
    os.unlink(step.args["path"])
    turn.use("Bash", {"command": f"rm {step.args['path']}"}, "")
    return False


def symlink(turn: Turn, step: Step) -> bool:
    """Make `path=` a symbolic link to `to=`."""
    os.symlink(step.args["to"], step.args["path"])
    turn.use("Bash", {"command": f"ln -s {step.args['to']} {step.args['path']}"}, "")
    return False


def commit(turn: Turn, step: Step) -> bool:
    """Commit everything, with `message=`."""
    message = step.text("message", "Work of the fake claude")
    codes = [_program(("git", "add", "-A")), _program(("git", *_IDENTITY, "commit", "-q", "-m", message))]
    turn.use("Bash", {"command": "git commit"}, f"exit codes {codes}", is_error=any(codes))
    return False


def hooks(turn: Turn, step: Step) -> bool:
    """Plant everything in this repository that git would run: hooks, fsmonitor, a filter, an alias, an editor.

    Each would append its name to `marker=`: when that file exists later, something was executed.
    """
    marker = step.args["marker"]
    git_dir = _git_dir()
    folder = os.path.join(git_dir, "hooks")
    os.makedirs(folder, exist_ok=True)
    for name in ("pre-commit", "post-commit", "post-checkout", "post-merge", "pre-rebase", "reference-transaction"):
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\necho {name} >> '{marker}'\n")
        os.chmod(path, 0o755)  # noqa: S103 - a hook that git would run
    with open(os.path.join(git_dir, "config"), "a", encoding="utf-8") as file:
        file.write(
            f"[core]\n\tfsmonitor = echo fsmonitor >> '{marker}'; false\n\teditor = echo editor >> '{marker}'; false\n"
            f"[filter \"evil\"]\n\tclean = echo clean >> '{marker}'; cat\n\tsmudge = echo smudge >> '{marker}'; cat\n"
            f"[alias]\n\tst = \"!echo alias >> '{marker}'\"\n"
        )
    put(turn, ".gitattributes", "* filter=evil diff=evil\n")
    return False


def tree(turn: Turn, step: Step) -> bool:
    """Leave children: `n=` (default 1) of each kind, which are plain, in a session of its own, and orphaned there.

    Of each kind one ends by TERM and one is deaf to it; `hold` lets them keep our stdout open.
    """
    seconds = step.whole("seconds", 120)
    pids: list[int] = []
    for _ in range(step.whole("n", 1)):
        for session, orphan in ((False, False), (True, False), (True, True)):
            for deaf in (False, True):
                pid = _sleeper(seconds, session=session, orphan=orphan, deaf=deaf, hold=step.has("hold"))
                pids.append(pid)
    turn.use("Bash", {"command": f"sleep {seconds} &"}, " ".join(map(str, pids)))
    return False


def _sleeper(seconds: int, *, session: bool, orphan: bool, deaf: bool, hold: bool) -> int:
    """Fork one `sleep`; gives the pid of the direct child (of an orphan: of its parent, which has ended).

    It is deaf, if it is to be, and being executed when we return: that closes the pipe's other end.
    """
    begun, held = os.pipe()
    pid = os.fork()
    if pid:
        os.close(held)
        os.read(begun, 1)
        os.close(begun)
        if orphan:
            os.waitpid(pid, 0)
        return pid
    try:
        if session:
            os.setsid()
        if orphan and os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0,) if hold else (0, 1, 2):
            os.dup2(null, fd)
        os.execvp("sleep", ["sleep", str(seconds)])  # noqa: S606, S607 - which sleep it is does not matter
    finally:
        os._exit(127)


def memory(turn: Turn, step: Step) -> bool:
    """Fill `mb=` MiB (default 256), then hold them for `s=` seconds."""
    hoard = [b"\x01" * _MIB for _ in range(step.whole("mb", 256))]
    turn.pipes.wait(step.number("s"))
    hoard.clear()
    return False


def kill_parent(turn: Turn, step: Step) -> bool:
    """Send `number=` (default 9) to the process `up=` levels above us (default 1: whoever started us).

    Only to a process of our own pool, known by CLAUDE_POOL_NAME in its environment: never to a stranger.
    """
    pid = os.getpid()
    for _ in range(step.whole("up", 1)):
        pid = _parent(pid)
    mine = f"CLAUDE_POOL_NAME={os.environ.get('CLAUDE_POOL_NAME', '')}".encode()
    with open(f"/proc/{pid}/environ", "rb") as file:
        if pid <= 1 or "CLAUDE_POOL_NAME" not in os.environ or mine not in file.read().split(b"\0"):
            msg = f"[[fake:kill-parent]]: process {pid} is not of this pool"
            raise ValueError(msg)
    turn.use("Bash", {"command": f"kill -{step.whole('number', 9)} {pid}"}, "")
    os.kill(pid, step.whole("number", 9))
    return False


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


def _git_dir() -> str:
    """The repository's common folder, from the main checkout or from a linked worktree."""
    if os.path.isdir(".git"):
        return ".git"
    with open(".git", encoding="utf-8") as file:
        folder = file.read().partition("gitdir:")[2].strip()
    try:
        with open(os.path.join(folder, "commondir"), encoding="utf-8") as file:
            return os.path.normpath(os.path.join(folder, file.read().strip()))
    except FileNotFoundError:
        return folder


def _program(argv: tuple[str, ...]) -> int:
    """Run a program to its end, silent; gives its exit code."""
    actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


DEEDS = {
    "write": write,
    "edit": edit,
    "read": read,
    "remove": remove,
    "symlink": symlink,
    "commit": commit,
    "hooks": hooks,
    "tree": tree,
    "memory": memory,
    "kill-parent": kill_parent,
}
