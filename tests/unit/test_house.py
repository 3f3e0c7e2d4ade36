"""Rules of the repository that no linter knows. Each test gathers all offenders, so that one run names them all."""

from __future__ import annotations

import ast
import contextlib
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import claude_pool
from claude_pool.lifecycle import MOVES
from claude_pool.models.task import TaskState

ROOT = Path(__file__).parents[2]
PACKAGES = ("claude_pool", "workers", "mcp_server")
GENERATED = {".git", ".venv", "__pycache__", "build", "dist", "site", "node_modules"}

MOST_LINES = 400
LONGEST_FUNCTION = 60

NO_NAMESAKE = {
    "__init__": "a package's door; claude_pool's own has test_door.py",
    "_version": "one constant, checked against the changelog below",
}
"""Modules that need no test file of their name, each with the reason."""

INDEX_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("crates", "io"),
        ("deb", "debian", "org"),
    )
]


def walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            if entry.name not in GENERATED and not entry.name.endswith((".egg-info", "_cache")):
                yield from walk(entry)
        elif entry.is_file():
            yield entry


def files(*patterns: str, below: tuple[str, ...] = ()) -> Iterator[Path]:
    for folder in [ROOT / name for name in below] or [ROOT]:
        yield from (path for path in walk(folder) if any(path.match(pattern) for pattern in patterns))


@cache
def texts() -> tuple[tuple[Path, str], ...]:
    """All text files of the repository: what git knows or would add, else everything that is no by-product."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    names = listed.stdout.decode().split("\0")[:-1] if listed.returncode == 0 else []
    found: list[tuple[Path, str]] = []
    for path in [ROOT / name for name in names] or files("*"):
        if path.is_file():
            with contextlib.suppress(UnicodeDecodeError):
                found.append((path, path.read_text(encoding="utf-8")))
    return tuple(found)


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def sources() -> tuple[tuple[Path, ast.Module], ...]:
    return tuple((path, ast.parse(path.read_text())) for path in files("*.py", below=PACKAGES))


def test_no_file_of_code_is_longer_than_400_lines() -> None:
    long = {
        short(path): count
        for path in files("*.py", "*.lua")
        if (count := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert long == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = [
        f"{short(path)}:{node.lineno} {node.name}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long == []


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}
    assert [short(path) for path in files("*.py") if path.name in drawers] == []


def test_every_module_opens_with_its_charter() -> None:
    assert [short(path) for path, tree in sources() if not (ast.get_docstring(tree) or "").strip()] == []


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XXX)\b|NotImplemented" + "Error")
    left = [
        f"{short(path)}:{number}"
        for path in files("*.py", "*.lua", below=PACKAGES)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert left == []


def does_something(tree: ast.Module) -> bool:
    """Whether there is anything to test: words alone, such as records without methods, are tested by who uses them."""
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))


def has_namesake(module: Path, tested: set[str]) -> bool:
    """`test_<module>`; for a part of a family (`slot_process`, or a file of a subpackage) one of the family's name."""
    family = [module.stem.partition("_")[0]] if "_" in module.stem else []
    if module.parent.name not in PACKAGES:
        family.append(module.parent.name)
    return f"test_{module.stem}" in tested or any(
        name == f"test_{first}" or name.startswith(f"test_{first}_") for first in family for name in tested
    )


def test_every_module_has_a_test_file_of_its_name() -> None:
    tested = {path.stem for path in files("test_*.py", below=("tests",))}
    modules = [path for path, tree in sources() if path.stem not in NO_NAMESAKE and does_something(tree)]
    assert [short(path) for path in modules if not has_namesake(path, tested)] == []


def test_no_two_test_files_share_a_name() -> None:
    names = Counter(path.name for path in files("test_*.py", below=("tests",)))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    place = re.compile(r"(?<![\w.}/-])/(?:root|Users|work|home(?!/me\b))/\w|" + re.escape(f"{ROOT}/"))
    named = [
        f"{short(path)}:{number}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if place.search(line)
    ]
    assert named == []


def test_no_file_names_the_host_of_a_package_index() -> None:
    assert [short(path) for path, text in texts() if any(host in text for host in INDEX_HOSTS)] == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-run.lock"])
def test_a_lock_gives_every_package_a_hash_and_no_address(name: str) -> None:
    lock = (ROOT / name).read_text()
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert len(entries) > 40
    assert [entry.splitlines()[0] for entry in entries if not re.match(r"[\w.-]+==\S+", entry)] == []
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"https?://|--(?:extra-)?index|--find-links|--trusted", lock) == []


def test_containers_get_the_versions_that_were_tested() -> None:
    tested, run = ((ROOT / name).read_text() for name in ("requirements.lock", "requirements-run.lock"))
    pins = re.compile(r"^[\w.-]+==[^\s;]+", re.MULTILINE)
    assert set(pins.findall(run)) <= set(pins.findall(tested))


def test_the_lock_holds_every_direct_dependency() -> None:
    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;! ]", name)[0]).lower()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    wanted += [item for extra in project["project"]["optional-dependencies"].values() for item in extra]
    locked = {plain(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1].isalnum()}
    assert sorted({plain(item) for item in wanted} - locked) == []


def test_the_changelog_knows_the_version() -> None:
    assert f"\n## [{claude_pool.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_programs_are_started_by_their_scripts_only() -> None:
    """`python -m workers` and `celery -A` run whatever the working directory holds under that name."""
    wrong = re.compile(r"python3? -m (?:workers|mcp_server|claude_pool)\b|celery -A\b")
    told = [
        path for path in files("*.md", "*.yml", "*.yaml", "Makefile", "Dockerfile") if "decisions" not in path.parts
    ]
    assert [short(path) for path in told if wrong.search(path.read_text())] == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{short(path)} -> {target}"
        for path in files("*.md")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
        if not re.match(r"\w+:", target) and not (path.parent / target).exists()
    ]
    assert broken == []


def test_decision_records_have_a_number_each_and_say_what_follows() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [path.name[:4] for path in records]
    assert len(set(numbers)) == len(numbers) > 0
    assert [path.read_text().split(".")[0] for path in records] == [f"# {int(number)}" for number in numbers]
    parts = ("# ", "## Situation", "## Decision", "## Consequences")
    assert [short(path) for path in records if any(f"\n{part}" not in f"\n{path.read_text()}" for part in parts)] == []


def test_the_architecture_page_shows_exactly_the_legal_moves() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    shown = {
        state: set(targets.split(", ")) - {"nothing"}
        for state, targets in re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|$", page, re.MULTILINE)
    }
    legal: dict[str, set[str]] = {state.value: set() for state in TaskState}
    for moves in MOVES.values():
        for state, targets in moves.items():
            legal[state.value] |= {target.value for target in targets}
    assert shown == legal
