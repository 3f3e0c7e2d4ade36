"""Review: what a run is told after its answer was rejected. Pure.

All that reviewers said is told, in order, since a worker that mends the last complaint may bring back the first. The
run continues its own session where it can, so its rejected answers are in front of it already; one that has to begin
again is told that its earlier work is on its branch.
"""

from __future__ import annotations

from collections.abc import Sequence


def asked_again(prompt: str, feedback: Sequence[str], *, resumes: bool, interrupted: str = "") -> str:
    """The prompt of a run after one or more rejections; `interrupted` says why the run before it did not end."""
    said = _history(feedback)
    stopped = f"Your last run was interrupted ({interrupted}). " if interrupted else ""
    if resumes:
        return (
            f"{stopped}A reviewer looked at your work and did not accept it.\n\n{said}\n\nLook at what you have done "
            f"so far, change it so that all of this feedback is met, and then answer the task again as a whole. For "
            f"reference, the task was:\n\n{prompt}"
        )
    return (
        f"{prompt}\n\n---\n{stopped}This task was done before, and a reviewer did not accept it. What those runs left "
        f"is in the working directory.\n\n{said}\n\nSee to it that all of this feedback is met."
    )


def _history(feedback: Sequence[str]) -> str:
    if len(feedback) == 1:
        return f"The reviewer said:\n\n{feedback[0]}"
    told = "\n\n".join(f"Rejection {number} of {len(feedback)}:\n{text}" for number, text in enumerate(feedback, 1))
    return f"It was rejected {len(feedback)} times. The reviewers said:\n\n{told}"
