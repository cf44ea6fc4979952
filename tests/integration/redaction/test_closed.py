"""Nothing gets out: not to the network, not into logs, not past a pattern that ran out of time."""

import json
import logging
import os
import signal
import socket
from dataclasses import replace
from typing import Any

import pytest
from presidio_analyzer import Pattern, PatternRecognizer
from presidio_analyzer.predefined_recognizers import EmailRecognizer

from turntrace.integrations.presidio import PresidioAnalyzer, build_analyzer
from turntrace.integrations.presidio.engine import Engine, EngineConfig
from turntrace.integrations.presidio.fold import is_escaped
from turntrace.pipeline.redact import Failure, TraceRedactor
from turntrace.records.observation import ErrorInfo, Observation, PromptLink
from turntrace.records.trace import Trace
from turntrace.settings import Settings


def _with(engine: Engine, recognizer: Any) -> Engine:
    engine._recognizers = [(engine_sign, item) for engine_sign, item in engine._recognizers]
    engine._recognizers.append((0x3FFF, recognizer))
    return engine


def test_a_pattern_out_of_time_withholds_the_text() -> None:
    """Presidio logs the time-out and goes on as if the pattern had found nothing."""
    slow = PatternRecognizer("SLOW", patterns=[Pattern("slow", r"(?:a|aa|a.?)+$", 0.9)])
    found = _with(Engine(EngineConfig(seconds=30)), slow).analyze("anna@example.com " + "a" * 60 + "!b")
    assert found == Failure("time limit", is_lasting=True)


def test_nothing_touches_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    engine = _with(
        Engine(EngineConfig(seconds=60)), EmailRecognizer()
    )  # Presidio's own asks for the public suffix list
    found = engine.analyze("mail anna@example.com")
    assert isinstance(found, list)
    assert len(found) == 1


def test_no_text_is_logged(engine: Engine, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    engine.analyze(
        "IBAN DE00 CANARY00000000000000A and anna.canary@example.com, password: canary77, 4111 1111 1111 1112"
    )
    out = capfd.readouterr()
    assert "canary" not in (caplog.text + out.out + out.err).lower()


JWT = "eyJhbGciOiJIUzI1NiJ9." + "a1B2" * 10 + "." + "c3D4" * 10
CANARIES = {
    "e-mail": ("write to {}", "canary.anna@example.com"),
    "telephone": ("call {} today", "+1 202-555-0143"),
    "local telephone": ("phone {}", "(415) 555-0132"),
    "card": ("my card {}", "4111 1111 1111 1111"),
    "iban": ("IBAN {}", "DE89370400440532013000"),
    "ssn": ("SSN {}", "219-09-9999"),
    "ipv4": ("from {}", "192.0.2.177"),
    "ipv6": ("from {}", "2001:db8::8a2e:370:7334"),
    "mac": ("device {}", "00:1A:2B:3C:4D:5E"),
    "bitcoin": ("wallet {}", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    "address": ("I live at {}", "742 Evergreen Terrace"),
    "passport": ("passport number {}", "XG9382049"),
    "licence": ("driver's license {}", "Y820-9283-4432"),
    "account": ("account number {}", "3847283911"),
    "birth": ("date of birth {}", "29/02/1984"),
    "name": ("my name is {}", "Aantje Mourik"),
    "password": ("password: {}", "Zx9!canary"),
    "openai": ("use {}", "sk-" + "aB3d" * 10),
    "github": ("use {}", "ghp_" + "a1B2" * 9),
    "jwt": ("use {}", JWT),
    "bearer": ("Authorization: Bearer {}", "abcDEF123456ghiJKL789"),
    "private key": ("{}", "-----BEGIN PRIVATE KEY-----\nMIIcanary\n-----END PRIVATE KEY-----"),
    "url": ("postgres://{}@db/prod", "app:s3cr3tcanary"),
    "tax": ("Tax ID {}", "94-2841935"),
}


def _events(text: str) -> str:
    chunks = [text[start : start + 3] for start in range(0, len(text), 3)]
    return "".join(f"data: {json.dumps({'delta': {'text': chunk}})}\n\n" for chunk in chunks)


def _everywhere(text: str) -> Trace:
    call = Observation(
        id="1" * 48,
        turn_id="1" * 32,
        trace_id="2" * 32,
        span_id="3" * 16,
        name=text,
        status_message=text,
        error=ErrorInfo(type="ValueError", message=text, stack=f"Traceback (most recent call last):\n{text}"),
        tags=(text,),
        prompt=PromptLink(name="p", variables={"value": text}),
        parameters={"stop": [text]},
        input=[{"role": "user", "content": [{"type": "text", "text": text}]}],
        output=json.dumps({"deep": json.dumps({"answer": text})}),
        tool_calls=({"name": "f", "arguments": json.dumps({"value": text})},),
        tool_definitions=({"name": "f", "description": text},),
        query=text,
        retrieval={"data_source": text},
        documents=({"content": text, "metadata": {"source": text}},),
        input_documents=({"content": f"long {'words ' * 3000}\n{text}\n{'words ' * 3000}"},),
        metadata={"a": {"b": [text]}},
    )
    return Trace(
        id="1" * 32,
        trace_id="2" * 32,
        span_id="3" * 16,
        name=text,
        tags=(text,),
        metadata={"x": text, text: 1},
        feature_flags={"f": text},
        input=text,
        output={"answer": text},
        received=_events(text),
        error=ErrorInfo(type="ValueError", message=text, stack=text),
        observations=(call,),
    )


@pytest.mark.parametrize("kind", CANARIES)
def test_a_canary_is_found_wherever_it_stands(analyzer: PresidioAnalyzer, kind: str) -> None:
    frame, value = CANARIES[kind]
    (redacted,) = TraceRedactor(analyzer, key=b"k" * 32).redact([_everywhere(f"Hello, {frame.format(value)}")])
    written = json.dumps(repr(redacted))
    assert redacted.redaction_failed == 0
    assert json.dumps(value)[1:-1] not in written
    assert value not in repr(redacted)
    assert redacted.observations[0].input[0]["role"] == "user"
    body = "".join(json.loads(line[6:])["delta"]["text"] for line in (redacted.received or "").split("\n\n") if line)
    assert value not in body


class Raising:
    """An analyser with a fault that quotes what it was given."""

    def analyze(self, texts: Any) -> Any:
        raise RuntimeError(" ".join(texts))


def _dead() -> PresidioAnalyzer:
    """An analyser whose process ends before it answers."""
    made = PresidioAnalyzer({"ner_model": "no_such_model_anywhere"}, seconds=5)
    return made


def _hung(analyzer: PresidioAnalyzer) -> PresidioAnalyzer:
    """The analyser, its process stopped: it neither answers nor ends."""
    analyzer.analyze(["mail anna@example.com"])
    os.kill(analyzer.process.pid or 0, signal.SIGSTOP)
    return analyzer


@pytest.mark.parametrize("fault", ["raises", "hangs", "dies"])
def test_an_analyser_that_fails_withholds_every_text(
    fault: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    text = "Hello, write to " + CANARIES["e-mail"][1]
    analyzer: Any = Raising() if fault == "raises" else _dead()
    if fault == "hangs":
        made = build_analyzer(Settings(redaction_seconds=0.5))
        assert made is not None
        analyzer = _hung(made)
    try:
        (redacted,) = TraceRedactor(analyzer, key=b"k" * 32).redact([_everywhere(text)])
    finally:
        if isinstance(analyzer, PresidioAnalyzer):
            analyzer.close()
    written, logged = repr(redacted), capfd.readouterr()
    if fault == "hangs":  # the text it hung on; the process that took its place goes on
        assert "canary" not in written
        assert redacted.redaction_failed > 0
    else:
        assert "canary" not in written
        assert "Hello" not in written
        assert redacted.redaction_failed > 25
    assert "canary" not in caplog.text + logged.out + logged.err


ESCAPED = {
    "an address": (
        "https://shop.example/find?q=write%20to%20canary.anna%40example.com&n=1",
        "canary.anna%40example.com",
    ),
    "a form": ("name=Anna+Smith&card=4111+1111+1111+1111", "4111+1111+1111+1111"),
    "a path": ("GET /users/canary.anna%40example.com/orders", "canary.anna%40example.com"),
    "a password": ("login?user=a&password%3DZx9%21canary77", "Zx9%21canary77"),
}


@pytest.mark.parametrize("kind", ESCAPED)
def test_the_escapes_of_addresses_hide_nothing(analyzer: PresidioAnalyzer, kind: str) -> None:
    text, value = ESCAPED[kind]
    (redacted,) = TraceRedactor(analyzer, key=b"k" * 32).redact([replace(_everywhere(""), input=text)])
    assert value not in redacted.input
    assert redacted.input[:4] == text[:4]


def test_a_sum_and_a_percentage_are_no_escapes() -> None:
    assert not is_escaped("100% of 3 + 4 = 7, and 5%2 is 1")
    assert not is_escaped("a = b + c")
