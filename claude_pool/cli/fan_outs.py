"""The verb for fan-outs: the same at the same time, with a bar a branch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from claude_pool.cli import live, output
from claude_pool.cli.counter import Json, open_pool
from claude_pool.cli.flags import read_file, with_task_options
from claude_pool.cli.graph_answers import follow
from claude_pool.cli.tasks import Title, place
from claude_pool.errors import InvalidRequest
from claude_pool.graph_documents import of_fan_out_submitted

EXAMPLES: Final = {
    "fan-out": """claude-pool fan-out "Review parser.py" "Review lexer.py" --gather "Join the findings."
claude-pool fan-out --template "Audit {target} for unsafe input" --target src/a.py --target src/b.py
git ls-files '*.py' | claude-pool fan-out --template "Add types to {target}" --target - --max-parallel 4 --detach
claude-pool fan-out --file branches.json --policy "quorum(2)" --json""",
}


@with_task_options
def fan_out(  # noqa: PLR0913 - one flag each; all but the prompts are named
    prompts: Annotated[list[str] | None, typer.Argument(metavar="[PROMPT…]", help="A branch each.")] = None,
    *,
    template: Annotated[str | None, typer.Option(help="One prompt with {target}, for every --target.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="A target; - reads one a line from stdin; repeatable.")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="JSON: a list of prompts or of branches.", metavar="PATH")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="all, fail_fast or quorum(N).")] = None,
    max_parallel: Annotated[int | None, typer.Option(help="Most branches at once.")] = None,
    retries: Annotated[int | None, typer.Option(help="Repeats of a branch that failed.")] = None,
    gather: Annotated[str | None, typer.Option(help="A prompt that gets all answers, at {branches}.")] = None,
    budget: Annotated[float | None, typer.Option(help="Most to spend for the whole.", metavar="USD")] = None,
    title: Title = "",
    detach: Annotated[bool, typer.Option("--detach", help="Return at once with the ids.")] = False,
    wait: Annotated[
        float | None, typer.Option(help="Wait at most so long; the fan-out goes on", metavar="SECONDS")
    ] = None,
    as_json: Json = False,
    options: dict[str, Any],
) -> int:
    """Hand in independent prompts and wait for all of them; live bars show each branch.

    Prints the gather's answer, or every branch's under its label. What was done is always kept, whatever fails.
    """
    shape = {"policy": policy, "max_parallel": max_parallel, "retries": retries, "gather": gather, "budget_usd": budget}
    fields: dict[str, Any] = {name: value for name, value in shape.items() if value is not None}
    fields |= {"title": title} if title else {}
    with open_pool() as pool:
        configured = pool.config.repo is not None or pool.config.isolation == "none"
        fields |= place(options, configured=configured, here=Path.cwd())
        if template is not None or target:
            if prompts or file or template is None:
                raise InvalidRequest("--template and --target go together, without prompts and --file.")
            answer = pool.fan_out_template(template, _targets(target or []), **fields)
        else:
            answer = pool.fan_out(_branches(prompts, file), **fields)
        if detach:
            lines = [
                answer.fan_out_id,
                *(f"  {id_}  {one}" for id_, one in zip(answer.task_ids, answer.labels, strict=True)),
            ]
            output.answer(of_fan_out_submitted(answer), *lines, as_json=as_json)
            live.warn_without_slots(pool)
            return output.DONE
        return follow(pool, answer.fan_out_id, wait_s=wait, as_json=as_json)


def _targets(given: list[str]) -> list[str]:
    if "-" not in given:
        return given
    lines = [line for line in read_file("-", "--target").splitlines() if line.strip()]
    return [one for target in given for one in (lines if target == "-" else [target])]


def _branches(prompts: list[str] | None, file: str | None) -> list[Any]:
    if bool(prompts) == (file is not None):
        raise InvalidRequest("Give prompts as arguments, or --file, or --template with --target: one of the three.")
    if file is None:
        return list(prompts or [])
    try:
        value: Any = json.loads(read_file(file, "--file"))
    except ValueError as error:
        raise InvalidRequest(f"--file is not JSON: {error}.") from None
    if not isinstance(value, list):
        raise InvalidRequest("--file has to hold a JSON list of prompts or branches.")
    return cast("list[Any]", value)
