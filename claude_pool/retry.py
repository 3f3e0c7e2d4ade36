"""Retry: what becomes of a task after one run. Pure: facts and context in, one `Verdict` out.

One rule per kind of failure, in `RULES`; a failure without a rule is final. Whatever the rule, the cost of the run is
carried, what the run produced is kept, and a repeat that is over its limit becomes a final failure that keeps the last
error and names the limit. Repeats prefer to resume: a fresh start throws away what was paid for, so it is chosen only
where nothing was spent, or where the session can't be had and an attempt is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from claude_pool.diagnosis import diagnose, session_gone, succeeded
from claude_pool.models.base import Record
from claude_pool.models.options import TaskOptions
from claude_pool.models.run import RunFacts, StopCause
from claude_pool.models.task import Counters, ErrorCode, ParkedFor, TaskError, TaskResult, TaskState
from claude_pool.models.verdict import BreakerMove, CountsAs, Verdict

E = ErrorCode

SHORTEST_LIMIT_MS: Final = 60_000
LONGEST_LIMIT_MS: Final = 8 * 86_400_000
"""The longest window of a plan is a week; a reset further away is a mistake of somebody's clock or units."""
UNKNOWN_LIMIT_MS: Final = 15 * 60_000
LIMIT_JITTER_MS: Final = 60_000
MOST_OUTPUT_RESUMES: Final = 2


class RunContext(Record):
    """What `judge` has to know besides the facts.

    `counters` are the task's before this verdict, where `attempts` includes the fresh start that is being judged;
    `jitter` is a random number in [0, 1); `now_ms` is used for usage limits alone.
    """

    task_id: str
    run_id: str
    options: TaskOptions
    counters: Counters = Counters()
    kind: Literal["attempt", "continuation"] = "attempt"
    cancelled: bool = False
    needs_review: bool = False
    cap_usd: float | None = None
    spent_usd: float = 0.0
    """By earlier runs of the task."""
    retry_base_s: float = 30
    retry_max_s: float = 600
    jitter: float = 0.0
    now_ms: int = 0
    session_id: str | None = None
    """The session that the run was started with, for runs that ended before they told it."""


def backoff_ms(repeats: int, *, base_s: float, max_s: float, fraction: float) -> int:
    """Exponential with full jitter: between a tenth of `base_s` and `base_s * 2^repeats`, at most `max_s`."""
    ceiling_s = min(max_s, base_s * 2.0 ** min(max(repeats, 0), 40))
    return max(round(min(max(fraction, 0.0), 1.0) * ceiling_s * 1000), round(min(base_s, max_s) * 100), 1)


def judge(facts: RunFacts, context: RunContext) -> Verdict:
    """What shall become of the task. Never raises."""
    error = diagnose(facts, wants_schema=context.options.json_schema is not None)
    chosen = context.options.session if context.kind == "attempt" else "fresh"
    if context.cancelled or facts.stopped is StopCause.CANCELLED:
        return _settled(_cancelled(error), facts, context)
    if error is None:
        to = TaskState.PENDING_REVIEW if context.needs_review else TaskState.COMPLETED
        verdict = Verdict(to=to, reason="answered", breaker=BreakerMove(kind="close"))
    elif chosen != "fresh" and session_gone(facts):
        verdict = _without_session(error, context)
    else:
        verdict = RULES.get(error.code, _final)(error, facts, context)
    return _settled(verdict, facts, context)


def build_result(facts: RunFacts, context: RunContext, *, state: TaskState, error: TaskError | None) -> TaskResult:
    """What the run brought back. Node, branch, log path and cuts to a long output are for the slot to add."""
    cost_usd, estimated = cost_of(facts, context.cap_usd)
    return TaskResult(
        task_id=context.task_id,
        state=state,
        output=facts.output,
        partial=not succeeded(facts) or facts.stop_reason == "max_tokens",
        structured_output=facts.structured_output if facts.has_structured_output else None,
        error=error,
        cost_usd=context.spent_usd + cost_usd,
        cost_estimated=estimated,
        usage=facts.usage,
        model_usage=facts.model_usage,
        model=facts.model,
        num_turns=facts.num_turns,
        run_ms=facts.duration_ms,
        api_ms=facts.duration_api_ms,
        session_id=facts.session_id,
        run_id=context.run_id,
        denials=facts.denials,
        stop_reason=facts.stop_reason,
        terminal_reason=facts.terminal_reason,
        mcp_failed=facts.mcp_failed,
        exit=facts.exit,
        output_bytes=len(facts.output.encode()),
    )


def cost_of(facts: RunFacts, cap_usd: float | None) -> tuple[float, bool]:
    """Dollars to settle, and whether they are an estimate.

    A run that died without telling is estimated high, from the tokens seen, but not above its cap: the CLI kept to it.
    """
    if facts.cost_known or not facts.saw_init:
        return facts.cost_usd, False
    return facts.cost_usd if cap_usd is None else min(facts.cost_usd, cap_usd), True


def _settled(verdict: Verdict, facts: RunFacts, context: RunContext) -> Verdict:
    """The verdict with money, session and result."""
    cost_usd, estimated = cost_of(facts, context.cap_usd)
    return verdict.evolve(
        cost_usd=cost_usd,
        cost_estimated=estimated,
        session_id=facts.session_id or context.session_id,
        session_cost_usd=facts.session_cost_usd,
        result=build_result(facts, context, state=verdict.to, error=verdict.error),
    )


def failed(error: TaskError, context: RunContext) -> Verdict:
    """A failure of the pool's own, before or beside the run: final, and nothing was spent."""
    return _settled(Verdict(to=TaskState.FAILED, reason=error.code, error=error), RunFacts(), context)


def _cancelled(error: TaskError | None) -> Verdict:
    detail = "" if error is None else error.detail
    told = TaskError(code=E.CANCELLED, message="The task was cancelled.", detail=detail)
    return Verdict(to=TaskState.CANCELLED, reason=told.code, error=told)


def _final(error: TaskError, facts: RunFacts, context: RunContext) -> Verdict:
    del facts, context
    return Verdict(to=TaskState.FAILED, reason=error.code, error=error)


def _spent_limit(error: TaskError, name: str, limit: int) -> Verdict:
    told = f"{error.message} No repeat is left: {name} is {limit}."
    return Verdict(to=TaskState.FAILED, reason=f"{error.code}, {name} reached", error=error.evolve(message=told))


def _next_kind(facts: RunFacts, context: RunContext) -> Literal["attempt", "continuation"]:
    """Resume where there is something to resume: this run's own output, or the session it was to continue."""
    has_session = facts.saw_output or context.kind == "continuation"
    return "continuation" if has_session and (facts.session_id or context.session_id) else "attempt"


def _infra(error: TaskError, facts: RunFacts, context: RunContext, breaker: BreakerMove | None) -> Verdict:
    """Somebody else's trouble: wait without holding the slot, and count it apart."""
    done, limit = context.counters.infra_retries, context.options.max_infra_retries
    if done >= limit:
        return _spent_limit(error, "max_infra_retries", limit).evolve(breaker=breaker)
    return Verdict(
        to=TaskState.PARKED,
        reason=error.code,
        error=error,
        counts_as=CountsAs.INFRA,
        next_kind=_next_kind(facts, context),
        parked_for=ParkedFor.RETRY,
        delay_ms=backoff_ms(done, base_s=context.retry_base_s, max_s=context.retry_max_s, fraction=context.jitter),
        breaker=breaker,
    )


def _busy(error: TaskError, facts: RunFacts, context: RunContext) -> Verdict:
    return _infra(error, facts, context, BreakerMove(kind="failure", code=error.code, message=error.message))


def _usage_limit(error: TaskError, facts: RunFacts, context: RunContext) -> Verdict:
    resets_at = None if facts.rate_limit is None else facts.rate_limit.resets_at
    wait_ms = UNKNOWN_LIMIT_MS if resets_at is None else resets_at * 1000 - context.now_ms
    opens_ms = context.now_ms + round(min(max(wait_ms, SHORTEST_LIMIT_MS), LONGEST_LIMIT_MS))
    return Verdict(
        to=TaskState.PARKED,
        reason=error.code,
        error=error,
        next_kind=_next_kind(facts, context),
        parked_for=ParkedFor.LIMIT,
        until_ms=opens_ms + round(context.jitter * LIMIT_JITTER_MS),
        breaker=BreakerMove(kind="open", code=error.code, until_ms=opens_ms, message=error.message),
    )


def _account(error: TaskError, facts: RunFacts, context: RunContext) -> Verdict:
    """Nothing of this account can work until a person acts."""
    return Verdict(
        to=TaskState.PARKED,
        reason=error.code,
        error=error,
        next_kind=_next_kind(facts, context),
        parked_for=ParkedFor.BREAKER,
        breaker=BreakerMove(kind="open", code=error.code, message=error.message),
    )


def _continue(error: TaskError, facts: RunFacts, context: RunContext) -> Verdict:
    """Go on with the session at once; without a session, begin again as cheaply as is honest."""
    if session_gone(facts):
        return _begin_again(error, context)
    if _next_kind(facts, context) == "attempt":  # nothing came back: nothing is lost but a little time
        return _infra(error, facts, context, None)
    done, limit = context.counters.continuations, context.options.max_continuations
    if done >= limit:
        return _spent_limit(error, "max_continuations", limit)
    return Verdict(to=TaskState.PENDING, reason=error.code, error=error, counts_as=CountsAs.CONTINUATION)


def _begin_again(error: TaskError, context: RunContext) -> Verdict:
    """A fresh start is paid a second time: only if the task allows another attempt."""
    done, limit = context.counters.attempts, context.options.max_attempts
    if done >= limit:
        return _spent_limit(error, "max_attempts", limit)
    return Verdict(
        to=TaskState.PENDING, reason=error.code, error=error, counts_as=CountsAs.ATTEMPT, next_kind="attempt"
    )


def _without_session(error: TaskError, context: RunContext) -> Verdict:
    """The conversation that the task asked for is gone. A name begins a new one; another task's can't be replaced."""
    name = context.options.session.startswith("name:")
    done, limit = context.counters.infra_retries, context.options.max_infra_retries
    if name and done < limit:
        return Verdict(
            to=TaskState.PENDING,
            reason="its session is gone: it begins a new one",
            error=error,
            counts_as=CountsAs.INFRA,
            next_kind="attempt",
            session_gone=True,
        )
    told = f"The session of {context.options.session!r} is not on this node any more."
    gone = TaskError(code=E.SESSION_GONE, message=told, detail=error.detail)
    return Verdict(to=TaskState.FAILED, reason=gone.code, error=gone, session_gone=name)


def _max_output(error: TaskError, facts: RunFacts, context: RunContext) -> Verdict:
    if context.counters.continuations >= MOST_OUTPUT_RESUMES:
        return _final(error, facts, context)
    return _continue(error, facts, context)


def _silence(error: TaskError, facts: RunFacts, context: RunContext) -> Verdict:
    """Once more by resuming; a run that was a continuation and fell silent again is stuck."""
    stuck = context.kind == "continuation" or not facts.saw_output
    return _final(error, facts, context) if stuck else _continue(error, facts, context)


def _drained(error: TaskError, facts: RunFacts, context: RunContext) -> Verdict:
    kind = _next_kind(facts, context)
    return Verdict(to=TaskState.PENDING, reason=error.code, error=error, next_kind=kind)


def _crashed(error: TaskError, facts: RunFacts, context: RunContext) -> Verdict:
    """The process died: by the task's `on_lost`, until it has died too often."""
    crashes, limit = context.counters.crashes + 1, context.options.max_crashes
    if crashes >= limit:
        told = f"The run crashed {crashes} times (max_crashes is {limit}). Last: {error.message}"
        dead = error.evolve(code=E.DEAD_LETTER, message=told)
        return Verdict(to=TaskState.FAILED, reason=dead.code, error=dead, counts_as=CountsAs.CRASH)
    kind = _next_kind(facts, context)
    again = Verdict(to=TaskState.PENDING, reason=error.code, error=error, counts_as=CountsAs.CRASH, next_kind=kind)
    if kind == "attempt":
        return again
    after = _after_a_loss(again, error, context)
    return after.evolve(counts_as=CountsAs.CRASH if after.to is not TaskState.PENDING else _with_crash(after.counts_as))


def _with_crash(counts_as: CountsAs) -> CountsAs:
    return CountsAs.RESTART if counts_as is CountsAs.ATTEMPT else CountsAs.CRASH


def _lost(error: TaskError, facts: RunFacts, context: RunContext) -> Verdict:
    """Its lease could not be proven any more: by `on_lost`, as when the housekeeper is the first to see it.

    It is no crash: the store was away, or the slot was stopped, and neither says anything about the task.
    """
    asked = context.options.on_lost
    if asked == "resume" or session_gone(facts) or _next_kind(facts, context) == "attempt":
        return _continue(error, facts, context)
    return _after_a_loss(Verdict(to=TaskState.PENDING, reason=error.code, error=error), error, context)


def _after_a_loss(again: Verdict, error: TaskError, context: RunContext) -> Verdict:
    """The task's own choice, where something was paid for; the store decides alike when a whole slot is lost."""
    match context.options.on_lost:
        case "resume":
            limit = context.options.max_continuations
            spent = context.counters.continuations >= limit
            return _spent_limit(error, "max_continuations", limit) if spent else again
        case "restart":
            return _begin_again(error, context)
        case "hold":
            return again.evolve(to=TaskState.PARKED, parked_for=ParkedFor.HOLD)
        case "fail":
            return again.evolve(to=TaskState.FAILED)


RULES: Final[dict[ErrorCode, Callable[[TaskError, RunFacts, RunContext], Verdict]]] = {
    E.THROTTLED: _busy,
    E.OVERLOADED: _busy,
    E.NETWORK: _busy,
    E.USAGE_LIMIT: _usage_limit,
    E.AUTH: _account,
    E.BILLING: _account,
    E.BROKEN_STREAM: _continue,
    E.LOST: _lost,
    E.NO_RESULT: _continue,
    E.MAX_OUTPUT: _max_output,
    E.SILENCE_TIMEOUT: _silence,
    E.DRAINED: _drained,
    E.CRASHED: _crashed,
}
"""What is not here is final: invalid requests, missing models, budget, turns, schema, refusal, start errors, time."""
