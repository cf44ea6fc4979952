"""Redaction beside plain Presidio in one run: what leaks, what is taken out needlessly, how fast.

`python -m benchmarks.pii [--files a.jsonl …] [--model en_core_web_sm] [--rounds 3] [--out DIR]`

*Leak*: a labelled value of which something is left: for numbers (accounts, ids) a word with a digit, for all else a
letter or digit. *Over-redaction*: letters and digits taken out that no label covers. Plain Presidio is an
`AnalyzerEngine` with its default recognisers for English and its default threshold, without a model (or with the one
named, which ours then uses too), kept off the network.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

os.environ.setdefault("REGEX_TIMEOUT_SECONDS", "1")

from benchmarks.pii_corpus import FIXTURES, NUMBERS, STRICT, Row, Span, labelled, secrets, sessions
from benchmarks.report import publish
from turntrace.integrations.presidio import PresidioAnalyzer, build_analyzer
from turntrace.pipeline.redact import Entity, Failure, TraceRedactor
from turntrace.records.observation import Observation
from turntrace.records.trace import Trace
from turntrace.settings import Settings

Find = Callable[[Sequence[str]], list[list[tuple[int, int]]]]
WINDOW = 8  # messages sent with each turn of the chat traffic: two new ones and the history, so a quarter is new


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write the tables; 1 where a goal is missed."""
    options = _options(arguments)
    plain = plain_presidio(options.model)
    chosen = Settings(redaction="ner", ner_model=options.model) if options.model else Settings()
    analyzer = build_analyzer(chosen)
    if analyzer is None:
        return 1
    try:
        rows = labelled(options.files, options.added)
        table, goals = compare(
            rows, secrets(), lambda texts: [_spans(plain, text) for text in texts], _finder(analyzer)
        )
        publish("pii-leaks", table, options.out)
        speed = throughput(sessions(options.conversations), plain, analyzer, options.rounds)
        publish("pii-throughput", [speed], options.out)
        publish("pii-longest", hostile(analyzer), options.out)
    finally:
        analyzer.close()
    goals["throughput"] = speed["ratio"] >= (4 if options.model else 30)
    missed = [name for name, is_met in goals.items() if not is_met]
    print("missed: " + ", ".join(missed) if missed else "all goals met")
    return 1 if missed else 0


def compare(
    natural: Sequence[Row], made: Sequence[Row], plain: Find, ours: Find
) -> tuple[list[dict[str, Any]], dict[str, bool]]:
    """A line for each kind of data, the sums, and which goals are met. Over-redaction is that of the natural rows."""
    rows = [*natural, *made]
    texts = [row.text for row in rows]
    scores = [_score(rows, find(texts), len(natural)) for find in (plain, ours)]
    kinds = sorted({span.kind for row in rows for span in row.spans if span.kind})
    table = [
        {
            "kind": kind,
            "values": total,
            "leaked by Presidio": scores[0][0][kind],
            "leaked by Turntrace": scores[1][0][kind],
        }
        for kind in kinds
        if (total := sum(span.kind == kind for row in rows for span in row.spans))
    ]
    sums = [sum(leaks.values()) for leaks, _ in scores]
    nameless = [sum(n for kind, n in leaks.items() if kind != "person") for leaks, _ in scores]
    total = sum(line["values"] for line in table)
    persons = sum(line["values"] for line in table if line["kind"] == "person")
    for name, values, pair in (
        ("all", total, sums),
        ("all but persons", total - persons, nameless),
        ("over-redacted characters", None, [over for _, over in scores]),
    ):
        table.append({"kind": name, "values": values, "leaked by Presidio": pair[0], "leaked by Turntrace": pair[1]})
    goals = {
        "leak": sums[1] <= 0.6 * sums[0],
        "over-redaction": scores[1][1] <= scores[0][1],
        **{kind: scores[1][0][kind] == 0 for kind in sorted(STRICT)},
    }
    return table, goals


def _score(rows: Sequence[Row], found: Sequence[Iterable[tuple[int, int]]], natural: int) -> tuple[Counter[str], int]:
    leaks: Counter[str] = Counter()
    over = 0
    for number, (row, spans) in enumerate(zip(rows, found, strict=True)):
        covered = {index for start, end in spans for index in range(start, end)}
        for span in row.spans:
            if span.kind and not _telling(row.text, span) <= covered:
                leaks[span.kind] += 1
        if number >= natural:
            continue
        labels = {index for span in row.spans for index in range(span.start, span.end)}
        over += sum(row.text[index].isalnum() for index in covered - labels if index < len(row.text))
    return leaks, over


def _telling(text: str, span: Span) -> set[int]:
    """The characters of a value that must not be left."""
    every = {index for index in range(span.start, span.end) if text[index].isalnum()}
    if span.kind not in NUMBERS:
        return every
    with_digit: set[int] = set()
    start = span.start
    for word in text[span.start : span.end].split(" "):
        if any(c.isdigit() for c in word):
            with_digit |= set(range(start, start + len(word)))
        start += len(word) + 1
    return every & with_digit or every


def throughput(chats: Sequence[Sequence[str]], plain: Any, analyzer: PresidioAnalyzer, rounds: int) -> dict[str, Any]:
    """Microseconds per message, medians over alternating rounds; ours through the whole redactor, memory empty."""
    traces = [_turn(chat, end) for chat in chats for end in range(2, len(chat) + 1, 2)]
    texts = [text for trace in traces for text in _messages(trace)]
    analyzer.analyze(["a@b.example"])  # the process is up, as in a worker that runs
    sample = texts[: max(1, len(texts) // 8)]
    theirs, own = [], []
    for _ in range(rounds):
        theirs.append(_timed(lambda: [_spans(plain, text) for text in sample]) / len(sample))
        own.append(_timed(lambda: _redact(traces, analyzer)) / len(texts))
    return {
        "messages": len(texts),
        "new": f"{len(set(texts)) / len(texts):.0%}",
        "Presidio us": median(theirs) * 1e6,
        "Turntrace us": median(own) * 1e6,
        "ratio": median(theirs) / median(own),
    }


def _timed(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _redact(traces: Sequence[Trace], analyzer: PresidioAnalyzer) -> None:
    redactor = TraceRedactor(analyzer, key=b"k" * 32)
    for start in range(0, len(traces), 256):
        redactor.redact(traces[start : start + 256])


def _turn(chat: Sequence[str], end: int) -> Trace:
    shown = chat[max(0, end - WINDOW) : end]
    messages = [
        {"role": "user" if index % 2 else "assistant", "content": text} for index, text in enumerate(shown[:-1])
    ]
    call = Observation(
        id="1" * 48,
        turn_id="1" * 32,
        trace_id="2" * 32,
        span_id="3" * 16,
        type="generation",
        input=messages,
        output=shown[-1],
    )
    return Trace(id="1" * 32, trace_id="2" * 32, span_id="3" * 16, observations=(call,))


def _messages(trace: Trace) -> list[str]:
    call = trace.observations[0]
    return [message["content"] for message in call.input] + [call.output]


def hostile(analyzer: PresidioAnalyzer) -> list[dict[str, Any]]:
    """The time of texts of a million characters that patterns suffer from; withheld ones say so."""
    size = 1_000_000
    unit = {
        "dots": ".",
        "1.1.1.": "1.",
        "words": "call me at 5 pm, ",
        "telephones": "+1 202-555-0143 ",
        "a:a:": "a:",
        "@@@": "@",
    }
    lines = []
    for name, part in {**unit, "digits": "1", "dashes": "-", "cards": "4111 1111 1111 1111 "}.items():
        text = (part * (size // len(part) + 1))[:size]
        start = perf_counter()
        found = analyzer.analyze([text])[0]
        lines.append(
            {
                "text": name,
                "seconds": perf_counter() - start,
                "result": found.reason if isinstance(found, Failure) else len(found),
            }
        )
    return lines


def _finder(analyzer: PresidioAnalyzer) -> Find:
    def find(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return [_offsets(found, text) for found, text in zip(analyzer.analyze(texts), texts, strict=True)]

    return find


def _offsets(found: Sequence[Entity] | Failure, text: str) -> list[tuple[int, int]]:
    if isinstance(found, Failure):
        return [(0, len(text))]
    return [(entity.start, entity.end) for entity in found]


def _spans(engine: Any, text: str) -> list[tuple[int, int]]:
    return [(result.start, result.end) for result in engine.analyze(text, language="en")]


def plain_presidio(model: str | None) -> Any:
    """An `AnalyzerEngine` as its documentation sets it up, but for the network."""
    import spacy
    import tldextract
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NlpArtifacts, SlimSpacyNlpEngine, SpacyNlpEngine

    class Blank(SlimSpacyNlpEngine):  # type: ignore[misc]
        def __init__(self) -> None:
            self.models, self.languages, self.nlp = (
                [{"lang_code": "en", "model_name": "blank"}],
                ("en",),
                {"en": spacy.blank("en")},
            )

        def _doc_to_nlp_artifact(self, doc: Any, language: str) -> Any:
            return NlpArtifacts(
                [], doc, [token.idx for token in doc], [token.lower_ for token in doc], self, language, []
            )

    extractor = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    tldextract.tldextract.TLD_EXTRACTOR = extractor
    tldextract.extract = extractor
    nlp = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": model}]) if model else Blank()
    if model:
        nlp.load()
    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=nlp)
    return AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=["en"])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    pii = FIXTURES / "pii"
    parser.add_argument("--files", type=Path, nargs="+", default=sorted(pii.glob("*_half.jsonl")))
    parser.add_argument("--added", type=Path, default=pii / "labels_added.jsonl", help="labels missing in the files")
    parser.add_argument("--conversations", type=Path, default=FIXTURES / "conversations" / "sgd_sessions.jsonl")
    parser.add_argument("--model", help="import name of a spaCy model, used by both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
