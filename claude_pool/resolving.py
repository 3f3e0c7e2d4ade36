"""Resolving: what a run is told that resolves a merge conflict. Pure.

It starts in a tree in which git merged all it could and marked the rest, so it needs an editor and no git. What the
files contain it reads for itself; here it is told where to look, and what the work was about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from claude_pool.models.workspace import FileConflict
from claude_pool.text import one_line

_MOST_FILES: Final = 100
_MOST_ASKED: Final = 20_000


def resolution_prompt(branch: str, into: str, conflicts: Sequence[FileConflict], *, asked: str = "") -> str:
    """The prompt of the task that resolves these conflicts; `asked` is what the branch's own task was asked."""
    files = "\n".join(f"- {_line(conflict)}" for conflict in conflicts[:_MOST_FILES])
    more = len(conflicts) - _MOST_FILES
    files += f"\n- and {more} more: look for lines that begin with <<<<<<<" if more > 0 else ""
    about = f"\n\nThe work on {branch} was asked for in these words:\n\n{asked[:_MOST_ASKED]}" if asked else ""
    return (
        f"The branch {branch} could not be merged into {into} by itself. The working directory holds the merge as far"
        f" as git could make it. These files are in conflict:\n\n{files}\n\nWhere both sides changed the same lines,"
        f" the file has conflict markers: between <<<<<<< and ======= is what {into} has, between ======= and >>>>>>>"
        f" what {branch} has. Edit each file so that what both sides meant is kept, and take all markers out; a file"
        f" that one side deleted and the other changed is to be kept or deleted as makes sense. Then look whether the"
        f" rest of the code fits together, because a merge without conflicts can be wrong as well. Change nothing else,"
        f" and don't run git. Answer with what you decided, file by file.{about}"
    )


def _line(conflict: FileConflict) -> str:
    lines = ", ".join(str(hunk.line) for hunk in conflict.hunks)
    at = f", line {lines}" if lines else ""
    return f"{one_line(conflict.path, 300)} ({one_line(conflict.kind, 60)}{at})"
