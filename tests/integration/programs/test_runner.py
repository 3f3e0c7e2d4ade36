"""The runner against small programs that behave as the CLI does, and as it should not."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pool.models.events import LogEntry
from claude_pool.models.run import RunFacts, StopCause
from workers import proctable, runner
from workers.command import Launch
from workers.guarded import Guard, boottime_s
from workers.report import RunReport
from workers.runner import Controls, Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="trees are found by /proc")

PRELUDE = """
import json, os, signal, subprocess, sys, time

def say(**event):
    sys.stdout.write(json.dumps({"session_id": "s", "uuid": "u", **event}) + "\\n")
    sys.stdout.flush()

def init():
    say(type="system", subtype="init", model="m", tools=[], claude_code_version="2.1.330", mcp_servers=[])

def text(words, id="msg"):
    say(type="assistant", parent_tool_use_id=None, message={"id": id, "role": "assistant", "model": "m",
        "content": [{"type": "text", "text": words}], "usage": {"input_tokens": 1, "output_tokens": 1}})

def result(words="done", cost=0.25, **more):
    say(**{"type": "result", "subtype": "success", "is_error": False, "result": words, "total_cost_usd": cost,
        "num_turns": 1, "duration_ms": 1, "duration_api_ms": 1, "usage": {}, "modelUsage": {}, **more})

def heard():
    line = sys.stdin.readline()
    return json.loads(line) if line else None

"""


class Bench:
    """Runs one program and keeps what came of it."""

    def __init__(self, guard: Guard, tmp_path: Path) -> None:
        self.guard = guard
        self.controls = Controls()
        self.run_id = str(uuid.uuid4())
        self.log = tmp_path / "logs" / "run.jsonl"
        self.batches: list[list[LogEntry]] = []
        self.on_entries: Callable[[list[LogEntry]], None] = self.batches.append
        self.env = {"PATH": os.environ["PATH"], "CLAUDE_POOL_RUN": self.run_id}
        self.cwd = str(tmp_path)
        self.prompt = "hello"

    @property
    def entries(self) -> list[LogEntry]:
        return [entry for batch in self.batches for entry in batch]

    def run(self, script: str, **limits: Any) -> RunFacts:
        return self.run_argv([sys.executable, "-I", "-S", "-c", PRELUDE + script], **limits)

    def run_argv(self, argv: list[str], **limits: Any) -> RunFacts:
        defaults = {
            "timeout_s": 60,
            "silence_s": 60,
            "grace_s": 0.3,
            "max_run_bytes": 1 << 28,
            "max_line_bytes": 1 << 24,
        }
        facts = runner.run(
            Launch(argv=tuple(argv), env=self.env, cwd=self.cwd),
            self.prompt,
            guard=self.guard,
            limits=Limits(**{**defaults, **limits}),
            controls=self.controls,
            report=RunReport(self.run_id, session_cost_before_usd=0, now_ms=lambda: 0),
            log_path=self.log,
            on_entries=self.on_entries,
        )
        mark = f"CLAUDE_POOL_RUN={self.run_id}".encode()
        assert [pid for pid in proctable.table() if proctable.carries(pid, mark)] == []
        return facts

    def stop_when(self, word: str, cause: StopCause) -> None:
        """Stop the run from another thread's point of view: as soon as it said this."""
        plain = self.on_entries

        def watch(entries: list[LogEntry]) -> None:
            plain(entries)
            if any(word in entry.text for entry in entries):
                threading.Thread(target=self.controls.stop, args=(cause,)).start()

        self.on_entries = watch


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with Guard.start(mark={}) as guard:
        yield guard


@pytest.fixture
def bench(guard: Guard, tmp_path: Path) -> Iterator[Bench]:
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield Bench(guard, tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_prompt_goes_in_as_composed_text_and_the_answer_and_its_cost_come_out(bench: Bench) -> None:
    bench.prompt = "/clear @secrets -- naïve 🎉"
    facts = bench.run("init(); m = heard(); text('hm'); result(json.dumps(m)); sys.exit(0 if not heard() else 9)")
    sent = json.loads(facts.output)
    assert sent["message"]["content"] == bench.prompt
    assert sent["client_composed"] is True
    assert (facts.has_result, facts.is_error, facts.cost_usd, facts.stopped) == (True, False, 0.25, StopCause.NONE)
    assert (facts.exit.code, facts.exit.left_behind, facts.lines, facts.bad_lines) == (0, 0, 3, 0)
    assert [entry.kind for entry in bench.entries if entry.kind in {"text", "result"}] == ["text", "result"]
    assert [json.loads(line)["type"] for line in bench.log.read_text().splitlines()] == [
        "system",
        "assistant",
        "result",
    ]
    assert bench.log.stat().st_mode & 0o777 == 0o600


def test_a_prompt_of_eight_megabytes_arrives_whole(bench: Bench) -> None:
    bench.prompt = "x" * (8 << 20)
    facts = bench.run("init(); m = heard(); result(str(len(m['message']['content'])))")
    assert facts.output == str(8 << 20)


def test_a_cli_that_does_not_read_its_prompt_is_ended_by_silence(bench: Bench) -> None:
    bench.prompt = "x" * (8 << 20)
    facts = bench.run("init(); time.sleep(1000)", silence_s=0.3)
    assert facts.stopped is StopCause.SILENCE
    assert facts.exit.signal == signal.SIGTERM


def test_a_cli_that_leaves_before_reading_is_a_fact_with_its_last_words(bench: Bench) -> None:
    bench.prompt = "x" * (8 << 20)
    facts = bench.run("sys.stderr.write('session in use'); sys.exit(1)")
    assert (facts.exit.code, facts.has_result, facts.stderr_tail) == (1, False, "session in use")
    assert facts.stopped is StopCause.NONE


def test_a_cli_that_prints_nothing_and_leaves_is_a_fact(bench: Bench) -> None:
    facts = bench.run("")
    assert (facts.exit.code, facts.lines, facts.saw_init, facts.exit.started) == (0, 0, False, True)


def test_garbage_binary_and_an_unfinished_last_line_do_not_hide_the_result(bench: Bench) -> None:
    facts = bench.run(
        "init(); sys.stdout.buffer.write(bytes(range(256)) * 40 + b'\\n{\"type\": [\\n\\xff\\n');"
        "result('kept'); sys.stdout.write('{\"type\": \"assi'); sys.stdout.flush()"
    )
    assert facts.output == "kept"
    assert facts.bad_lines >= 3


def test_a_line_of_many_megabytes_is_skipped_and_the_rest_is_read(bench: Bench) -> None:
    facts = bench.run("init(); print('x' * (20 << 20)); result('kept')")
    assert (facts.output, facts.bad_lines) == ("kept", 1)


def test_a_flood_on_stderr_neither_hangs_nor_is_kept_whole(bench: Bench) -> None:
    facts = bench.run("init(); sys.stderr.write('é' * (8 << 20) + 'end'); sys.stderr.flush(); result()")
    assert facts.has_result
    assert facts.stderr_tail.endswith("éend")
    assert len(facts.stderr_tail) == 4000


def test_output_beyond_the_limit_stops_the_run_and_its_log(bench: Bench) -> None:
    facts = bench.run("init()\nwhile True: text('x' * 1000)", max_run_bytes=1 << 20)
    assert facts.stopped is StopCause.OUTPUT_LIMIT
    assert bench.log.stat().st_size == 1 << 20


def test_an_interrupt_brings_the_cost_and_keeps_the_partial_answer(bench: Bench) -> None:
    bench.stop_when("so far", StopCause.CANCELLED)
    facts = bench.run(
        "init(); heard(); text('so far'); r = heard()\n"
        "assert r['request']['subtype'] == 'interrupt', r\n"
        "result(None, cost=0.75, subtype='error_during_execution', is_error=True, errors=['interrupted']); heard()"
    )
    assert (facts.stopped, facts.cost_usd, facts.cost_known) == (StopCause.CANCELLED, 0.75, True)
    assert facts.output == "so far"
    assert facts.exit.code == 0


def test_a_cli_deaf_to_the_interrupt_gets_term_and_may_clean_up(bench: Bench) -> None:
    bench.stop_when("so far", StopCause.CANCELLED)
    facts = bench.run(
        "signal.signal(signal.SIGTERM, lambda *_: (text('cleaned', id='2'), os._exit(143)))\n"
        "init(); text('so far')\nwhile True: time.sleep(1)"
    )
    assert (facts.exit.code, facts.stopped, facts.output) == (143, StopCause.CANCELLED, "cleaned")


def test_a_cli_deaf_to_everything_is_killed_with_its_tree(bench: Bench) -> None:
    bench.stop_when("so far", StopCause.CANCELLED)
    facts = bench.run(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "init(); text('so far')\nwhile True: time.sleep(1)"
    )
    assert (facts.exit.signal, facts.stopped, facts.output) == (signal.SIGKILL, StopCause.CANCELLED, "so far")


def test_a_drain_skips_the_interrupt_so_that_the_turn_can_go_on_later(bench: Bench) -> None:
    bench.stop_when("so far", StopCause.DRAINED)
    facts = bench.run("init(); heard(); text('so far'); line = heard(); text(str(line), id='2'); time.sleep(1000)")
    assert facts.stopped is StopCause.DRAINED
    assert facts.exit.signal == signal.SIGTERM
    assert "interrupt" not in facts.output


def test_a_fenced_run_is_killed_at_once(bench: Bench) -> None:
    bench.stop_when("so far", StopCause.FENCED)
    facts = bench.run(
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(143)); init(); heard(); text('so far')\n"
        "while heard(): text('heard more', id='2')",
        grace_s=100,
    )
    assert (facts.exit.signal, facts.stopped, facts.output) == (signal.SIGKILL, StopCause.FENCED, "so far")


def test_a_run_stopped_before_it_began_starts_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.controls.stop(StopCause.CANCELLED)
    facts = bench.run(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert (facts.exit.started, facts.stopped) == (False, StopCause.CANCELLED)
    assert not (tmp_path / "ran").exists()


def test_the_wall_clock_ends_a_run_that_keeps_talking(bench: Bench) -> None:
    facts = bench.run("init()\nwhile True: text('still here'); time.sleep(0.01)", timeout_s=0.5, silence_s=10)
    assert facts.stopped is StopCause.TIMEOUT
    assert facts.saw_output


def test_any_sign_of_life_puts_off_the_silence_limit(bench: Bench) -> None:
    facts = bench.run("init(); [(print('.', flush=True), time.sleep(0.1)) for _ in range(15)]; result()", silence_s=1.0)
    assert (facts.stopped, facts.has_result) == (StopCause.NONE, True)


def test_a_cli_that_stays_after_its_result_is_told_to_go(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LEAVE_S", 0.2)
    facts = bench.run("signal.signal(signal.SIGTERM, signal.SIG_IGN); init(); result()\nwhile True: time.sleep(1)")
    assert (facts.has_result, facts.stopped, facts.exit.signal) == (True, StopCause.NONE, signal.SIGKILL)


def test_a_cli_that_closes_stdout_and_stays_is_told_to_go(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LEAVE_S", 0.2)
    facts = bench.run("init(); os.close(1)\nwhile True: time.sleep(1)")
    assert (facts.has_result, facts.stopped, facts.exit.signal) == (False, StopCause.NONE, signal.SIGTERM)


def test_a_cancel_that_comes_after_the_result_takes_nothing_back(bench: Bench) -> None:
    bench.stop_when("done", StopCause.CANCELLED)
    facts = bench.run("init(); result('done'); heard(); time.sleep(0.2)")
    assert (facts.stopped, facts.has_result, facts.output, facts.exit.code) == (StopCause.NONE, True, "done", 0)


def test_background_children_that_hold_the_pipes_do_not_hold_the_run(bench: Bench) -> None:
    facts = bench.run("subprocess.Popen(['sleep', '1000'], start_new_session=True); init(); result()")
    assert (facts.has_result, facts.exit.code, facts.exit.left_behind) == (True, 0, 1)


def test_what_is_said_meanwhile_reaches_the_model(bench: Bench) -> None:
    bench.controls.say("and hurry")
    facts = bench.run("init(); heard(); m = heard(); result(m['message']['content'])")
    assert facts.output == "and hurry"


@pytest.mark.parametrize(
    ("argv", "why"), [(["/nowhere/claude"], "No such file"), (["/etc/passwd"], "Permission denied")]
)
def test_a_binary_that_can_not_run_is_a_fact(bench: Bench, argv: list[str], why: str) -> None:
    facts = bench.run_argv(argv)
    assert not facts.exit.started
    assert why in facts.stderr_tail


def test_a_passed_lease_ends_the_run_as_fenced(bench: Bench) -> None:
    bench.guard.renew(boottime_s() + 0.4)
    facts = bench.run("init()\nwhile True: time.sleep(1)")
    assert (facts.stopped, facts.exit.signal) == (StopCause.FENCED, signal.SIGKILL)


def test_a_guard_that_dies_ends_the_run_as_a_crash_and_the_next_run_works(bench: Bench) -> None:
    pid = bench.guard.pid
    assert pid is not None
    facts = bench.run(
        f"subprocess.Popen(['sleep', '1000'], start_new_session=True); init(); os.kill({pid}, 9); time.sleep(99)"
    )
    assert (facts.exit.signal, facts.stopped) == (signal.SIGKILL, StopCause.NONE)
    assert bench.run("init(); result('fine')").output == "fine"


def test_a_log_that_can_not_be_written_ends_with_a_notice_and_the_run_goes_on(bench: Bench) -> None:
    bench.log = Path("/dev/full")
    facts = bench.run("init(); result('fine')")
    assert facts.output == "fine"
    assert [entry.text for entry in bench.entries if entry.kind == "notice" and "log file" in entry.text]


def test_a_log_folder_that_can_not_be_made_is_no_obstacle(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bench.log = tmp_path / "file" / "run.jsonl"
    assert bench.run("init(); result('fine')").output == "fine"


def test_lines_come_in_batches_and_all_of_them_in_order(bench: Bench) -> None:
    facts = bench.run("init()\nfor n in range(500): text(f'line {n}', id=str(n))\nresult()")
    said = [entry.text for entry in bench.entries if entry.kind == "text"]
    assert said == [f"line {n}" for n in range(500)]
    assert len(bench.batches) < 100
    assert facts.lines == 502


def test_an_error_in_the_watcher_leaves_nothing_alive(bench: Bench) -> None:
    def fail(_: list[LogEntry]) -> None:
        raise RuntimeError("the watcher is broken")

    bench.on_entries = fail
    with pytest.raises(RuntimeError, match="watcher"):
        bench.run("subprocess.Popen(['sleep', '1000'], start_new_session=True); init(); text('x'); time.sleep(1000)")
    mark = f"CLAUDE_POOL_RUN={bench.run_id}".encode()
    assert [pid for pid in proctable.table() if proctable.carries(pid, mark)] == []
