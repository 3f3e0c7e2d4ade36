"""Type-checks the files that may have changed since they were last found clean; with --all, every file.

What a type checker says about a file depends on that file, on everything it imports, on the settings and on the
installed packages. So a file is remembered by a digest of all of these, and checked again when that is new. Checking
everything takes 11 s; after a change to one module it is usually 2 to 5 s. Exit code 1 when anything is found; what was
found clean is remembered even then.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grimp

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("claude_pool", "workers", "mcp_server")
MEMORY = ROOT / ".venv" / "types-found-clean.json"


def paths_of_modules(graph: grimp.ImportGraph) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for module in graph.modules:
        stem = ROOT.joinpath(*module.split("."))
        paths[module] = next(path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.is_file())
    return paths


def digests() -> dict[str, str]:
    """Each file of ours and the digest of all that its diagnostics depend on."""
    sys.path.insert(0, str(ROOT))
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    paths = paths_of_modules(graph)
    content = {module: hashlib.sha256(path.read_bytes()).hexdigest() for module, path in paths.items()}
    frame = "".join(
        hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in ("pyproject.toml", "requirements.lock")
    )
    found: dict[str, str] = {}
    for module, path in paths.items():
        parts = [content[name] for name in sorted({module, *graph.find_upstream_modules(module)})]
        found[str(path.relative_to(ROOT))] = hashlib.sha256(f"{frame}{sys.version}{parts}".encode()).hexdigest()
    return found


def diagnose(files: list[str]) -> list[dict[str, Any]]:
    checker = Path(sys.executable).parent / "basedpyright"
    done = subprocess.run([checker, "--outputjson", *files], cwd=ROOT, capture_output=True, text=True, check=False)
    start = done.stdout.find("{")
    if start < 0:
        sys.exit(done.stdout + done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout[start:])["generalDiagnostics"]
    return [item for item in found if item["severity"] in {"error", "warning"}]


def as_text(item: dict[str, Any]) -> str:
    start = item.get("range", {}).get("start", {"line": 0, "character": 0})
    place = f"{Path(item['file']).relative_to(ROOT)}:{start['line'] + 1}:{start['character'] + 1}"
    return f"{place} - {item['severity']}: {item['message']} ({item.get('rule', 'syntax')})"


def main() -> int:
    now = digests()
    known: dict[str, str] = json.loads(MEMORY.read_text()) if MEMORY.exists() and "--all" not in sys.argv else {}
    doubtful = sorted(file for file, digest in now.items() if known.get(file) != digest)
    found = diagnose(doubtful) if doubtful else []
    dirty = {str(Path(item["file"]).relative_to(ROOT)) for item in found}
    MEMORY.write_text(json.dumps({file: digest for file, digest in now.items() if file not in dirty}))
    for item in found:
        print(as_text(item))
    verdict = f"{len(found)} in {len(dirty)} files" if found else "ok"
    print(f"types: {verdict} ({len(doubtful)} of {len(now)} files looked at)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
