"""How well tasks are routed: the labelled cases, put to a model, scored; a table and JSON.

    python benchmarks/route_test.py --live --runs 3 --record routes.jsonl     ask the pool's real model (costs money)
    python benchmarks/route_test.py --replay routes.jsonl                     score a recording again, for nothing
    python benchmarks/route_test.py --sample                                  answers made up from the labels

`--live` uses the pool that the settings name and hands in its routing calls like any others; they keep to its budget.
What comes from the simulated model, and what `--sample` makes up, is named as such: it shows that the harness works,
not an accuracy.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from claude_pool import Pool, TaskResult, TaskState
from claude_pool.testing import routes
from claude_pool.testing.routes import Answer, Case

_AT_ONCE = 32


def main() -> int:
    parser = argparse.ArgumentParser(description="Score routing over labelled cases.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--live", action="store_true", help="ask the pool's model")
    source.add_argument("--replay", type=Path, metavar="FILE", help="score a recording")
    source.add_argument("--sample", action="store_true", help="made-up answers, every fifth of them wrong")
    parser.add_argument("--cases", type=Path, default=routes.CASES, help="your own cases, one JSON object a line")
    parser.add_argument("--only", default="", help="cases whose id begins so")
    parser.add_argument("--runs", type=int, default=1, help="how often each case is asked")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the answers there, line by line")
    parser.add_argument("--json", action="store_true", help="print the whole as JSON instead of a table")
    asked = parser.parse_args()
    cases = [case for case in routes.load(asked.cases) if case.id.startswith(asked.only)]
    if not cases:
        parser.error("no case is left")
    if asked.replay:
        answers = routes.recorded(asked.replay)
        runs = max([asked.runs, *(answer.run for answer in answers)])
    else:
        runs = asked.runs
        found = ask(cases, runs) if asked.live else sample(cases, runs)
        answers = kept(found, asked.record)
    scores = routes.judge_all(cases, answers, runs=runs)
    whole = routes.document(scores)
    print(json.dumps(whole, indent=1, ensure_ascii=False) if asked.json else routes.table(routes.summary(scores)))
    return 0


def kept(answers: Iterator[Answer], path: Path | None) -> list[Answer]:
    """All answers; each is in the file as soon as it is there."""
    found: list[Answer] = []
    file = path.open("w", encoding="utf-8") if path else None
    for answer in answers:
        found.append(answer)
        if file:
            print(routes.line_of(answer), file=file, flush=True)
        if sys.stderr.isatty():
            print(f"\r{len(found)} answers", end="", file=sys.stderr)
    if file:
        file.close()
    return found


def ask(cases: Sequence[Case], runs: int) -> Iterator[Answer]:
    """The pool's model about every case, some dozens at a time; a call that never answers brings no answer."""
    todo = [(case, run) for run in range(1, runs + 1) for case in cases]
    with closing(Pool.open()) as pool:
        while todo:
            batch, todo = todo[:_AT_ONCE], todo[_AT_ONCE:]
            began = time.monotonic()
            calls = {pool.begin_route(case.task).task_id: (case, run) for case, run in batch}
            waiting = [task_id for task_id in calls if task_id]
            while waiting:
                waited = pool.wait(waiting, until="any", timeout_s=pool.config.route_timeout_s)
                done = [task.id for task in waited.finished]
                for task_id in done:
                    case, run = calls[task_id]
                    result = pool.result(task_id)
                    seconds = (result.queued_ms + result.run_ms) / 1000 or time.monotonic() - began
                    yield Answer(case=case.id, run=run, seconds=seconds, result=result)
                waiting = [task_id for task_id in waiting if task_id not in done]
                if waited.timed_out:
                    for task_id in waiting:
                        pool.cancel(task_id, reason="its answer comes too late")
                    break


def sample(cases: Sequence[Case], runs: int) -> Iterator[Answer]:
    """Answers made up from the labels; they are marked as simulated."""
    for number, (case, run) in enumerate((case, run) for case in cases for run in range(1, runs + 1)):
        route = case.route.value if number % 5 else random.Random(number).choice(["single", "parallel", "chain"])
        parts = [{"name": f"part-{at}", "prompt": f"Do this: {key}."} for at, key in enumerate(case.keys or ("a", "b"))]
        plan = {"route": route, "reason": "made up", "confidence": 0.9, "parts": parts if route != "single" else []}
        result = TaskResult(
            task_id="t-0000000000", state=TaskState.COMPLETED, structured_output=plan, simulated=True, cost_usd=0.001
        )
        yield Answer(case=case.id, run=run, seconds=1.0, result=result)


if __name__ == "__main__":
    sys.exit(main())
