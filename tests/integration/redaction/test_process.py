"""The analysing process: killed when a text takes too long, replaced when it dies, and always closed to the outside."""

import os
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from turntrace.integrations.presidio import PresidioAnalyzer, build_analyzer
from turntrace.integrations.presidio.process import AnalyzerProcess
from turntrace.pipeline.redact import Failure, TraceRedactor
from turntrace.records.trace import Trace
from turntrace.settings import Settings

ORDER = {"languages": ["en"], "phone_regions": ["US"], "ner_model": None, "seconds": 60.0}
MAIL = "mail anna@example.com"


def test_a_text_over_its_time_is_withheld_and_the_others_are_answered() -> None:
    process = AnalyzerProcess(ORDER, seconds=0.25)
    try:
        slow = "+1 202-555-0143 4111 1111 1111 1111 " * 20_000
        started = time.monotonic()
        first, second, third = process.ask([(MAIL, 1), (slow, 0xFFFFFFFF), (MAIL, 1)])
        assert second == Failure("time limit", is_lasting=True)
        assert isinstance(first, list)
        assert first == third
        assert process.restarts == 1
        assert time.monotonic() - started < 30
    finally:
        process.close()


def test_an_engine_out_of_time_gives_up_by_itself() -> None:
    process = AnalyzerProcess({**ORDER, "seconds": 0.1}, seconds=30.0)
    try:
        (answer,) = process.ask([("+1 202-555-0143 4111 1111 1111 1111 " * 20_000, 0xFFFFFFFF)])
        assert answer == Failure("time limit", is_lasting=True)
        assert process.restarts == 0
    finally:
        process.close()


def test_a_killed_process_is_replaced(analyzer: PresidioAnalyzer) -> None:
    analyzer.analyze([MAIL])
    pid = analyzer.process.pid
    assert pid is not None
    os.kill(pid, 9)
    answers = [analyzer.analyze([MAIL])[0] for _ in range(2)]
    assert answers[0] == Failure("analyser died")
    assert isinstance(answers[1], list)
    assert len(answers[1]) == 1


def test_the_process_ends_with_its_parent() -> None:
    script = (
        "import sys\n"
        "from turntrace.integrations.presidio import build_analyzer\n"
        "from turntrace.settings import Settings\n"
        "analyzer = build_analyzer(Settings())\n"
        f"assert analyzer.analyze([{MAIL!r}])[0]\n"
        "print(analyzer.process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout=10)
    assert not psutil.pid_exists(pid)


def test_a_model_that_is_not_there_withholds_everything() -> None:
    analyzer = build_analyzer(Settings(redaction="ner", ner_model="no_such_model_anywhere"))
    assert analyzer is not None
    try:
        turn = Trace(id="1" * 32, trace_id="2" * 32, span_id="3" * 16, input="hello you", output=MAIL)
        (redacted,) = TraceRedactor(analyzer).redact([turn])
        assert redacted.input == redacted.output == "[redaction failed: analyser unavailable]"
        started = time.monotonic()
        analyzer.analyze([MAIL])
        assert time.monotonic() - started < 1  # it is not tried again at once
    finally:
        analyzer.close()


def test_redaction_off_needs_no_analyser() -> None:
    assert build_analyzer(Settings(redaction="off")) is None


def test_presidio_is_loaded_by_the_analysing_process_only(analyzer: PresidioAnalyzer) -> None:
    script = (
        "import sys\n"
        "from turntrace.integrations.presidio import build_analyzer\n"
        "from turntrace.settings import Settings\n"
        "analyzer = build_analyzer(Settings())\n"
        f"assert analyzer.analyze([{MAIL!r}])[0]\n"
        "analyzer.close()\n"
        "loaded = {'presidio_analyzer', 'spacy', 'numpy', 'tldextract', 'regex'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_texts_that_no_encoding_can_hold_are_analysed(analyzer: PresidioAnalyzer) -> None:
    text = "\ud800\ud83d\ude00 \x00 mail anna@example.com"
    (found,) = analyzer.analyze([text])
    assert isinstance(found, list)
    assert [text[item.start : item.end] for item in found] == ["anna@example.com"]


def test_a_text_over_a_million_characters_is_withheld(analyzer: PresidioAnalyzer) -> None:
    assert analyzer.analyze(["a " * 500_001, "fine"]) == [Failure("too long", is_lasting=True), []]


HOSTILE = {
    "dots": ".", "dots and letters": "a.", "digits": "1", "digits and blanks": "1 ", "colons": "a:", "at": "a@b.",
    "words": "word ", "telephones": "+1 202-555-0143 ", "cards": "4111 1111 1111 1111 ", "passwords": "password: ",
    "streets": "12 Main ",
    "keys": "-----BEGIN PRIVATE KEY-----", "urls": "http://u:", "tokens": "eyJaaaaaaaa.", "blank": " ", "wide": "１",
    "hidden": "\u200b1", "json": '{"a":[1,', "quotes": '"', "names": "my name is ", "accounts": "account number ",
}  # fmt: skip


@pytest.mark.alone
@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_million_hostile_characters_take_two_seconds_at_the_most(analyzer: PresidioAnalyzer, unit: str) -> None:
    analyzer.analyze([MAIL])
    text = (unit * (1_000_000 // len(unit) + 1))[:1_000_000]
    started = time.monotonic()
    (found,) = analyzer.analyze([text])
    assert time.monotonic() - started < 4  # two, and what a loaded machine adds
    assert isinstance(found, list) or found.reason == "time limit"


@pytest.mark.alone
def test_four_thousand_dots_hide_nothing(analyzer: PresidioAnalyzer) -> None:
    text = "." * 4000 + " anna@example.com " + "-" * 4000 + " www.example.com"
    started = time.monotonic()
    (found,) = analyzer.analyze([text])
    assert time.monotonic() - started < 0.5
    assert isinstance(found, list)
    assert [text[item.start : item.end] for item in found] == ["anna@example.com"]


def test_a_fork_of_the_parent_starts_a_process_of_its_own(analyzer: PresidioAnalyzer) -> None:
    assert isinstance(analyzer.analyze([MAIL])[0], list)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = analyzer.analyze([MAIL])
            os.write(
                writer, f"{len(found[0])} {analyzer.process.pid}".encode() if isinstance(found[0], list) else b"0 0"
            )
            analyzer.close()
        finally:
            os._exit(0)
    os.close(writer)
    count, pid = os.read(reader, 64).split()
    os.waitpid(child, 0)
    os.close(reader)
    assert int(count) == 1
    assert int(pid) != analyzer.process.pid
    assert isinstance(analyzer.analyze([MAIL])[0], list)
