"""Start-up of the command line: what a person waits for before anything happens.

The floor is this interpreter doing nothing, with the same start-up files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from harness import World, alternate, median, quick, timed_ms

from claude_pool.testing.node import settings_env


def main() -> None:
    rounds = 5 if quick("start-up of the command line") else 15
    program = str(Path(sys.executable).with_name("claude-pool"))
    with World("cli") as world, world.table() as table, world.node(world.config()) as node:
        env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **settings_env(node.config)}
        done = node.pool.run("hello", wait_s=30).task_id

        def run(argv: Sequence[str]) -> float:
            return timed_ms(lambda: subprocess.run(argv, env=env, check=True, capture_output=True))

        verbs = (
            ("--version", ("--version",), "< 150 ms", 150),
            ("status --json", ("status", "--json"), "< 400 ms", 400),
            ("status", ("status",), "< 400 ms", 400),
            ("list", ("list",), "", 0),
            ("result", ("result", done), "", 0),
            ("submit", ("submit", "hello"), "", 0),
        )
        nothing = partial(run, (sys.executable, "-c", "pass"))
        series = alternate(rounds, nothing, *(partial(run, (program, *words)) for _, words, _, _ in verbs))
        table.add("python -c pass", series[0], "ms")
        for (name, _, aim, most), samples in zip(verbs, series[1:], strict=True):
            met = median(samples) < most if most else None
            table.add(
                f"claude-pool {name}", samples, "ms", floor=series[0], floor_is="python -c pass", aim=aim, met=met
            )


if __name__ == "__main__":
    main()
