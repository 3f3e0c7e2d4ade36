"""A process that waits, by itself: the fake claude under a real guard."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers import proctable
from workers.command import Launch, user_line
from workers.guarded import Guard, boottime_s
from workers.spare import Spare

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="trees are found by /proc")

MakeSpare = Callable[..., Spare]


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard.start(mark={}) as guard:
        yield guard


@pytest.fixture
def make(guard: Guard, fake_claude: Path, tmp_path: Path) -> Iterator[MakeSpare]:
    made: list[Spare] = []
    (tmp_path / "ground").mkdir()

    def begin(*flags: str, program: str = str(fake_claude), lease_s: float = 60) -> Spare:
        argv = (program, "-p", "--input-format=stream-json", "--output-format=stream-json", "--verbose",
                "--permission-mode=acceptEdits", *flags, f"--session-id={uuid.uuid4()}")  # fmt: skip
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CLAUDE_POOL_RUN": str(uuid.uuid4())}
        launch = Launch(argv=argv, env=env, cwd=str(tmp_path / "ground"))
        made.append(Spare.begin(guard, launch, "p", scratch=True, until_s=boottime_s() + lease_s))
        return made[-1]

    yield begin
    for spare in made:
        spare.end(guard)
        assert spare.left(guard) == 0


def ask(spare: Spare, text: str) -> str:
    """One turn; all that was said until its result."""
    os.write(spare.child.stdin, user_line(text, uuid=str(uuid.uuid4())))
    said = b""
    while b'"type":"result"' not in said.replace(b'": "', b'":"'):
        said += os.read(spare.child.stdout, 1 << 16)
    return said.decode()


def test_it_boots_while_nobody_waits_and_answers_when_it_is_asked(guard: Guard, make: MakeSpare) -> None:
    spare = make()
    assert spare.settle(guard)
    assert '"result":"hello"' in ask(spare, "[[fake:ok text=hello]]")
    assert spare.resident_bytes() > 1 << 20


def test_clearing_gives_a_new_session_and_it_goes_on_answering(guard: Guard, make: MakeSpare) -> None:
    spare = make()
    spare.settle(guard)
    sessions = {spare.session_id}
    for _ in range(2):
        ask(spare, "[[fake:ok text=hello]]")
        assert spare.clear() == ""
        sessions.add(spare.session_id)
    assert len(sessions) == 3
    assert spare.session_id in ask(spare, "[[fake:ok]]")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("read x; exit", "closed its output"),
        ('read x; echo \'{"type":"assistant"}\'; read y', "went on talking"),
        ('read x; echo \'{"type":"result","num_turns":1,"session_id":"other"}\'; read y', "did not understand"),
        ('read x; echo \'{"type":"result","num_turns":0,"session_id":"other"}\'; read y', "in mode"),
    ],
)
def test_one_that_can_not_be_cleared_says_what_is_wrong_with_it(
    guard: Guard, make: MakeSpare, tmp_path: Path, script: str, why: str
) -> None:
    program = tmp_path / "odd"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    spare = make(program=str(program))
    spare.settle(guard)
    assert why in spare.clear()


def test_one_that_left_its_permission_mode_is_not_used_again(guard: Guard, make: MakeSpare) -> None:
    spare = make("--permission-mode=plan")  # the later flag wins: it is not in the mode that the first one says
    spare.settle(guard)
    assert "in mode plan" in spare.clear()


def test_a_directory_that_was_made_anew_under_the_same_path_is_another_one(guard: Guard, make: MakeSpare) -> None:
    spare = make()
    assert spare.fits(spare.launch, "p")
    assert not spare.fits(spare.launch, "another")
    ground = Path(spare.launch.cwd)
    ground.rename(ground.with_name("moved"))
    ground.mkdir()
    assert not spare.fits(spare.launch, "p")
    shutil.rmtree(ground)
    spare.end(guard)


def test_what_its_tasks_left_is_seen_though_it_fled_into_a_session_of_its_own(guard: Guard, make: MakeSpare) -> None:
    spare = make()
    spare.settle(guard)
    ask(spare, "[[fake:ok]]")
    assert spare.left(guard) == 0
    ask(spare, "[[fake:tree]] [[fake:ok]]")
    assert spare.left(guard) > 0
    spare.end(guard)
    assert spare.left(guard) == 0


def test_without_a_lease_it_does_not_live_on(guard: Guard, make: MakeSpare) -> None:
    spare = make()
    spare.settle(guard)
    guard.rest(spare.child, boottime_s())
    assert guard.wait_exit(20, spare.child) is not None
    assert not spare.settle(guard)


def test_it_does_not_outlive_its_guard(guard: Guard, make: MakeSpare) -> None:
    spare = make()
    spare.settle(guard)
    assert guard.pid is not None
    os.kill(guard.pid, signal.SIGKILL)
    assert guard.wait_exit(20, spare.child) is not None
    assert proctable.look_up(spare.child.pid) is None


def test_one_that_can_not_be_started_is_simply_not_there(guard: Guard, make: MakeSpare) -> None:
    spare = make(program="/nowhere/claude")
    assert not spare.settle(guard)
    assert not spare.alive


def test_the_guard_serves_another_run_while_one_waits_and_the_one_that_waits_lives_on(
    guard: Guard, make: MakeSpare
) -> None:
    spare = make()
    other = guard.spawn(["sh", "-c", "exit 3"], {**spare.launch.env, "CLAUDE_POOL_RUN": "other"}, "/", deadline=None)
    facts = guard.wait_exit(20, other)
    other.close()
    assert facts is not None
    assert facts.code == 3
    assert spare.settle(guard)
    assert "hello" in ask(spare, "[[fake:ok text=hello]]")


def test_a_lost_guard_is_told_to_who_ordered_a_process(guard: Guard, make: MakeSpare) -> None:
    spare = make()
    assert guard.pid is not None
    os.kill(guard.pid, signal.SIGKILL)
    assert not spare.settle(guard)
