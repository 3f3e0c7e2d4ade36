"""Runs the unit tests that may have changed since they were last seen to pass; with --all, every one.

What a test file finds depends on itself, on the conftest files above it, on every module of ours that these import, on
the files that lie beside the modules, on the settings and on the installed packages. So a test file is remembered by a
digest of all of these, and run again when that is new. `make test` runs everything, whatever is remembered here.
Further words go to pytest.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("claude_pool", "workers", "mcp_server")
TESTS = ROOT / "tests" / "unit"
MEMORY = ROOT / ".venv" / "units-found-passing.json"
HOUSE = TESTS / "test_house.py"  # looks at every file there is


@cache
def content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def modules_named(path: Path) -> set[str]:
    """What a file imports of ours: modules, and names that may be modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return {name for name in found if name.partition(".")[0] in PACKAGES}


def digests() -> dict[str, str]:
    """Each test file, and the digest of all that its outcome depends on."""
    sys.path.insert(0, str(ROOT))
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    files = {
        module: next(path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.is_file())
        for module in graph.modules
        for stem in [ROOT.joinpath(*module.split("."))]
    }

    @cache
    def below(module: str) -> frozenset[str]:
        return frozenset({module, *graph.find_upstream_modules(module)})

    beside = [ROOT / "pyproject.toml", ROOT / "requirements.lock"]
    for package in PACKAGES:
        beside += [
            path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}
        ]
    frame = [sys.version, *(content(path) for path in sorted(beside))]
    found: dict[str, str] = {}
    for test in sorted(TESTS.rglob("test_*.py")):
        above = [folder / "conftest.py" for folder in test.parents if folder.is_relative_to(ROOT / "tests")]
        read = [test, *(path for path in above if path.is_file())]
        used = {name for path in read for name in modules_named(path) if name in files}
        needed = set(files) if test == HOUSE else {name for module in used for name in below(module)}
        parts = [*frame, *map(content, read), *(content(files[name]) for name in sorted(needed))]
        found[str(test.relative_to(ROOT))] = hashlib.sha256("".join(parts).encode()).hexdigest()
    return found


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--all"]
    now = digests()
    known: dict[str, str] = json.loads(MEMORY.read_text()) if MEMORY.exists() and "--all" not in sys.argv else {}
    doubtful = [file for file, digest in now.items() if known.get(file) != digest]
    if not doubtful:
        print(f"units: ok (0 of {len(now)} files run)")
        return 0
    pytest = [Path(sys.executable).parent / "pytest", "-q", "--no-header", "-rfE", *words, *doubtful]
    done = subprocess.run(pytest, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    failed = set(re.findall(r"^(?:FAILED|ERROR) (tests/[^: ]+)", done.stdout, re.MULTILINE))
    passed = set(doubtful) - failed if done.returncode == 0 or failed else set[str]()
    MEMORY.write_text(
        json.dumps({file: digest for file, digest in now.items() if file in passed or known.get(file) == digest})
    )
    if done.returncode:
        print(done.stdout)
        return done.returncode
    print(f"units: ok ({len(doubtful)} of {len(now)} files run)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
