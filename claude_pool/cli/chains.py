"""Verbs for chains: chain run, submit, check, list, show, resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from claude_pool.cli import live, output
from claude_pool.cli.counter import Json, open_pool
from claude_pool.cli.flags import read_file, with_task_options
from claude_pool.cli.graph_answers import follow, screen
from claude_pool.cli.graph_render import named_lines, named_table, wholes_table
from claude_pool.cli.tasks import Title, place
from claude_pool.errors import InvalidRequest
from claude_pool.graph_documents import (
    of_chain_progress,
    of_chain_submitted,
    of_fan_out_progress,
    of_named_chain,
    of_named_chains,
    of_wholes,
)
from claude_pool.ids import kind_of
from claude_pool.models.chain import ChainSubmitted
from claude_pool.text import clean

if TYPE_CHECKING:
    from claude_pool.pool import Pool

HELP: Final = """Chains: steps one after the other, each fed by those before it.

A reusable chain is a file in .claude-pool/chains/ of this directory or one above it; some ship with the package.
"""

EXAMPLES: Final = {
    "chain run": """claude-pool chain run issue-to-branch --arg issue="The parser loses comments"
claude-pool chain run ./nightly.toml --model haiku --budget 2 --json
git diff | claude-pool chain run review-and-fix --arg change=-""",
    "chain submit": """claude-pool chain submit refactor-and-test --arg target=parser.py
claude-pool chain submit nightly --tag nightly --review""",
    "chain check": """claude-pool chain check
claude-pool chain check ./nightly.toml""",
    "chain list": """claude-pool chain list
claude-pool chain list --runs --json""",
    "chain show": """claude-pool chain show review-and-fix
claude-pool chain show c-8f3k2m9q0d""",
    "chain resume": """claude-pool chain resume c-8f3k2m9q0d
claude-pool chain resume c-8f3k2m9q0d --prompt fix="Fix it without touching the parser" --wait""",
}

Name = Annotated[str, typer.Argument(metavar="CHAIN", help="A reusable chain's name, or its file.")]
Args = Annotated[
    list[str] | None,
    typer.Option(
        "--arg", help="An argument: name=value, name=@FILE, name=- for stdin; repeatable.", metavar="NAME=VALUE"
    ),
]
Budget = Annotated[float | None, typer.Option(help="Most to spend for the whole.", metavar="USD")]
Wait = Annotated[float | None, typer.Option(help="Wait at most so long; the chain goes on", metavar="SECONDS")]
ChainId = Annotated[str, typer.Argument(metavar="CHAIN", help="A chain's id.")]


@with_task_options
def chain_run(
    chain: Name,
    *,
    arg: Args = None,
    title: Title = "",
    budget: Budget = None,
    wait: Wait = None,
    as_json: Json = False,
    options: dict[str, Any],
) -> int:
    """Run a reusable chain and print its final output; live bars show each step.

    A task's options are for all steps that do not choose; --timeout, --tag and --review are for the whole chain.
    In a git repository, the steps share one branch of that repository.
    """
    with open_pool() as pool:
        chain_id = _submit(pool, chain, arg, title=title, budget=budget, options=options).chain_id
        return follow(pool, chain_id, wait_s=wait, as_json=as_json)


@with_task_options
def chain_submit(
    chain: Name,
    *,
    arg: Args = None,
    title: Title = "",
    budget: Budget = None,
    as_json: Json = False,
    options: dict[str, Any],
) -> int:
    """Hand in a reusable chain and return at once with its id."""
    with open_pool() as pool:
        answer = _submit(pool, chain, arg, title=title, budget=budget, options=options)
        output.answer(of_chain_submitted(answer), answer.chain_id, as_json=as_json)
        live.warn_without_slots(pool)
    return output.DONE


def chain_check(
    chains: Annotated[list[str] | None, typer.Argument(metavar="[CHAIN…]", help="Names or files.")] = None,
    *,
    as_json: Json = False,
) -> int:
    """Check reusable chains without running them: all that can be seen from here, or those that are named.

    Exit code 2 if one of them can't be used.
    """
    with open_pool() as pool:
        found = [pool.named_chain(name) for name in chains] if chains else pool.named_chains()
    lines = [f"{one.name}: {clean(one.trouble) or 'ok'}" for one in found]
    output.answer(of_named_chains(found), *lines, as_json=as_json)
    return output.WRONG_USAGE if any(one.trouble for one in found) else output.DONE


def chain_list(
    *,
    runs: Annotated[bool, typer.Option("--runs", help="Chains and fan-outs that were handed in.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of them at most.")] = 50,
    as_json: Json = False,
) -> int:
    """List the reusable chains that can be seen from here; with --runs what was handed in, newest first."""
    with open_pool() as pool:
        if runs:
            wholes = pool.chains(limit=limit)
            shown = wholes_table(wholes, now_ms=live.now_ms()) if wholes else "There is none."
            output.answer(of_wholes(wholes), shown, as_json=as_json)
        else:
            found = pool.named_chains()
            output.answer(of_named_chains(found), named_table(found), as_json=as_json)
    return output.DONE


def chain_show(
    chain: Annotated[str, typer.Argument(metavar="CHAIN", help="A chain's or a fan-out's id, or a reusable chain.")],
    *,
    as_json: Json = False,
) -> int:
    """Show where a chain is and what each step costs; of a reusable chain, its arguments and steps."""
    with open_pool() as pool:
        kind = kind_of(chain)
        if kind == "chain":
            progress = pool.chain_progress(chain)
            output.answer(of_chain_progress(progress), *screen(pool, chain), as_json=as_json)
        elif kind == "fan-out":
            document = of_fan_out_progress(pool.fan_out_progress(chain))
            output.answer(document, *screen(pool, chain), as_json=as_json)
        else:
            found = pool.named_chain(chain)
            output.answer(of_named_chain(found), *named_lines(found), as_json=as_json)
            return output.WRONG_USAGE if found.trouble else output.DONE
    return output.DONE


def chain_resume(
    chain: ChainId,
    *,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="Another prompt for a step: STEP=TEXT or STEP=@FILE; repeatable.", metavar="STEP=TEXT"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and print its final output.")] = False,
    as_json: Json = False,
) -> int:
    """Let a chain that failed or was cancelled go on at the step where it stopped; earlier outputs are kept."""
    with open_pool() as pool:
        answer = pool.resume_chain(chain, prompts=pairs(prompt or (), flag="--prompt"))
        if wait:
            return follow(pool, chain, wait_s=None, as_json=as_json)
        output.answer(of_chain_submitted(answer), answer.chain_id, as_json=as_json)
    return output.DONE


def pairs(texts: Sequence[str], *, flag: str) -> dict[str, str]:
    """`name=value` flags as a mapping; a value may come from a file or from stdin. Raises InvalidRequest."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"{flag} takes name=value, not {text!r}.")
        if name in found:
            raise InvalidRequest(f"{flag} has {name!r} twice.")
        if value == "-":
            value = read_file("-", flag)
        elif value.startswith("@"):
            value = read_file(value[1:], flag)
        found[name] = value
    return found


def _submit(
    pool: Pool, chain: str, arg: list[str] | None, *, title: str, budget: float | None, options: dict[str, Any]
) -> ChainSubmitted:
    configured = pool.config.repo is not None or pool.config.isolation == "none"
    fields = place(options, configured=configured, here=Path.cwd())
    fields |= {"title": title} if title else {}
    fields |= {} if budget is None else {"budget_usd": budget}
    return pool.submit_named_chain(chain, pairs(arg or (), flag="--arg"), **fields)
