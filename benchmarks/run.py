"""All benchmarks, one after the other: one table, one JSON, plots, and a note of what got worse.

    make bench                     the whole suite; ten minutes on two cores, on a machine that does nothing else
    make bench ARGS=--quick        a look, a few minutes
    make bench ARGS="warm store"   only these

Every program writes `benchmarks/results/<name>.json` itself; here the rows of before are kept and compared first. A
figure has got worse when its ratio to the floor of its own run (without a floor, its value) moved the wrong way by
more than both runs' noise together and at least a tenth. It is said, and nothing fails: a machine has its days.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from plots import plot

HERE: Final = Path(__file__).resolve().parent
RESULTS: Final = HERE / "results"
ORDER: Final = ("cli", "latency", "warm", "throughput", "graph", "fleet", "store", "mcp", "slots", "workspaces")
SHORT: Final = {"workspaces"}
"""In their short form always: the whole one takes four minutes by itself."""
LEAST: Final = 0.10
MOST_S: Final = 900


def read(name: str) -> dict[str, Any]:
    """A program's last document; empty when there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def worse(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A sentence for every row that got worse by more than noise."""
    old = {row["name"]: row for row in before.get("rows", [])}
    said: list[str] = []
    for row in after.get("rows", []):
        was = old.get(row["name"])
        kind = "ratio" if was and was.get("ratio") and row["ratio"] else "value"
        if was is None or not was[kind]:
            continue
        change = row[kind] / was[kind] - 1
        change = -change if row["more_is_better"] else change
        if change > max(LEAST, row["noise"] + was["noise"]):
            said.append(
                f"{row['name']}: {kind} {was[kind]:.3g} -> {row[kind]:.3g}, {change:.0%} worse than on {before['date']}"
            )
    return said  # fmt: skip


def markdown(documents: dict[str, dict[str, Any]]) -> str:
    """The table for docs/performance.md."""
    lines = ["| what | figure | p99 | floor | ratio | aim |", "|---|---|---|---|---|---|"]
    for name, document in documents.items():
        lines.append(f"| **{name}** ({document.get('took_s', 0):.0f} s) | | | | | |")
        for row in document.get("rows", []):
            aim = row["aim"] + ("" if row["met"] is None else ": yes" if row["met"] else ": **no**")
            floor = f"{row['floor']:.3g} ({row['floor_is']})" if row["floor"] else ""
            p99 = f"{row['p99']:.3g}" if row["p99"] else ""
            ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
            lines.append(
                f"| {row['name'].strip()} | {row['value']:.3g} {row['unit']} | {p99} | {floor} | {ratio} | {aim} |"
            )
    return "\n".join(lines) + "\n"  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("names", nargs="*", help=f"which: {' '.join(ORDER)}")
    chosen = parser.parse_args()
    names = [name for name in ORDER if not chosen.names or name in chosen.names]
    documents, notes, failed, began = dict[str, dict[str, Any]](), list[str](), list[str](), time.monotonic()
    for name in names:
        before = read(name)
        argv = [sys.executable, str(HERE / f"bench_{name}.py"), *(["--quick"] if chosen.quick or name in SHORT else [])]
        print(f"== {name}", flush=True)
        try:
            code = subprocess.run(argv, timeout=MOST_S, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
        failed += [name] if code else []
        documents[name] = read(name)
        notes += worse(before, documents[name])
        plot(name, documents[name].get("rows", []), RESULTS)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "all.json").write_text(
        json.dumps({"programs": documents, "worse": notes, "failed": failed}, indent=1) + "\n"
    )
    (RESULTS / "table.md").write_text(markdown(documents))
    print(f"== {time.monotonic() - began:.0f} s; benchmarks/results has all.json, table.md and the plots")
    print("\n".join(f"worse: {note}" for note in notes) or "nothing got worse by more than noise")
    return 1 if failed else 0  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
