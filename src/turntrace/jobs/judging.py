"""One judgement: the document of its target, the evaluator on it, and the trace that a judge's run leaves."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from turntrace.errors import EvaluationFailed
from turntrace.evaluation import document
from turntrace.evaluation.definition import Definition
from turntrace.evaluation.judge import JudgeAnswer, JudgeSpec, read_verdict
from turntrace.evaluation.shape import ScoreShape
from turntrace.records.evaluator import Candidate, Claim, Evaluator, Outcome, Verdict
from turntrace.records.score import Score
from turntrace.records.trace import Trace
from turntrace.storage import clean, evaluations
from turntrace.storage.queries.candidates import own_tag
from turntrace.tracing.context import suspended

_MOST_METADATA: Final = 20
_MOST_WHOLE: Final = 2**63 - 1


class Asks(Protocol):
    """Asks a model for a verdict: over HTTP, or a callable of the host."""

    def __call__(self, spec: JudgeSpec, api_key: str | None, prompt: str, shape: ScoreShape) -> JudgeAnswer:
        """What the model said. Raises EvaluationFailed."""
        ...


class Runs(Protocol):
    """Runs a function of the host on a document, with a read-only session on the host's database."""

    def __call__(self, function: str, document: Mapping[str, Any]) -> Any:
        """What the function answered. Raises EvaluationFailed."""
        ...


class Recorded(Protocol):
    """The trace of one run of a judge, while it lasts."""

    turn_id: str | None

    def answered(self, answer: JudgeAnswer) -> int | None:
        """Note what the model said; answers what it cost in nano-dollars, None where nobody knows."""
        ...

    def judged(self, verdict: Verdict) -> None:
        """Note the verdict."""
        ...


Records = Callable[[str, JudgeSpec, str, tuple[str, ...], int], AbstractContextManager[Recorded]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What evaluators work with, given from above. `records(name, spec, prompt, tags, depth)` opens a run's trace;
    `redact(verdict, scope)` is for what is stored: models repeat what they read, functions of the host know more."""

    asks: Asks
    runs: Runs
    records: Records
    unseal: Callable[[str], str]
    redact: Callable[[Verdict, str], Verdict] = lambda verdict, scope: verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A claim with all that is needed to judge; `traces` are the turn, or the turns of the session."""

    claim: Claim
    evaluator: Evaluator
    definition: Definition
    traces: tuple[Trace, ...]


def judge(task: Task, means: Means) -> evaluations.Ended:
    """Run the evaluator. Whatever goes wrong is an error with a word for it, never a score."""
    run = _Run()
    try:
        found = _verdict(task, means, run)
        candidate = task.claim.candidate
        scope = candidate.turn_id or candidate.session_id or ""
        verdict = means.redact(_storable(found), scope) if found is not None else None
        outcome = Outcome(verdict=verdict, cost_nano=run.cost_nano, judge_turn_id=run.turn_id)
    except EvaluationFailed as error:
        outcome = Outcome(
            error=error.reason[:200],
            is_final=error.is_final,
            retry_after_seconds=error.retry_after_seconds,
            cost_nano=run.cost_nano,
            judge_turn_id=run.turn_id,
        )
    except BaseException as error:  # a function that ends the process would end a thread of ours, and no judgement
        # Of a host's function, or ours: its text may hold content.
        reason = f"{type(error).__name__}"[:200]
        outcome = Outcome(error=reason, cost_nano=run.cost_nano, judge_turn_id=run.turn_id)
    is_score = outcome.verdict is not None and not task.claim.is_repeat
    score = _score(task, outcome.verdict, outcome) if outcome.verdict is not None and is_score else None
    return evaluations.Ended(claim=task.claim, outcome=outcome, score=score)


@dataclass(slots=True)
class _Run:
    turn_id: str | None = None
    cost_nano: int | None = None


def document_of(candidate: Candidate, traces: tuple[Trace, ...]) -> Mapping[str, Any] | None:
    """What the evaluator sees; None where the target is gone."""
    if candidate.target == "session":
        known = tuple(trace for trace in traces if trace.session_id == candidate.session_id)
        return document.of_session(candidate.session_id or "", candidate.user_id, known) if known else None
    if not traces:
        return None
    if candidate.target == "trace":
        return document.of_trace(traces[0])
    found = next((item for item in traces[0].observations if item.span_id == candidate.span_id), None)
    return document.of_observation(found, traces[0]) if found is not None else None


def _verdict(task: Task, means: Means, run: _Run) -> Verdict | None:
    seen = document_of(task.claim.candidate, task.traces)
    if seen is None:
        return None
    definition = task.definition
    if definition.check is not None:
        finding = definition.check(seen)
        return definition.score.verdict_of(finding) if finding is not None else None
    if definition.function is not None:
        with suspended():  # what it calls is no turn of the host's
            answered = means.runs(definition.function, seen)
        return verdict_of_code(answered, definition.score)
    return _ask(task, means, run, seen)


def _ask(task: Task, means: Means, run: _Run, seen: Mapping[str, Any]) -> Verdict:
    definition, evaluator = task.definition, task.evaluator
    assert definition.judge is not None
    assert definition.prompt is not None
    prompt = definition.prompt.render(seen)
    api_key = means.unseal(evaluator.sealed) if evaluator.sealed else None
    depth = max((trace.depth for trace in task.traces), default=0) + 1
    with means.records(evaluator.name, definition.judge, prompt, (own_tag(evaluator.id),), depth) as recorded:
        run.turn_id = recorded.turn_id
        answer = means.asks(definition.judge, api_key, prompt, definition.score)
        run.cost_nano = recorded.answered(answer)
        if answer.finish_reason in ("length", "max_tokens"):
            raise EvaluationFailed("cut_off")
        verdict = read_verdict(answer.text, definition.score)
        recorded.judged(verdict)
    return verdict


def verdict_of_code(answered: Any, shape: ScoreShape) -> Verdict | None:
    """What a host's function said: a value, `{value, reason, metadata}`, a `Verdict`, or None for nothing to judge.

    Raises:
        EvaluationFailed: the value is none of the score's shape.
    """
    if answered is None:
        return None
    if isinstance(answered, Verdict):
        answered = {"value": answered.value, "reason": answered.reason, "metadata": answered.metadata}
    if not isinstance(answered, Mapping):
        return Verdict(value=shape.value(answered))
    if "value" not in answered:
        raise EvaluationFailed("no_value", is_final=True)
    if answered["value"] is None:
        return None
    reason, metadata = answered.get("reason"), answered.get("metadata") or {}
    kept = dict(list(metadata.items())[:_MOST_METADATA]) if isinstance(metadata, Mapping) else {}
    return Verdict(value=shape.value(answered["value"]), reason=str(reason)[:4000] if reason else None, metadata=kept)


def _storable(verdict: Verdict) -> Verdict:
    """With texts and numbers as every database takes them: models do write half an emoji."""
    metadata = {_clean(str(name)): _clean(value) for name, value in verdict.metadata.items()}
    return replace(verdict, value=_clean(verdict.value), reason=_clean(verdict.reason), metadata=metadata)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean.text(value)
    if isinstance(value, Mapping):
        return {_clean(str(name)): _clean(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(each) for each in value]
    return str(value) if isinstance(value, int) and not -_MOST_WHOLE <= value <= _MOST_WHOLE else value


def _score(task: Task, verdict: Verdict, outcome: Outcome) -> Score:
    candidate, claim = task.claim.candidate, task.claim
    details: dict[str, Any] = {"evaluator_id": claim.evaluator_id, **verdict.metadata}
    if outcome.judge_turn_id:
        details["judge_trace"] = outcome.judge_turn_id
    is_session = candidate.target == "session"
    return Score(
        id=evaluations.score_id(candidate, claim.evaluator_id, claim.evaluator_version),
        name=task.definition.score.name,
        value=verdict.value,
        data_type=task.definition.score.data_type,
        source="evaluator",
        turn_id=candidate.turn_id,
        span_id=candidate.span_id,
        session_id=candidate.session_id if is_session else None,
        user_id=candidate.user_id,
        comment=verdict.reason,
        evaluator=task.evaluator.name,
        evaluator_version=claim.evaluator_version,
        environment=task.traces[-1].environment if is_session and task.traces else None,
        metadata=details,
    )
