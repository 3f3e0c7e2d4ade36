"""What every benchmark stands on: a world of its own to measure in, samples, and one table with its JSON.

A figure is worth little by itself on a shared machine, so nearly every row stands beside a floor that was measured in
the same run, taken alternately with it, and the ratio of the two is what is compared from one day to another. Nothing
here asserts anything: a target that is missed is printed as missed.

    with World("latency") as world, world.table() as table:
        table.add("submit to spawn", samples_ms, "ms", floor=bare_ms, floor_is="bare message", aim="< 10 ms over")

Each program writes `benchmarks/results/<name>.json`; `run.py` runs all of them and puts their rows into one table.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from claude_pool.config import PoolConfig
from claude_pool.testing import fake_claude
from claude_pool.testing.node import TestNode
from claude_pool.testing.redis_server import RedisServer, find_program, short_folder

HERE: Final = Path(__file__).resolve().parent
RESULTS: Final = HERE / "results"
_FOREIGN: Final = ("CLAUDE", "ANTHROPIC_", "XDG_", "GIT_")
_WIDTHS: Final = (58, 12, 10, 12, 7)

INSTANT: Final = """\
#!/bin/sh
[ "$1" = --version ] && { echo "2.1.330 (Claude Code)"; exit; }
%(signal)s
for word; do case $word in --session-id=*) id=${word#*=};; esac; done
read -r prompt
echo '{"type":"system","subtype":"init","model":"claude-opus-5-5","session_id":"'$id'","tools":[],"mcp_servers":[]}'
echo '{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"ok","stop_reason":"end_turn",\
"terminal_reason":"completed","duration_ms":1,"duration_api_ms":1,"total_cost_usd":0.01,"session_id":"'$id'",\
"permission_denials":[],"usage":{"input_tokens":1,"output_tokens":1},"modelUsage":{}}'
read -r more
exit 0
"""
"""A `claude` that costs about a millisecond, so that what remains is the pool's own."""


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def p99(samples: Sequence[float]) -> float:
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * 0.99))]


def spread(samples: Sequence[float]) -> float:
    """Half the distance between the quartiles, as a part of the median: the noise of one run."""
    if len(samples) < 4 or not median(samples):
        return 0.0
    low, _, high = statistics.quantiles(samples, n=4)
    return (high - low) / 2 / median(samples)


@dataclass(frozen=True)
class Row:
    """One line of the table. `ratio` is value to floor; `noise` is its spread in this run, as a part of it."""

    name: str
    value: float
    unit: str
    p99: float | None = None
    floor: float | None = None
    floor_is: str = ""
    ratio: float | None = None
    noise: float = 0.0
    more_is_better: bool = False
    aim: str = ""
    met: bool | None = None


@dataclass
class Table:
    """The rows of one program, printed as they come."""

    name: str
    rows: list[Row] = field(default_factory=list)

    def add(  # noqa: PLR0913 - a row has many columns, all by name
        self, name: str, samples: float | Sequence[float], unit: str, *, floor: float | Sequence[float] | None = None,
        floor_is: str = "", more_is_better: bool = False, aim: str = "", met: bool | None = None,
    ) -> Row:  # fmt: skip
        """One measured thing; medians are taken of series."""
        values = [samples] if isinstance(samples, (int, float)) else list(samples)
        floors = [] if floor is None else [floor] if isinstance(floor, (int, float)) else list(floor)
        value, under = median(values), median(floors) if floors else None
        row = Row(
            name=name, value=value, unit=unit, p99=p99(values) if len(values) >= 20 else None, floor=under,
            floor_is=floor_is, ratio=value / under if under else None,
            noise=max(spread(values), spread(floors) if floors else 0.0),
            more_is_better=more_is_better, aim=aim, met=met,
        )  # fmt: skip
        self.rows.append(row)
        print(line_of(row), flush=True)
        return row


def line_of(row: Row) -> str:
    """A row for people."""
    cells = (
        row.name,
        f"{_short(row.value)} {row.unit}",
        "" if row.p99 is None else f"p99 {_short(row.p99)}",
        "" if row.floor is None else f"/ {_short(row.floor)}",
        "" if row.ratio is None else f"= {row.ratio:.2f}",
    )
    laid = [
        f"{cells[0]:<{_WIDTHS[0]}}",
        *(f"{cell:>{width}}" for cell, width in zip(cells[1:], _WIDTHS[1:], strict=True)),
    ]
    verdict = "" if row.met is None else " ok" if row.met else " MISSED"
    notes = "; ".join(part for part in (row.floor_is, f"aim {row.aim}{verdict}" if row.aim else "") if part)
    return " ".join(laid) + (f"  {notes}" if notes else "")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def machine() -> dict[str, Any]:
    """What it was measured on, and how busy that was."""
    redis = find_program()
    told = subprocess.run([redis, "--version"], capture_output=True, text=True, check=False).stdout if redis else ""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "redis": told.partition("v=")[2].split(" ")[0],
    }


class World:
    """A folder, a durable Redis on a private socket, and fake CLIs; everything is gone at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = short_folder()
        self._exit = contextlib.ExitStack()
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        try:
            self._exit.callback(shutil.rmtree, self.folder, ignore_errors=True)
            for variable in [name for name in os.environ if name.startswith(_FOREIGN)]:
                del os.environ[variable]
            os.environ["HOME"] = str(self.folder)
            os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
            program = find_program()
            if program is None:
                sys.exit("a benchmark needs redis-server")
            self.redis = RedisServer(program)
            self.redis.start()
            self._exit.callback(self.redis.remove)
            self.fake = fake_claude.install(self.folder / "fake")
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def instant(self, signal: Path | None = None) -> Path:
        """A `claude` of /bin/sh that answers at once; it writes a byte to `signal` as the first thing it does."""
        path = self.folder / f"instant-{next(self._numbers)}"
        path.write_text(INSTANT % {"signal": f"echo >{signal}" if signal else ":"})
        path.chmod(0o755)
        return path

    def config(self, **settings: Any) -> PoolConfig:
        """Settings of a pool of its own on this Redis."""
        basics = {
            "name": f"b{next(self._numbers)}",
            "home": self.folder / "home",
            "node": "bench",
            "redis_url": self.redis.url,
            "claude": self.fake,
            "slots": 1,
            "stop_grace_s": 1,
            "drain_s": 5,
        }
        config = PoolConfig(**{**basics, **settings})
        config.home.mkdir(exist_ok=True)
        return config

    @contextlib.contextmanager
    def node(self, config: PoolConfig, **env: str) -> Generator[TestNode]:
        """A node whose slots are all ready to hear."""
        with TestNode(config, env=env) as node:
            deadline = time.monotonic() + 60
            while node.log().count(" is ready") < config.slots and time.monotonic() < deadline:
                time.sleep(0.02)
            yield node

    @contextlib.contextmanager
    def table(self) -> Generator[Table]:
        """The program's table; written as JSON at the end, also when it broke off."""
        table = Table(self.name)
        facts = machine()
        print(f"{self.name}: {facts['date']}, {facts['cores']} cores, load {facts['load']}, Redis {facts['redis']}")
        began = time.monotonic()
        try:
            yield table
        finally:
            document = {
                **facts,
                "took_s": round(time.monotonic() - began, 1),
                "rows": [asdict(row) for row in table.rows],
            }
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{self.name}.json").write_text(json.dumps(document, indent=1) + "\n")


class Bell:
    """A FIFO that anybody rings by writing one byte or more; hearing it gives the moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR)

    def heard(self, rung: Callable[[], object]) -> float:
        """Milliseconds from calling `rung` until the bell rings."""
        began = time.perf_counter()
        rung()
        os.read(self._descriptor, 1 << 16)
        return (time.perf_counter() - began) * 1000

    def close(self) -> None:
        os.close(self._descriptor)


def timed_ms(action: Callable[[], object]) -> float:
    """How long it takes, in milliseconds."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def alternate(rounds: int, *actions: Callable[[], float], warm_up: int = 2) -> list[list[float]]:
    """Series of several measurements, taken in turn, so that all meet the same weather."""
    for action in actions:
        for _ in range(warm_up):
            action()
    found: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for samples, action in zip(found, actions, strict=True):
            samples.append(action())
    return found


def quick(description: str, argv: Sequence[str] | None = None) -> bool:
    """Whether `--quick` was asked for: fewer rounds, for a look."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    return bool(parser.parse_args(argv).quick)


def pss_mb(pids: Iterable[int]) -> float:
    """Proportional memory of these processes: shared pages are divided among those who share them."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def cpu_s(pids: Iterable[int]) -> float:
    """Processor time that these processes have used."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
