"""Routing: from a model's answer to a plan that holds to the caller's hints, or to a single task that says why. Pure.

The model only proposes. Here its answer is read, whatever it is wrapped in, and put right: empty and repeated parts go,
a plan of one part is a single task, names become unique, limits are kept by joining neighbouring parts (nothing is
dropped), markers that it did not mean are made plain text. What can't be put right is a single task with the caller's
own words: a bad plan never costs more than no plan.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from claude_pool.models.options import plain_text
from claude_pool.models.route import MOST_PARTS, AutoHint, AutoPart, AutoRoute, Route, Size
from claude_pool.models.task import TaskResult, TaskState
from claude_pool.routing_prompt import MODELS
from claude_pool.templates import BRANCHES, PREVIOUS, escaped, markers
from claude_pool.text import clean, one_line

MOST_ROUTED: Final = 60_000
"""Characters of a task that a cheap model is asked to cut; a longer one is a single task without being asked."""
SURE_ENOUGH: Final = 0.5
"""Below this a cut is not made."""
_SURE_AGAINST: Final = 0.75
"""What a cut needs when the caller prefers none."""
_SURE_WITH: Final = 0.3
"""What a cut needs when the caller prefers just that."""

_SIZES: Final[dict[Size, tuple[int, int]]] = {"small": (20_000, 1_500), "medium": (150_000, 6_000),
                                              "large": (600_000, 20_000)}  # fmt: skip
"""Tokens that a part of that size reads in all its turns, and writes: experience, not measurement."""
_PRICES: Final = {"haiku": (1.0, 5.0), "sonnet": (2.0, 10.0), "opus": (5.0, 25.0)}
"""List prices in dollars for a million tokens, read and written, as claude CLI 2.1.330 has them."""
_CACHED: Final = 0.28
"""Share of the input price that a run of many turns pays, most of it being read from the cache."""


class Unusable(Exception):
    """The answer is no plan, in one sentence."""


def without_asking(prompt: str, hint: AutoHint) -> AutoRoute | None:
    """The route when no model has to be asked: the hints leave no choice, or the task is too long to be cut by one."""
    if hint.max_parallel == 1 and hint.max_chain_steps == 1:
        return single(prompt).evolve(reason="The hints allow nothing else.", confidence=1.0)
    if len(prompt) > MOST_ROUTED:
        why = f"the task has {len(prompt):,} characters; at most {MOST_ROUTED:,} are routed"
        return single(prompt, fallback=why)
    return None


def single(prompt: str, *, fallback: str = "") -> AutoRoute:
    """The task as it is, in one piece."""
    return AutoRoute(route=Route.SINGLE, parts=(AutoPart(name="task", prompt=prompt),), fallback=fallback)


def decide(prompt: str, hint: AutoHint, result: TaskResult, *, model: str | None = None) -> AutoRoute:
    """The plan in a routing call's result. `model` is what parts without one of their own will run on."""
    return _decided(prompt, hint, result, model).evolve(task_id=result.task_id, cost_usd=result.cost_usd)


def _decided(prompt: str, hint: AutoHint, result: TaskResult, model: str | None) -> AutoRoute:
    if result.state is not TaskState.COMPLETED:
        why = f"{result.error.code}: {result.error.message}" if result.error else f"its state is {result.state.value}"
        return single(prompt, fallback=f"the routing call brought no plan: {one_line(why)}")
    try:
        return plan(prompt, hint, answer_of(result.structured_output, result.output), model=model)
    except Unusable as why:
        return single(prompt, fallback=f"the router's answer is no plan: {one_line(str(why))}")


# -- reading


def answer_of(structured: Any, text: str) -> Mapping[str, Any]:
    """The object with a route in an answer: structured, or somewhere in its text. Raises Unusable."""
    candidates: Iterable[Any] = [structured] if isinstance(structured, dict) else _objects(text)
    for one in candidates:
        if isinstance(one, dict) and "route" in one:
            return cast("Mapping[str, Any]", one)
    raise Unusable("it has no object with a route")


def _objects(text: str) -> Iterator[Any]:
    """Every JSON object that begins somewhere in a text, outermost first."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield found
        at = text.find("{", end)


# -- putting right


def plan(prompt: str, hint: AutoHint, answer: Mapping[str, Any], *, model: str | None = None) -> AutoRoute:
    """A model's answer as a plan within the hints. Raises Unusable."""
    try:
        route = Route(str(answer["route"]).strip().lower())
    except ValueError:
        raise Unusable(f"there is no route {str(answer['route'])[:40]!r}") from None
    notes: list[str] = []
    parts = _parts(answer, notes)
    confidence = _confidence(answer.get("confidence"))
    said: dict[str, Any] = {"reason": one_line(str(answer.get("reason") or ""), 300), "confidence": confidence}
    if route is not Route.SINGLE and not parts:
        raise Unusable(f"a {route.value} route without a part")
    if route is not Route.SINGLE and (why := _too_little(route, parts, confidence, hint)):
        route, notes = Route.SINGLE, [*notes, why]
    if route is Route.SINGLE:
        return _whole(prompt, parts, model).evolve(**said, adjusted=tuple(notes))
    most = _limit(route, hint)
    if len(parts) > most:
        notes.append(f"{len(parts)} parts were joined to {most}.")
        parts = _joined(parts, most, chain=route is Route.CHAIN)
    gather = _gather(answer.get("gather"), route, notes)
    if route is Route.CHAIN:
        parts = [_step(part, first=number == 0) for number, part in enumerate(parts)]
    cost = estimate(parts, model) + (estimate([AutoPart(name="gather", prompt="-")], model) if gather else 0.0)
    return AutoRoute(
        route=route, parts=tuple(parts), gather=gather, estimate_usd=round(cost, 2), adjusted=tuple(notes), **said
    )


def _whole(prompt: str, parts: Sequence[AutoPart], model: str | None) -> AutoRoute:
    """A single task: the caller's words; of the model's part only how big it is and who should do it."""
    whole = single(prompt)
    if len(parts) == 1:
        whole = whole.evolve(parts=(whole.parts[0].evolve(model=parts[0].model, size=parts[0].size),))
    return whole.evolve(estimate_usd=round(estimate(whole.parts, model), 2))


def _too_little(route: Route, parts: Sequence[AutoPart], confidence: float, hint: AutoHint) -> str | None:
    """Why a cut is not made after all; None when it is."""
    if len(parts) == 1:
        return f"A {route.value} route of one part is a single task."
    if _limit(route, hint) == 1:
        return f"The hints forbid a {route.value} route."
    needed = SURE_ENOUGH
    if hint.prefer is not None:
        needed = {Route.SINGLE: _SURE_AGAINST, route: _SURE_WITH}.get(hint.prefer, SURE_ENOUGH)
    if confidence < needed:
        return f"A confidence of {confidence:g} is too little for a {route.value} route; it takes {needed:g}."
    return None


def _limit(route: Route, hint: AutoHint) -> int:
    most = hint.max_parallel if route is Route.PARALLEL else hint.max_chain_steps
    return MOST_PARTS if most is None else most


def _confidence(value: Any) -> float:
    """A number from 0 to 1; what is none counts as just enough, as the schema asks for it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - nan
        return SURE_ENOUGH
    return min(1.0, max(0.0, float(value)))


def _parts(answer: Mapping[str, Any], notes: list[str]) -> list[AutoPart]:
    """The parts that say something, each once, with names of their own."""
    lists = [answer[name] for name in ("parts", "steps", "prompts") if isinstance(answer.get(name), list)]
    raw: Any = lists[0] if lists else ()
    found: list[AutoPart] = []
    seen: set[str] = set()
    empty = twice = 0
    for one in cast("list[Any]", raw):
        fields = cast("Mapping[str, Any]", one) if isinstance(one, dict) else {"prompt": one}
        prompt = _text(fields.get("prompt"))
        key = " ".join(prompt.lower().split())
        empty += not prompt
        twice += bool(prompt) and key in seen
        if prompt and key not in seen:
            seen.add(key)
            name = _name(fields.get("name"), {part.name for part in found}, len(found) + 1)
            found.append(
                AutoPart(name=name, prompt=prompt, model=_model(fields.get("model"), notes), size=_size(fields))
            )
    if empty:
        notes.append(f"{empty} empty parts were left out.")
    if twice:
        notes.append(f"{twice} parts that said the same as another were left out.")
    return found


def _text(value: Any) -> str:
    """A prompt that can be sent; empty when there is none."""
    if not isinstance(value, str):
        return ""
    text = clean(value).strip()
    try:
        return plain_text(text)
    except ValueError:
        return ""


def _name(value: Any, taken: set[str], number: int) -> str:
    """A name that a step may have, not taken yet."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", value if isinstance(value, str) else "").strip("-")[:40]
    name = plain if plain[:1].isalpha() else f"part-{number}"
    while name in taken:
        name = f"{name[:40]}-{number}"
    return name


def _model(value: Any, notes: list[str]) -> str | None:
    if value is None or (isinstance(value, str) and value in MODELS):
        return value
    notes.append(f"A part asked for the model {one_line(str(value), 40)!r}, which is not offered to it.")
    return None


def _size(fields: Mapping[str, Any]) -> Size:
    size = fields.get("size")
    return size if size in ("small", "medium", "large") else "medium"


def _joined(parts: Sequence[AutoPart], most: int, *, chain: bool) -> list[AutoPart]:
    """At most so many parts: neighbours share one, in their order, and nothing is lost."""
    share, more = divmod(len(parts), most)
    joined: list[AutoPart] = []
    at = 0
    for number in range(most):
        size = share + (number < more)
        joined.append(_together(parts[at : at + size], chain=chain))
        at += size
    return joined


def _together(parts: Sequence[AutoPart], *, chain: bool) -> AutoPart:
    if len(parts) == 1:
        return parts[0]
    marker = f"{{{PREVIOUS}}}"
    prompts = [
        part.prompt.replace(marker, "(what you have just done)") if chain and number else part.prompt
        for number, part in enumerate(parts)
    ]
    listed = "\n\n".join(f"{number}. {prompt}" for number, prompt in enumerate(prompts, 1))
    order = "Do these one after the other" if chain else "Do all of these; they don't depend on each other"
    models = {part.model for part in parts}
    return AutoPart(
        name=parts[0].name,
        prompt=f"{order}, and answer for each:\n\n{listed}",
        model=models.pop() if len(models) == 1 else None,
        size="large",
    )


def _step(part: AutoPart, *, first: bool) -> AutoPart:
    """A step whose prompt is a template: of the markers in it, only the answer before it is one."""
    if first:
        return part.evolve(prompt=escaped(part.prompt))
    prompt = escaped(part.prompt, but=(PREVIOUS,))
    if PREVIOUS not in markers(prompt):
        prompt += f"\n\nWhat the step before this one answered:\n\n{{{PREVIOUS}}}"
    return part.evolve(prompt=prompt)


def _gather(value: Any, route: Route, notes: list[str]) -> str | None:
    text = _text(value)
    if text and route is not Route.PARALLEL:
        notes.append("A gather belongs to a parallel route; it was left out.")
        return None
    return escaped(text, but=(BRANCHES,)) or None


def estimate(parts: Iterable[AutoPart], model: str | None) -> float:
    """Dollars that the parts may cost, by their sizes and list prices; an unknown model is priced as the dearest."""
    total = 0.0
    for part in parts:
        name = (part.model or model or "opus").lower()
        reads, writes = next((price for known, price in _PRICES.items() if known in name), _PRICES["opus"])
        read, written = _SIZES[part.size]
        total += (read * _CACHED * reads + written * writes) / 1e6
    return total
