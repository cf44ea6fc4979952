"""The trace that a run of a judge leaves: a turn in the environment of evaluations, with the model call inside."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from turntrace.evaluation.judge import JudgeAnswer, JudgeSpec
from turntrace.pipeline.draft import Draft
from turntrace.pipeline.price import Pricer
from turntrace.records.evaluator import Verdict
from turntrace.records.fragment import RawSpan
from turntrace.records.usage import Usage
from turntrace.tracing import observation as observing
from turntrace.tracing.context import suspended
from turntrace.tracing.recorder import Recorder
from turntrace.tracing.silent import SILENT

_PROVIDERS: Final = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "api.mistral.ai": "mistral_ai",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.together.xyz": "together_ai",
    "openrouter.ai": "openrouter",
}


class HasPricer(Protocol):
    """Whoever knows the prices of the moment."""

    pricer: Pricer


class RunTraces:
    """Opens the traces of judges' runs; what they cost is priced as the pipeline prices calls."""

    def __init__(self, recorder: Recorder, prices: HasPricer) -> None:
        self._recorder, self._prices = recorder, prices

    @contextmanager
    def __call__(
        self, name: str, spec: JudgeSpec, prompt: str, tags: tuple[str, ...], depth: int
    ) -> Iterator["RunTrace"]:
        """One run's trace; an error that passes through is recorded in it."""
        provider = provider_of(spec)
        with (
            observing.turn(
                self._recorder, name=f"evaluate {name}", input=prompt, tags=tags, feature=name[:100], depth=depth
            ) as turn,
            observing.generation(
                self._recorder, "judge", model=spec.model, provider=provider, input=prompt, parameters=spec.parameters
            ) as generation,
        ):
            yield RunTrace(turn, generation, self._prices.pricer, spec.model, provider)


class RunTrace:
    """See `jobs.judging.Recorded`."""

    def __init__(self, turn: Any, generation: Any, pricer: Pricer, model: str, provider: str | None) -> None:
        self._turn, self._generation, self._pricer = turn, generation, pricer
        self._model, self._provider = model, provider
        self.turn_id: str | None = turn.id if turn is not None else None

    def answered(self, answer: JudgeAnswer) -> int | None:
        """Note what the model said; answers what it cost."""
        usage = _stated(answer.usage)
        self._generation.update(
            output=answer.text,
            model=answer.model,
            usage=usage or None,
            finish_reason=answer.finish_reason,
            response_id=answer.response_id,
        )
        return self._cost(answer) if usage else None

    def judged(self, verdict: Verdict) -> None:
        """Note the verdict as the trace's output."""
        if self._turn is not None:
            self._turn.update(output={"score": verdict.value, "reason": verdict.reason})

    def _cost(self, answer: JudgeAnswer) -> int | None:
        draft = Draft(
            span=RawSpan(span_id=""),
            type="generation",
            model=answer.model,
            model_requested=self._model,
            provider=self._provider,
            usage=answer.usage,
            started_at_us=time.time_ns() // 1000,
        )
        self._pricer.price(draft)
        return draft.cost.total_nano if draft.cost is not None else None


class Unrecorded:
    """Stands for `RunTraces` where a run leaves no trace: previews. What it costs is told all the same."""

    def __init__(self, pricer: Pricer) -> None:
        self._pricer = pricer

    @contextmanager
    def __call__(
        self, name: str, spec: JudgeSpec, prompt: str, tags: tuple[str, ...], depth: int
    ) -> Iterator[RunTrace]:
        """A run without a trace."""
        with suspended():
            yield RunTrace(None, SILENT, self._pricer, spec.model, provider_of(spec))


def _stated(usage: Usage | None) -> dict[str, int]:
    if usage is None:
        return {}
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return {name: value for name in names if (value := getattr(usage, name)) is not None}


def provider_of(spec: JudgeSpec) -> str | None:
    """The provider's name as observations have it, where the address tells it."""
    if spec.provider == "anthropic":
        return "anthropic"
    host = urlsplit(spec.base_url or "").hostname or ""
    return _PROVIDERS.get(host) or ("azure.ai.openai" if host.endswith(".openai.azure.com") else None)
