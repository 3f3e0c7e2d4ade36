"""The runner with the real `claude` against a simulated API: answers, costs, nothing left of what its tools began."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.events import LogEntry
from claude_pool.models.options import TaskOptions
from claude_pool.models.run import RunFacts, StopCause
from claude_pool.testing.simulated import reply, script_bash, script_say, script_usage
from workers import proctable, runner
from workers.command import LaunchRequest, build_launch
from workers.furnish import furnish, write_files
from workers.guarded import Guard, boottime_s
from workers.places import Place
from workers.report import RunReport
from workers.runner import Controls, Limits

pytestmark = pytest.mark.claude

TREE = (
    "sleep 1001 & setsid sleep 1002 & (setsid nohup sh -c 'trap : TERM; while :; do sleep 1; done' >/dev/null 2>&1 &)"
)
"""What a tool may leave: a child, one in a session of its own, and a stubborn orphan."""


class Bench:
    def __init__(self, guard: Guard, binary: Path, env: dict[str, str], config: PoolConfig) -> None:
        self.guard = guard
        self.controls = Controls()
        self.session_id = str(uuid.uuid4())
        self.entries: list[LogEntry] = []
        self.seen: Callable[[LogEntry], None] = lambda _: None
        self._binary = binary
        self._env = env
        self._config = config
        self.place = Place.of(config, 0)
        furnish(self.place)

    def run(
        self, prompt: str, *, resume: str | None = None, options: dict[str, Any] | None = None, **limits: Any
    ) -> RunFacts:
        run_id = str(uuid.uuid4())
        self.mark = f"CLAUDE_POOL_RUN={run_id}".encode()
        launch = build_launch(
            LaunchRequest(
                binary=str(self._binary),
                options=TaskOptions.model_validate({"allowed_tools": ("Bash",), **(options or {})}),
                task_id="t-0000000000",
                run_id=run_id,
                slot_id="n1.0",
                session_id=self.session_id,
                resume=resume,
                place=self.place,
                cwd=str(self.place.work),
                config=self._config,
                node_env=self._env,
                isolation="worktree",
            )
        )
        write_files(launch.files)
        usual = {"timeout_s": 90, "silence_s": 90, "grace_s": 5, "max_run_bytes": 1 << 26, "max_line_bytes": 1 << 24}
        facts = runner.run(
            launch,
            prompt,
            guard=self.guard,
            limits=Limits(**{**usual, **limits}),
            controls=self.controls,
            report=RunReport(run_id, session_cost_before_usd=0, now_ms=lambda: time.time_ns() // 10**6),
            log_path=self.place.logs / f"{run_id}.jsonl",
            on_entries=self._take,
        )
        assert self.alive() == []
        return facts

    def _take(self, entries: list[LogEntry]) -> None:
        self.entries += entries
        for entry in entries:
            self.seen(entry)

    def alive(self) -> list[int]:
        return [pid for pid in proctable.table() if proctable.carries(pid, self.mark)]

    def commands(self) -> str:
        lines: list[str] = []
        for pid in self.alive():
            try:
                lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return "\n".join(lines)

    def once_the_tool_runs(self, act: Callable[[], object]) -> None:
        """From another thread, as soon as the whole tree of the tool is there."""

        def watch() -> None:
            deadline = time.monotonic() + 60
            while not all(words in self.commands() for words in ("sleep 1001", "sleep 1002", "trap : TERM")):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            act()

        self._watcher = threading.Thread(target=watch, daemon=True)

        def begin(entry: LogEntry) -> None:
            if entry.kind == "tool" and not self._watcher.is_alive():
                self.seen = lambda _: None
                self._watcher.start()

        self.seen = begin


@pytest.fixture
def bench(
    claude_binary: Path, claude_env: dict[str, str], pool_config: Callable[..., PoolConfig], pool_name: str
) -> Iterator[Bench]:
    with Guard.start(mark={"CLAUDE_POOL_NAME": pool_name}) as guard:
        yield Bench(guard, claude_binary, claude_env, pool_config())


def paid(*steps: str) -> str:
    return script_usage(tokens_in=10_000, tokens_out=1_000) + "".join(steps)


def test_a_task_runs_to_its_answer_and_its_cost(bench: Bench) -> None:
    facts = bench.run(paid(script_bash("echo from the tool"), reply("all done")))
    assert (facts.output, facts.is_error, facts.exit.code, facts.exit.left_behind) == ("all done", False, 0, 0)
    assert facts.cost_known
    assert facts.cost_usd > 0
    assert facts.session_id == bench.session_id
    assert "tool" in {entry.kind for entry in bench.entries}
    assert facts.exit.max_rss_kb is not None
    assert facts.exit.max_rss_kb > 50_000


def test_a_prompt_of_a_megabyte_is_taken(bench: Bench) -> None:
    facts = bench.run(reply("read") + "x" * (1 << 20))
    assert facts.output == "read"


def test_a_cancel_in_a_tool_keeps_the_cost_and_the_partial_answer_and_leaves_no_process(bench: Bench) -> None:
    bench.once_the_tool_runs(lambda: bench.controls.stop(StopCause.CANCELLED))
    facts = bench.run(paid(script_say("so far so good"), script_bash(f"{TREE}; sleep 1003"), reply("never said")))
    assert facts.stopped is StopCause.CANCELLED
    assert facts.has_result
    assert facts.cost_known
    assert facts.cost_usd > 0
    assert facts.output == "so far so good"
    assert facts.exit.signal is None  # it left by itself, with 1, once it had told the cost


def test_what_a_tool_put_in_the_background_is_gone_with_the_run(bench: Bench) -> None:
    facts = bench.run(paid(script_bash(f"{TREE}"), reply("done")))
    assert facts.output == "done"
    assert facts.exit.left_behind >= 1


def test_a_drained_run_goes_on_where_it_stopped(bench: Bench) -> None:
    bench.once_the_tool_runs(lambda: bench.controls.stop(StopCause.DRAINED))
    facts = bench.run(paid(script_bash(f"{TREE}; sleep 1003"), reply("never said")))
    assert (facts.stopped, facts.has_result) == (StopCause.DRAINED, False)
    bench.controls = Controls()
    again = bench.run(reply("went on"), resume=bench.session_id)
    assert (again.output, again.session_id) == ("went on", bench.session_id)


def test_a_fenced_run_and_its_tools_are_gone_at_once(bench: Bench) -> None:
    bench.once_the_tool_runs(lambda: bench.controls.stop(StopCause.FENCED))
    facts = bench.run(paid(script_bash(f"{TREE}; sleep 1003")), grace_s=60)
    assert (facts.stopped, facts.exit.signal) == (StopCause.FENCED, signal.SIGKILL)


def test_a_lease_that_passes_in_a_tool_ends_all_of_it(bench: Bench) -> None:
    bench.guard.renew(boottime_s() + 60)
    bench.once_the_tool_runs(lambda: bench.guard.renew(boottime_s() + 0.1))
    facts = bench.run(paid(script_bash(f"{TREE}; sleep 1003")))
    assert (facts.stopped, facts.exit.signal) == (StopCause.FENCED, signal.SIGKILL)


def test_a_guard_killed_in_a_tool_ends_all_of_it(bench: Bench) -> None:
    pid = bench.guard.pid
    assert pid is not None
    bench.once_the_tool_runs(lambda: os.kill(pid, signal.SIGKILL))
    facts = bench.run(paid(script_bash(f"{TREE}; sleep 1003")))
    assert (facts.stopped, facts.exit.signal) == (StopCause.NONE, signal.SIGKILL)
    assert bench.run(reply("again"), resume=bench.session_id).output == "again"


def test_a_model_that_never_answers_is_ended_by_silence_and_by_the_wall_clock(bench: Bench) -> None:
    silent = bench.run("[[hang]]", silence_s=4)
    assert (silent.stopped, silent.saw_output) == (StopCause.SILENCE, False)
    bench.session_id = str(uuid.uuid4())
    late = bench.run("[[hang]]", timeout_s=4)
    assert late.stopped is StopCause.TIMEOUT


def test_a_session_id_that_is_in_use_is_a_fact_with_the_programs_own_words(bench: Bench) -> None:
    bench.run(reply("first"))
    facts = bench.run(reply("second"))
    assert (facts.has_result, facts.exit.code) == (False, 1)
    assert "already in use" in facts.stderr_tail
