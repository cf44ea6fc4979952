"""Scores as they reach storage: comments, words as values, labels of others and evaluators' reasons are redacted."""

import json
from collections.abc import Iterator

import pytest

from tests.integration.redaction.test_closed import CANARIES
from turntrace.integrations.presidio import build_analyzer
from turntrace.pipeline.redact import TraceRedactor
from turntrace.records.evaluator import Verdict
from turntrace.records.score import Score
from turntrace.settings import Settings
from turntrace.worker.comment import VerdictRedactor, redacted_scores

TEXTS = {kind: frame.format(value) for kind, (frame, value) in CANARIES.items()}


@pytest.fixture(scope="module")
def redactor() -> Iterator[TraceRedactor]:
    settings = Settings(redaction_seconds=30)
    analyzer = build_analyzer(settings)
    assert analyzer is not None
    yield TraceRedactor.of(settings, analyzer, key=b"k" * 32)
    analyzer.close()


def leaks(found: object) -> list[str]:
    text = f"{found!r} {json.dumps(found, default=vars)}"
    return [kind for kind, (_, value) in CANARIES.items() if value in text or json.dumps(value)[1:-1] in text]


def test_every_text_of_a_score_is_redacted(redactor: TraceRedactor) -> None:
    scores = [
        Score(id=kind, name="said", value=text, data_type=data_type, source="evaluator", turn_id="1" * 32,
              comment=text, metadata={"label": text, "deep": [{"er": text}], "n": 3})
        for kind, text in TEXTS.items()
        for data_type in ("text", "categorical")
    ]  # fmt: skip
    found = redacted_scores(redactor, scores)
    assert [(score.id, leaks((score.value, score.comment, dict(score.metadata)))) for score in found] == [
        (score.id, []) for score in scores
    ]
    assert all(score.metadata["n"] == 3 for score in found)
    plain = Score(id="x", name="ok", value="good", data_type="categorical", source="user", metadata={"why": "short"})
    assert redacted_scores(redactor, [plain]) == (plain,)


def test_what_an_evaluator_says_is_redacted(redactor: TraceRedactor) -> None:
    redact = VerdictRedactor(redactor)
    for kind, text in TEXTS.items():
        said = Verdict(value=text, reason=f"the customer said: {text}", metadata={"row": {"seen": text}})
        found = redact(said, "1" * 32)
        assert leaks((found.value, found.reason, dict(found.metadata))) == [], kind
    number = Verdict(value=0.5, reason=None, metadata={})
    assert redact(number, "1" * 32) == number
