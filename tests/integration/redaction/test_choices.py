"""What the operator chooses: allow and deny lists, national ids, rules for fields, placeholders, own recognisers."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from turntrace.errors import SettingsError
from turntrace.integrations.presidio import PresidioAnalyzer, build_analyzer
from turntrace.integrations.presidio.chosen import chosen_recognizers
from turntrace.integrations.presidio.engine import Engine, EngineConfig
from turntrace.integrations.presidio.nation import NATIONS
from turntrace.pipeline.redact import Entity, Failure, Rule, TraceRedactor
from turntrace.pipeline.redact.rule import FIELDS
from turntrace.records.observation import Observation
from turntrace.records.trace import Trace
from turntrace.settings import NATIONS as KNOWN_TO_SETTINGS
from turntrace.settings import Settings

CHOSEN = Settings(
    redaction_allow=("support@shop.example",),
    redaction_deny=("Project Nightfall", "zebra", "Ann Li", "M\u00fcller"),
    national_ids=("DE", "ES", "IN", "PL", "UK"),
)
IDS = {
    "ES": ("mi DNI es 55555555K", "55555555K", "ES_NIF"),
    "IN": ("he wrote ABCPD1234F on it", "ABCPD1234F", "IN_PAN"),
    "PL": ("PESEL 44051401359", "44051401359", "PL_PESEL"),
    "UK": ("national insurance AA 12 34 56 B", "AA 12 34 56 B", "UK_NINO"),
}


@pytest.fixture(scope="module")
def chosen() -> Iterator[PresidioAnalyzer]:
    made = build_analyzer(CHOSEN)
    assert made is not None
    yield made
    made.close()


def _found(analyzer: PresidioAnalyzer, text: str) -> list[tuple[str, str]]:
    (found,) = analyzer.analyze([text])
    assert not isinstance(found, Failure)
    return [(text[item.start : item.end], item.type) for item in found]


def test_what_is_allowed_stays_and_what_is_denied_goes(chosen: PresidioAnalyzer) -> None:
    assert _found(chosen, "write to support@shop.example") == []
    assert _found(chosen, "write to SUPPORT@shop.example or anna@shop.example") == [
        ("anna@shop.example", "EMAIL_ADDRESS")
    ]
    assert _found(chosen, "we call it project nightfall") == [("project nightfall", "DENIED")]
    assert _found(chosen, "no zebras, one ZEBRA") == [("ZEBRA", "DENIED")]


def test_what_is_denied_is_found_however_it_is_written(chosen: PresidioAnalyzer) -> None:
    assert _found(chosen, "q=Ann%20Li") == [("Ann%20Li", "DENIED")]
    assert _found(chosen, "q=Ann+Li&n=a+b") == [("Ann+Li", "DENIED")]
    assert _found(chosen, "see M\u00fcller.pdf") == [("M\u00fcller", "DENIED")]
    # Names of files on a Mac come with their marks apart.
    assert _found(chosen, "see Mu\u0308ller.pdf") == [("Mu\u0308ller", "DENIED")]


@pytest.mark.parametrize("nation", IDS)
def test_national_ids_are_found_by_setting(chosen: PresidioAnalyzer, nation: str) -> None:
    text, value, kind = IDS[nation]
    assert (value, kind) in _found(chosen, text)


def test_every_finding_names_its_recogniser(chosen: PresidioAnalyzer) -> None:
    (found,) = chosen.analyze(["zebra, anna@shop.example"])
    assert not isinstance(found, Failure)
    assert [item.source for item in found] == ["DenyList", "EmailRecognizer"]


def test_every_nation_has_its_recognisers() -> None:
    assert set(NATIONS) == KNOWN_TO_SETTINGS
    assert len(chosen_recognizers(NATIONS, ())) == sum(map(len, NATIONS.values()))


def test_recognisers_of_other_packages_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "ward-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ward\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[turntrace.recognizers]\nward = ward:recognizers\n")
    (tmp_path / "ward.py").write_text(
        "from presidio_analyzer import Pattern, PatternRecognizer\n"
        "def recognizers():\n"
        "    return [PatternRecognizer('WARD', name='Ward', patterns=[Pattern('ward', r'ward [a-z]+', 0.9)])]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    analyzer = build_analyzer(Settings())
    assert analyzer is not None
    try:
        assert _found(analyzer, "she lies in ward seven") == [("ward seven", "WARD")]
    finally:
        analyzer.close()
    # One that cannot be loaded withholds everything: nobody knows what it would have found.
    (tmp_path / "ward.py").write_text("raise ImportError('gone')\n")
    broken = build_analyzer(Settings())
    assert broken is not None
    try:
        assert broken.analyze(["hello"]) == [Failure("analyser unavailable")]
    finally:
        broken.close()


class Shouting:
    """Finds words in capitals."""

    def analyze(self, texts: Any) -> list[Any]:
        return [[Entity(0, len(text), "SHOUT", 1.0)] if text.isupper() else [] for text in texts]


def _turn(**fields: Any) -> Trace:
    return Trace(id="1" * 32, trace_id="2" * 32, span_id="3" * 16, route="/internal/a", **fields)


def _redacted(trace: Trace, *rules: str, everywhere: bool = False) -> Trace:
    redactor = TraceRedactor(
        Shouting(), key=b"k" * 32, rules=[Rule.of(rule) for rule in rules], tags_everywhere=everywhere
    )
    (found,) = redactor.redact([trace])
    return found


def test_rules_keep_withhold_and_hash_single_fields() -> None:
    step = Observation(id="4" * 48, turn_id="1" * 32, trace_id="2" * 32, span_id="4" * 16, metadata={"order": "LOUD"})
    trace = _turn(
        metadata={"order": "A-17 LOUD", "deep": [{"order": "LOUD", "note": "LOUD"}], "notes": "quiet words"},
        input={"account": "quiet", "text": "LOUD"},
        tags=("LOUD",),
        observations=(step,),
    )
    found = _redacted(
        trace, "metadata.order=keep", "metadata.notes=withhold", "input.account=hash", "/other/*:tags=keep"
    )
    assert found.metadata["order"] == "A-17 LOUD"
    assert found.metadata["deep"][0]["order"] == "LOUD"
    assert found.metadata["deep"][0]["note"].startswith("<SHOUT_k")
    assert found.metadata["notes"] == "[withheld by rule]"
    assert found.input["account"].startswith("<VALUE_k")
    assert found.input["text"].startswith("<SHOUT_k")
    assert found.tags[0].startswith("<SHOUT_k")
    assert found.observations[0].metadata == {"order": "LOUD"}
    assert _redacted(trace, "/internal/*:tags=keep").tags == ("LOUD",)
    assert _redacted(trace, "metadata=withhold").metadata == {"withheld": "[withheld by rule]"}
    assert _redacted(trace, "input=withhold", "input=keep").input == {"withheld": "[withheld by rule]"}


def test_rules_reach_into_json_that_a_text_holds() -> None:
    step = Observation(
        id="4" * 48,
        turn_id="1" * 32,
        trace_id="2" * 32,
        span_id="4" * 16,
        tool_calls=({"name": "file", "arguments": '{"notes": "quiet words", "n": [1]}'},),
    )
    found = _redacted(_turn(observations=(step,)), "tool_calls.notes=withhold").observations[0]
    assert found.tool_calls == ({"name": "file", "arguments": '{"notes": "[withheld by rule]", "n": [1]}'},)


@pytest.mark.parametrize("value", [17, 17.5, True, "quiet"])
def test_a_rule_hashes_whatever_kind_a_value_is_of(value: Any) -> None:
    assert _redacted(_turn(metadata={"a": value}), "metadata.a=hash").metadata["a"].startswith("<VALUE_k")


def test_a_rule_keeps_what_a_client_was_streamed() -> None:
    assert _redacted(_turn(received="data: LOUD"), "received=keep").received == "data: LOUD"
    assert _redacted(_turn(received="data: LOUD")).received != "data: LOUD"


def test_what_is_too_deep_for_a_rule_is_withheld_and_counted_and_nothing_else() -> None:
    deep: Any = "secret"
    for _ in range(900):
        deep = [deep]
    rules = [Rule.of("input.notes=withhold")]
    found, other = TraceRedactor(Shouting(), key=b"k" * 32, rules=rules).redact(
        [_turn(input=deep), _turn(input="hello")]
    )
    assert "secret" not in str(found.input)
    assert found.redaction_failed == 1
    assert (other.input, other.redaction_failed) == ("hello", 0)


def test_placeholders_may_be_alike_everywhere() -> None:
    one, other = _turn(input="LOUD"), Trace(id="9" * 32, trace_id="2" * 32, span_id="3" * 16, input="LOUD")
    assert _redacted(one).input != _redacted(other).input
    alike = _redacted(one, everywhere=True).input
    assert alike == _redacted(other, everywhere=True).input
    assert len(alike) == len("<SHOUT_h0123456789abcdef>")
    assert _redacted(_turn(input={"password": alike}), everywhere=True).input == {"password": alike}


@pytest.mark.parametrize(
    "wrong",
    [
        {"national_ids": "XX"},
        {"redaction_rules": "metadata.order"},
        {"redaction_rules": "nothing=keep"},
        {"redaction_rules": "input=forget"},
    ],
)
def test_choices_that_mean_nothing_are_refused_at_the_start(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        Settings(**wrong)


def test_settings_and_rules_agree_on_the_fields() -> None:
    for field in FIELDS:
        assert Rule.of(f"{field}=keep") == Rule.of(Settings(redaction_rules=(f"{field}=keep",)).redaction_rules[0])


NAMES = ("Anna Kowalski", "Peter Jansen", "Maria Lopez", "John Whitfield", "Sara Lindgren", "Omar Haddad")
CITIES = ("Rotterdam", "Gdansk", "Sevilla", "Leeds", "Uppsala", "Amman")


def _tiny_model(folder: Path) -> Path:
    """A real spaCy pipeline with an entity recogniser, trained on a few sentences in a second or two."""
    import spacy
    from spacy.training import Example

    spacy.util.fix_random_seed(3)
    nlp = spacy.blank("en")
    recogniser = nlp.add_pipe("ner", config={"moves": None})
    sentences = []
    for name in NAMES:
        for city in CITIES:
            text = f"Yesterday {name} moved to {city} with a kettle ."
            begin = text.index(city)
            spans = [(10, 10 + len(name), "PERSON"), (begin, begin + len(city), "GPE")]
            sentences.append(Example.from_dict(nlp.make_doc(text), {"entities": spans}))
    for label in ("PERSON", "GPE"):
        recogniser.add_label(label)
    optimizer = nlp.initialize(lambda: sentences)
    for _ in range(12):
        nlp.update(sentences, sgd=optimizer)
    nlp.to_disk(folder)
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_a_real_model_finds_names_and_the_patterns_go_on(tmp_path: Path) -> None:
    model = _tiny_model(tmp_path / "model")
    settings = Settings(redaction="ner", ner_model=str(model), redaction_seconds=20, redaction_allow=("Leeds",))
    analyzer = build_analyzer(settings)
    assert analyzer is not None
    try:
        text = "Yesterday Anna Kowalski moved to Gdansk with a kettle ."
        assert _found(analyzer, text) == [("Anna Kowalski", "PERSON"), ("Gdansk", "LOCATION")]
        found = _found(analyzer, "Yesterday Omar Haddad moved to Leeds with a kettle . Write to omar@example.com")
        assert ("Omar Haddad", "PERSON") in found
        assert ("omar@example.com", "EMAIL_ADDRESS") in found
        assert "Leeds" not in [value for value, _ in found]
        turn = _turn(input={"messages": [{"role": "user", "content": text}]})
        (redacted,) = TraceRedactor.of(settings, analyzer, key=b"k" * 32).redact([turn])
        assert "Kowalski" not in repr(redacted)
        assert redacted.input["messages"][0]["content"].startswith("Yesterday <PERSON_k")
        os.kill(analyzer.process.pid or 0, 9)
        assert analyzer.analyze([text]) == [Failure("analyser died")]
        assert _found(analyzer, text)[0][1] == "PERSON"
    finally:
        analyzer.close()


def test_an_engine_with_a_model_needs_no_tokens_of_presidio(tmp_path: Path) -> None:
    assert Engine(EngineConfig(denied=("zebra",))).analyze("a zebra", 0x3FFF)[0].type == "DENIED"  # type: ignore[index]
