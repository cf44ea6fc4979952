"""From fragments of turns to what is stored. The order of the stages stands in `Pipeline`, and only there. Pure.

A stage is a callable of one `Work`; it fills in what the stages after it read.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from turntrace.pipeline.assemble import assemble
from turntrace.pipeline.convert import convert
from turntrace.pipeline.count import count_once
from turntrace.pipeline.decode import decode
from turntrace.pipeline.draft import Work
from turntrace.pipeline.estimate import CountTokens, Estimator
from turntrace.pipeline.facts import FactTaker
from turntrace.pipeline.identify import Identifier, Pseudonym
from turntrace.pipeline.merge import merge, merge_late
from turntrace.pipeline.mode import FULL, METADATA, Modes
from turntrace.pipeline.price import Pricer
from turntrace.pipeline.record import amended, build, classed, nameless, with_previews, without_content
from turntrace.pipeline.sample import HELD, Sampler
from turntrace.pipeline.summary import summarise
from turntrace.pipeline.truncate import truncate
from turntrace.pipeline.unfinished import settle
from turntrace.records.batch import Worked
from turntrace.records.fragment import Fragment
from turntrace.records.observation import Observation
from turntrace.records.trace import Trace
from turntrace.settings import Settings

log = logging.getLogger("turntrace.pipeline")

UNREDACTED: Final = "unredacted"  # flag of a turn whose texts are stored as they were

Stage = Callable[[Work], None]


class Redactor(Protocol):
    """Takes personal data out of traces: the same traces in the same order, `redaction_failed` set."""

    def redact(self, traces: Sequence[Trace]) -> list[Trace]: ...


class Pipeline:
    """Works on fragments, a batch at a time.

    Args:
        pricer: gives model calls their cost; none: the bundled price table alone.
        redactor: may be left out only with `redaction=off`.
        pseudonym: keyed function of a user id, needed with `identify=hash`.
        sampler: decides what is kept; none: that of the settings, without a hook.
        modes: decides how much is kept of texts; none: that of the settings, without windows of full capture.
        count_tokens: counts tokens of a text for a model, where no provider states usage; none: such calls have none.

    Raises:
        ValueError: the settings ask for a redactor or a pseudonym that was not given.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        pricer: Pricer | None = None,
        redactor: Redactor | None = None,
        pseudonym: Pseudonym | None = None,
        sampler: Sampler | None = None,
        modes: Modes | None = None,
        count_tokens: CountTokens | None = None,
    ) -> None:
        if (
            redactor is None
            and settings.redaction != "off"
            and (settings.content != "metadata" or settings.content_rules)
        ):
            raise ValueError(f"redaction={settings.redaction} needs a redactor")
        self.modes = modes or Modes(settings)
        # Whatever a window asks for: where redaction is wanted and there is no redactor, no text is kept.
        self._is_blind = redactor is None and settings.redaction != "off"
        self._most_bytes = settings.max_field_bytes
        self._keep_scopes = frozenset(settings.keep_scopes)
        self._redactor = redactor if settings.redaction != "off" else None
        self.pricer = pricer or Pricer()
        self._facts = FactTaker(settings.rollup_tags)
        self._stages: tuple[Stage, ...] = (
            self._convert,
            settle,
            *((Estimator(count_tokens),) if count_tokens is not None else ()),
            self._price,
            Identifier(settings.identify, environment=settings.environment, pseudonym=pseudonym),
            summarise,
            self._facts,
            sampler or Sampler.of(settings),
            self._keep_in_windows,
        )

    def work(self, fragments: Sequence[Fragment]) -> list[Worked]:
        """What is to be stored of each fragment, in the same order.

        Texts are redacted for the whole batch at once, then cut, and previews are taken last: nothing of what is
        stored was ever made from unredacted text.
        """
        works = [Work(fragment) for fragment in fragments]
        for work in works:
            for stage in self._stages:
                stage(work)
        modes = [METADATA if self._is_blind else self.modes.of(work) for work in works]
        traces = [
            build(work, with_content=work.is_kept and mode != METADATA) for work, mode in zip(works, modes, strict=True)
        ]
        redacted = self._redact(works, modes, traces)
        stored = [with_previews(truncate(trace, self._most_bytes)) for trace in redacted]
        return [_worked(work, trace) for work, trace in zip(works, stored, strict=True)]

    def _convert(self, work: Work) -> None:
        tree = assemble(work.fragment, self._keep_scopes)
        work.drafts = count_once(tree, convert(tree))

    def _price(self, work: Work) -> None:
        for draft in work.drafts:
            self.pricer.price(draft)

    def _keep_in_windows(self, work: Work) -> None:
        """A window of full capture leaves no turn out."""
        is_out = not work.is_kept or work.keep_reason == HELD
        if is_out and self.modes.window(work) is not None:
            work.is_kept, work.keep_reason = True, "window"

    def _redact(self, works: Sequence[Work], modes: Sequence[str], traces: list[Trace]) -> list[Trace]:
        if self._redactor is None:
            return traces
        # Of a turn that is left out sums keep the route, the declared tags and the names of its steps: they stay longer
        # than its texts, and nobody finds them by a person.
        asked = {
            index: _shown(traces[index], modes[index]) if work.is_kept else _grouping(traces[index])
            for index, work in enumerate(works)
            if work.is_kept or self._facts.may_be_personal(work.facts)
        }
        found = list(traces)
        for index, trace in zip(asked, self._redacted(list(asked.values())) if asked else (), strict=True):
            found[index] = trace if modes[index] != FULL else _unredacted(traces[index], trace)
            works[index].facts = self._facts.redacted(works[index].facts, trace.route, trace.tags, trace.observations)
        return found

    def _redacted(self, traces: list[Trace]) -> list[Trace]:
        """Fails closed: whatever goes wrong in a redactor, no unredacted text gets past it."""
        assert self._redactor is not None
        try:
            redacted = self._redactor.redact(traces)
            if [trace.id for trace in redacted] == [trace.id for trace in traces]:
                return redacted
            log.error("the redactor answered other traces than it was given: content withheld")
        except Exception as error:
            log.error("redaction failed, content withheld: %s", type(error).__name__)
        return [_withheld(trace) for trace in traces]


def _shown(trace: Trace, mode: str) -> Trace:
    """What of a turn that is kept redaction has to see: of one whose texts are kept as they were, its names."""
    return without_content(trace) if mode == FULL else trace


def _unredacted(trace: Trace, redacted: Trace) -> Trace:
    """The texts as they were under the names that redaction left: those are no texts to who may see none, are sent on,
    and sums that are made anew from the rows take them from there."""
    return replace(
        trace,
        name=redacted.name,
        route=redacted.route,
        tags=redacted.tags,
        flags=(*trace.flags, UNREDACTED),
        redaction_failed=redacted.redaction_failed,
        observations=tuple(
            replace(step, name=named.name, tags=named.tags)
            for step, named in zip(trace.observations, redacted.observations, strict=True)
        ),
    )


def _grouping(trace: Trace) -> Trace:
    return Trace(
        id=trace.id,
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        route=trace.route,
        tags=trace.tags,
        observations=tuple(
            Observation(
                id=step.id,
                turn_id=step.turn_id,
                trace_id=step.trace_id,
                span_id=step.span_id,
                type=step.type,
                name=step.name,
            )
            for step in trace.observations
        ),
    )


def _withheld(trace: Trace) -> Trace:
    """Numbers and ids; names and tags are texts, too."""
    bare = without_content(trace)
    return replace(
        bare,
        name="",
        route=None,
        tags=(),
        feature_flags={},
        error=classed(bare.error),
        observations=tuple(nameless(item) for item in bare.observations),
        redaction_failed=max(1, trace.redaction_failed),
    )


def _worked(work: Work, trace: Trace) -> Worked:
    return Worked(
        kind=work.fragment.kind,
        trace=trace,
        facts=work.facts,
        is_kept=work.is_kept,
        amended=amended(work.fragment),
    )


__all__ = ["Modes", "Pipeline", "Pricer", "Redactor", "decode", "merge", "merge_late"]
