"""Verbs for branches: diff, merge, discard, branches, gc.

In a git repository, and without a configured one, names of branches mean that repository. What a branch contains is
hostile: on a terminal it is shown without control characters; into a pipe it goes as it is.
"""

from __future__ import annotations

import os
import pydoc
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from claude_pool.cli import output
from claude_pool.cli.counter import Json, open_pool_here
from claude_pool.cli.render import Block, Table, count, span
from claude_pool.documents import of_branches, of_diff, of_gc, of_merge
from claude_pool.errors import InvalidRequest
from claude_pool.models.workspace import Branch, Diff, FileChange, FileConflict, MergeResult
from claude_pool.text import clean, excerpt, one_line

if TYPE_CHECKING:
    from claude_pool.pool import Pool

EXAMPLES: Final = {
    "diff": """claude-pool diff t-8f3k2m9q0d
claude-pool diff t-8f3k2m9q0d --stat --against target
claude-pool diff c-1b7x5c2e9a --path src/parser.py | git apply""",
    "merge": """claude-pool merge t-8f3k2m9q0d
claude-pool merge t-8f3k2m9q0d --how squash --check "make test"
claude-pool merge t-8f3k2m9q0d --resolve""",
    "discard": "claude-pool discard t-8f3k2m9q0d",
    "branches": "claude-pool branches",
    "gc": "claude-pool gc",
}

_MOST_SHOWN: Final = 16 << 20
_HUNK_LINES: Final = 12
_STYLES: Final = (
    ("+++", "1"), ("---", "1"), ("diff ", "1;36"), ("@@", "36"), ("+", "32"), ("-", "31"),
)  # fmt: skip
_LETTERS: Final = {
    "added": "A", "modified": "M", "deleted": "D", "renamed": "R", "copied": "C", "type_changed": "T",
}  # fmt: skip

What = Annotated[str, typer.Argument(metavar="WHAT", help="A task's or a chain's id, or a branch pool/…")]


def diff(
    what: What,
    *,
    against: Annotated[str, typer.Option(help="base: where it began; target: where it left the target; or a ref.")] = (
        "base"
    ),
    path: Annotated[str | None, typer.Option(help="Only this file or folder.", metavar="PATH")] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Only which files, and how much.")] = False,
    offset: Annotated[int, typer.Option(min=0, help="With --json: where the page of the patch begins.")] = 0,
    as_json: Json = False,
) -> int:
    """What a branch changes: files with counts, and the patch, coloured and paged on a terminal.

    Into a pipe goes the patch alone. With --json one page of it: the next begins at `next_offset`.
    """
    with open_pool_here() as pool:
        found = pool.diff(what, against=against, path=path, offset=offset, **({"page_bytes": 0} if stat else {}))
        if as_json:
            output.document(of_diff(found))
        elif stat:
            output.show(*_stat(found))
        elif sys.stdout.isatty():
            _page("\n".join((*map(str, _stat(found)), "", _coloured("".join(_patch(pool, what, found, path))))))
        else:
            for piece in _patch(pool, what, found, path):
                output.piece(piece)
    return output.DONE


def merge(  # noqa: PLR0913 - one argument a flag
    what: What,
    *,
    how: Annotated[
        Literal["merge", "squash", "rebase"], typer.Option(help="A merge commit, one commit, or each commit on top.")
    ] = "merge",
    target: Annotated[str | None, typer.Option(help="Branch to merge into.", metavar="BRANCH")] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="Of the merge or squash commit.")] = "",
    author: Annotated[str, typer.Option(help="Of that commit: `Name <address>`.")] = "",
    check: Annotated[
        str | None, typer.Option(help="Run on the merged tree; nothing is merged unless it passes.", metavar="COMMAND")
    ] = None,
    tip: Annotated[str | None, typer.Option(help="Only if the branch is still at this commit.", metavar="COMMIT")] = (
        None
    ),
    resolve: Annotated[bool, typer.Option("--resolve", help="On conflict, hand in a task that resolves it.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also what failed or was cancelled.")] = False,
    as_json: Json = False,
) -> int:
    """Merge what a task or a chain did into the target branch. A checkout that is not clean is never touched.

    Exit code 4 when it conflicts, when the check fails, or when the branch changed since its review; 5 when a task was
    handed in that resolves the conflict: merge that one when it is done.
    """
    with open_pool_here() as pool:
        result = pool.merge(
            what,
            how=how,
            target=target,
            message=message,
            author=author,
            tip=tip,
            check_command=check,
            resolve=resolve,
            anyway=anyway,
        )
    output.answer(of_merge(result), *_merged(result), as_json=as_json)
    if result.merged:
        return output.DONE
    return output.UNFINISHED if result.resolving else output.REFUSED


def discard(what: What, *, as_json: Json = False) -> int:
    """Delete a branch without merging it. Its last commit is told, so that it can be brought back for some time."""
    with open_pool_here() as pool:
        tip = pool.discard(what)
    said = f"{what} is discarded; it was at {tip}\n  bring it back: git branch NAME {tip}"
    output.answer({"discarded": what, "tip": tip}, said, as_json=as_json)
    return output.DONE


def branches(*, as_json: Json = False) -> int:
    """The branches of tasks and chains in the repository, the youngest first."""
    with open_pool_here() as pool:
        found = pool.branches()
    output.answer(of_branches(found), _table(found) if found else "There is no branch of a pool.", as_json=as_json)
    return output.DONE


def gc(*, as_json: Json = False) -> int:
    """Clear away branches that are merged, rejected or expired, and work trees that no slot uses any more."""
    with open_pool_here() as pool:
        report = pool.gc()
    lines = [f"branch {one_line(name)}" for name in report.branches]
    lines += [f"work tree {one_line(name)}" for name in report.worktrees]
    lines += [one_line(name) for name in report.leftovers]
    lines += [f"kept: {one_line(why, 400)}" for why in report.kept]
    output.answer(of_gc(report), "\n".join(lines) or "There was nothing to clear away.", as_json=as_json)
    return output.DONE


# -- a diff


def _patch(pool: Pool, what: str, first: Diff, path: str | None) -> Iterator[str]:
    """The whole patch, page by page, of the commits that the first page was of."""
    page, told = first, 0
    while True:
        yield page.patch
        told += len(page.patch)
        if page.next_offset is None:
            return
        if sys.stdout.isatty() and told > _MOST_SHOWN:
            yield f"\n[… more than {_MOST_SHOWN >> 20} MiB: look at one file with --path …]\n"
            return
        page = pool.diff(what, against=first.base, path=path, offset=page.next_offset)
        if page.tip != first.tip:
            raise InvalidRequest(f"{first.branch} changed while it was read.", hint="Look again.")


def _coloured(patch: str) -> str:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return clean(patch)
    return "\n".join(_styled(line) for line in clean(patch).split("\n"))


def _styled(line: str) -> str:
    style = next((style for beginning, style in _STYLES if line.startswith(beginning)), "")
    return f"\x1b[{style}m{line}\x1b[0m" if style else line


def _page(text: str) -> None:
    """Through the person's pager, with colours; a text that fits the screen is simply shown."""
    os.environ.setdefault("LESS", "-FRX")
    pydoc.pager(text)


def _stat(found: Diff) -> list[Block]:
    lines: list[Block] = [f" {_LETTERS[one.kind]} {_amount(one):>12}  {_name(one)}" for one in found.files]
    more = found.files_total - len(found.files)
    lines += [f"   and {more} more files"] if more > 0 else []
    head = f"{one_line(found.branch)} at {found.tip[:12]}, against {one_line(found.against)} {found.base[:12]}"
    changed = f"{count(found.files_total, 'file')}, +{found.insertions} -{found.deletions}"
    return [head, *lines, changed]


def _amount(change: FileChange) -> str:
    return "binary" if change.insertions is None else f"+{change.insertions} -{change.deletions}"


def _name(change: FileChange) -> str:
    name = one_line(change.path, 400)
    name = f"{one_line(change.old_path, 400)} -> {name}" if change.old_path else name
    kinds = {"120000": " (link)", "160000": " (submodule)", "100755": " (program)"}
    return name + kinds.get(change.mode, "")


# -- a merge


def _merged(result: MergeResult) -> list[Block]:
    said = f"{one_line(result.branch)} into {one_line(result.target)}: "
    if result.merged:
        where = f"merged, {one_line(result.target)} is at {(result.commit or '')[:12]}"
        lines: list[Block] = [said + where, *([f"  {one_line(result.message)}"] if result.message else [])]
        updated = result.checkout_updated
        return [*lines, *([f"  {one_line(updated)} was brought along"] if updated else [])]
    lines = [said + "not merged. " + one_line(result.message, 400)]
    for conflict in result.conflicts:
        lines += _conflict(conflict, result.target)
    if (check := result.check) is not None and not check.passed:
        ended = "took too long" if check.timed_out else f"ended with {check.code}"
        lines += [f"  check `{one_line(check.command)}` {ended}:", excerpt(check.output, 4000)]
    if result.resolving:
        lines += ["", f"{result.resolving} resolves it. When it is done: claude-pool merge {result.resolving}"]
    elif result.conflicts:
        lines += ["", "Have a task resolve it: the same with --resolve"]
    return lines


def _conflict(conflict: FileConflict, target: str) -> list[Block]:
    lines: list[Block] = [f"  conflict: {one_line(conflict.path, 400)} ({one_line(conflict.kind)})"]
    for hunk in conflict.hunks[:3]:
        width = max(len("branch"), len(where := one_line(target, 20)))
        sides = [(f"{where:{width}} ", hunk.ours), (f"{'branch':{width}} ", hunk.theirs)]
        lines += [f"    line {hunk.line}"]
        for side, text in sides:
            kept = clean(text).split("\n")
            lines += [f"      {side}| {line}" for line in kept[:_HUNK_LINES]]
            lines += [f"      {side}| … {len(kept) - _HUNK_LINES} more lines"] if len(kept) > _HUNK_LINES else []
    return lines


def _table(found: list[Branch]) -> Table:
    rows = tuple(
        (
            one_line(one.name),
            span(max(0.0, time.time() - one.committed_s) * 1000),
            str(one.ahead),
            str(one.behind),
            _standing(one),
            one_line(one.subject),
        )
        for one in found
    )
    return Table(
        ("BRANCH", "AGE", "AHEAD", "BEHIND", "STATE", "LAST COMMIT"), rows, frozenset({"AGE", "AHEAD", "BEHIND"})
    )


def _standing(branch: Branch) -> str:
    if branch.checked_out:
        return "checked out"
    return "merged" if branch.merged else "open"
