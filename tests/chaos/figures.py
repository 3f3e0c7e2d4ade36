"""Measure what `docs/reliability.md` promises, and print it. Exit 1 when something is not kept.

make chaos                              the storm: 10,000 tasks, 500 slots and 20 Redis servers killed
make chaos ARGS=all                     that and every single figure
make chaos ARGS="trees drain"           some of them: storm virtual mutants slot lost redis drain trees delivery
make chaos ARGS="storm --seed 7 --tasks 2000 --json storm.json"
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from chaosrig import load
from chaosrig.checker import Report, check
from chaosrig.figures import ALL, Figure
from chaosrig.mutants import MUTANTS, hunt, table
from chaosrig.nodes import FULL, Plan, node_chaos
from chaosrig.virtual import Storm, virtual_chaos

from claude_pool.testing.redis_server import RedisServer, find_program

FULL_TASKS = 10_000
WITHIN_S = 180.0


def say(text: object) -> None:
    print(text, flush=True)  # noqa: T201 - a program for people


def storm(arguments: argparse.Namespace) -> Figure:
    share = arguments.tasks / FULL_TASKS
    faults = {kind: max(1, round(number * share)) for kind, number in FULL.items()}
    plan = Plan(
        tasks=arguments.tasks,
        graphs=arguments.tasks // 100,
        nodes=1,
        slots=8,
        within_s=80 * share,
        mix=load.MOSTLY_QUICK,
        faults=faults,
    )
    history = node_chaos(arguments.seed, plan, say=say)
    report = check(history)
    say(report)
    kills = {kind: sum(fault.kind == kind for fault in history.faults) for kind in faults}
    say("  " + "  ".join(f"{kind} {number}" for kind, number in kills.items()))
    return _judged(
        f"storm on real processes, seed {arguments.seed}", report, history.duration_s, WITHIN_S * max(share, 0.2),
        f"{kills['slot_kill']} slots and {kills['redis_kill']} Redis killed", kills,
    )  # fmt: skip


def virtual(arguments: argparse.Namespace) -> Figure:
    with _server() as server:
        history = virtual_chaos(arguments.seed, server, Storm.of(arguments.tasks, redis_kills=20))
    report = check(history)
    say(report)
    told = f"{len(history.faults):,} faults"
    return _judged(f"storm at protocol level, seed {arguments.seed}", report, history.duration_s, 600.0, told, {})


def _judged(
    name: str, report: Report, took_s: float, within_s: float, told: str, more: dict[str, int]
) -> Figure:  # fmt: skip
    counts = report.counts
    measured = (
        f"{counts['tasks']:,} tasks in {took_s:.0f} s, {told}: {counts['lost']} lost, "
        f"{counts['duplicated']} unexplained repeats, {counts['overlapping']} overlaps, "
        f"{len(report.violations)} violations"
    )
    good = report.ok and took_s <= within_s
    values = {**counts, **more, "took_s": took_s, "violations": len(report.violations)}
    return Figure(name, f"0 violations, {within_s:.0f} s", measured, good, values)


def mutants(_arguments: argparse.Namespace) -> Figure:
    with _server() as server:
        caught = [hunt(mutant, server) for mutant in MUTANTS]
    say(table(caught))
    number = sum(bool(one.by) for one in caught)
    told = f"{number} of {len(caught)} caught"
    return Figure("seeded bugs", "all caught", told, number == len(caught), {"caught": number, "seeded": len(caught)})


class _server:  # noqa: N801 - used as a function
    def __enter__(self) -> RedisServer:
        program = find_program()
        assert program is not None, "redis-server is missing"
        self._redis = RedisServer(program)
        self._redis.start()
        return self._redis

    def __exit__(self, *_: object) -> None:
        self._redis.remove()


LARGE = {"storm": storm, "virtual": virtual, "mutants": mutants}


def measured(arguments: argparse.Namespace) -> Iterator[Figure]:
    for name in arguments.names:
        if name in LARGE:
            yield LARGE[name](arguments)
            continue
        found = ALL[name](arguments.seed)
        yield from found if isinstance(found, list) else [found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["storm"], choices=["all", *LARGE, *ALL], metavar="NAME")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="drives everything (random)")
    parser.add_argument("--tasks", type=int, default=FULL_TASKS, help="size of a storm")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    if "all" in arguments.names:
        arguments.names = [*LARGE, *ALL]
    logging.disable(logging.CRITICAL)  # what is lost and found is told by the checker
    say(f"seed {arguments.seed}")
    found = list[Figure]()
    for figure in measured(arguments):
        found.append(figure)
        say(figure)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(figure) for figure in found], indent=2) + "\n")
    return 0 if all(figure.good for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
