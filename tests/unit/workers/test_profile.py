"""Which launches are alike, when a process is worn, and which profile is kept ready."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pool.models.run import Denial, RunFacts, StopCause
from workers.command import Launch
from workers.profile import Habits, Wear, ahead, profile_of, worn

ANSWERED = RunFacts(has_result=True, result_count=1)
WEAR = Wear(most_tasks=3, most_bytes=1000)


def launch(*flags: str, files: dict[str, str] | None = None, **env: str) -> Launch:
    argv = ("claude", "-p", "--strict-mcp-config", "--model=haiku", *flags, "--session-id=s1")
    marks = {"CLAUDE_POOL_RUN": "r1", "CLAUDE_POOL_TASK": "t1", "CLAUDE_POOL_SLOT": "slot-0"}
    return Launch(argv=argv, env={**marks, **env}, cwd="/w", files=files or {})


def test_runs_that_differ_only_by_session_run_and_task_are_of_one_profile() -> None:
    other = launch().evolve(
        argv=tuple(word.replace("s1", "s2") for word in launch().argv),
        env={**launch().env, "CLAUDE_POOL_RUN": "r2", "CLAUDE_POOL_TASK": "t2"},
    )
    assert profile_of(launch()) == profile_of(other) is not None


@pytest.mark.parametrize(
    "other",
    [
        launch("--model=opus"),
        launch("--append-system-prompt=Be brief."),
        launch("--allowedTools=Bash"),
        launch("--max-budget-usd=1"),
        launch("--json-schema={}"),
        launch(ANTHROPIC_BASE_URL="http://elsewhere"),
        launch(CLAUDE_POOL_SLOT="slot-1"),
        launch(files={"/w/system-prompt.txt": "Be brief."}),
    ],
)
def test_whatever_a_process_is_started_with_makes_another_profile(other: Launch) -> None:
    assert profile_of(launch()) != profile_of(other) is not None


@pytest.mark.parametrize("flag", ["--resume=s0", "--fork-session", "--mcp-config=/w/mcp.json"])
def test_sessions_that_go_on_and_servers_want_a_process_of_their_own(flag: str) -> None:
    assert profile_of(launch(flag)) is None


def test_a_run_that_reads_the_repositorys_settings_wants_a_process_of_its_own() -> None:
    bare = launch()
    assert profile_of(bare.evolve(argv=tuple(word for word in bare.argv if word != "--strict-mcp-config"))) is None


def test_a_process_for_later_has_names_of_its_own_and_no_task() -> None:
    later = ahead(launch(), session_id="s9", run_id="r9")
    assert later.argv[-1] == "--session-id=s9"
    assert (later.env["CLAUDE_POOL_RUN"], later.env.get("CLAUDE_POOL_TASK")) == ("r9", None)
    assert profile_of(later) == profile_of(launch())


def test_a_plain_answer_wears_nothing_out() -> None:
    assert worn(ANSWERED, tasks=1, resident_bytes=10, wear=WEAR) == ""


@pytest.mark.parametrize(
    ("changes", "state", "why"),
    [
        ({"stopped": StopCause.TIMEOUT}, {}, "stopped"),
        ({"is_error": True}, {}, "failed"),
        ({"has_result": False}, {}, "failed"),
        ({"result_count": 2}, {}, "out of the ordinary"),
        ({"bad_lines": 1}, {}, "out of the ordinary"),
        ({"denials": (Denial(tool_name="Bash"),)}, {}, "out of the ordinary"),
        ({"api_retries": 1}, {}, "out of the ordinary"),
        ({}, {"tasks": 3}, "served 3 tasks"),
        ({}, {"resident_bytes": 1001}, "holds 1,001 bytes"),
    ],
)
def test_a_process_is_renewed_after(changes: dict[str, Any], state: dict[str, int], why: str) -> None:
    seen = {"tasks": 1, "resident_bytes": 10, **state}
    assert why in worn(ANSWERED.evolve(**changes), **seen, wear=WEAR)


def kept(*profiles: str) -> list[str]:
    habits, found = Habits(), list[str]()
    for profile in profiles:
        habits.note(profile, launch(), scratch=True)
        best = habits.commonest()
        assert best is not None
        found.append(best[0])
    return found


def test_nothing_is_kept_ready_before_the_first_task() -> None:
    assert Habits().commonest() is None


def test_the_profile_of_the_first_task_is_kept_ready() -> None:
    assert kept("a") == ["a"]


def test_one_exception_does_not_displace_the_common_profile_and_a_change_of_work_does() -> None:
    assert kept(*"aaab") == ["a"] * 4
    assert kept(*"aaaabbb")[-1] == "b"


def test_two_profiles_in_turn_find_what_they_want_every_other_time() -> None:
    assert set(kept(*"abababab")) == {"a"}


def test_the_launch_that_was_seen_last_is_the_one_to_repeat_and_few_are_remembered() -> None:
    habits = Habits()
    for number in range(100):
        habits.note(f"p{number}", launch(), scratch=False)
        habits.commonest()
    habits.note("p99", launch("--verbose"), scratch=True)
    best = habits.commonest()
    assert best is not None
    assert (best[0], "--verbose" in best[1].argv, best[2]) == ("p99", True, True)
