"""Quality and evaluators as people of each role meet them."""

import html
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from tests.integration.panel.conftest import context_of, mounted
from tests.integration.panel.visitor import Visitor
from tests.integration.turns import turn
from turntrace.evaluating import workbench
from turntrace.evaluation.definition import read_definition
from turntrace.records.batch import Batch, Worked
from turntrace.records.fragment import FrameKind
from turntrace.records.score import Score
from turntrace.storage import evaluators, scores
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database
from turntrace.storage.queries import evaluators as queries
from turntrace.storage.queries.traces import list_traces

DAY_US = 86_400_000_000
RATE = {"name": "hallucination rate", "data_type": "boolean", "better": "low"}
FORM = {
    "kind": "check",
    "name": "says vinegar",
    "check": '{"name": "contains", "texts": ["vinegar"]}',
    "data_type": "boolean",
    "better": "high",
    "score_name": "vinegar",
    "target": "trace",
    "sample_rate": "1",
    "interval_seconds": "60",
    "filter_feature": "support",
    "is_enabled": "1",
}


@pytest.fixture
def operator(filled: Database) -> Iterator[Visitor]:
    """An operator of a panel that can try evaluators."""
    context = context_of(filled)
    made = replace(context, workbench=workbench(context.settings, context.keyring))
    with TestClient(mounted(made), follow_redirects=False) as client:
        yield Visitor(client).log_in("operator")


def test_everybody_sees_the_scores_and_only_readers_why(anyone: Visitor) -> None:
    page = anyone.get("/quality").text
    assert "thumbs" in page
    assert "relevance" in page
    assert "agreement unknown (0 of 20 labels)" in page


def test_a_judges_key_is_asked_for_anew_where_its_address_changes(operator: Visitor, filled: Database) -> None:
    judge = {
        "kind": "judge",
        "name": "helpful",
        "data_type": "boolean",
        "prompt": "Is it? {{answer}}",
        "is_enabled": "1",
    }
    here, there = {"base_url": "https://1.1.1.1/v1", "model": "m"}, {"base_url": "https://8.8.8.8/v1", "model": "m"}
    assert operator.post("/evaluators/save", **judge, **here, api_key="sk-1").status_code == 303
    with filled.read() as c:
        (made,) = queries.list_evaluators(c)
    for call in ("preview", "save"):
        refused = operator.post(f"/evaluators/{call}", **judge, **there, id=made.id)
        assert refused.status_code == 400
        assert "give the key for this one" in refused.text
    assert operator.post("/evaluators/save", **judge, **here, id=made.id, sample_rate="0.5").status_code == 303
    with filled.read() as c:
        (changed,) = queries.list_evaluators(c)
    assert (changed.version, changed.sealed) == (2, made.sealed)
    assert operator.post(f"/evaluators/{made.id}/delete").status_code == 303


def test_an_evaluator_is_tried_saved_switched_and_deleted(operator: Visitor, filled: Database) -> None:
    tried = operator.post("/evaluators/preview", **FORM)
    assert tried.status_code == 200
    assert "On past turns" in tried.text
    saved = operator.post("/evaluators/save", **FORM)
    assert saved.status_code == 303, saved.text[:500]
    with filled.read() as c:
        (made,) = queries.list_evaluators(c)
    assert made.definition["filter"] == {"feature": "support"}
    path = f"/evaluators/{made.id}"
    assert "says vinegar" in operator.get("/evaluators").text
    assert "Nothing has been judged yet" in operator.get(path).text
    form = operator.get(f"{path}/edit").text
    assert re.search(r'name="filter_feature" value="support"', form)
    assert operator.post("/evaluators/save", **{**FORM, "id": made.id, "sample_rate": "0.5"}).status_code == 303
    assert operator.post(f"{path}/switch", on="0").status_code == 303
    for odd in ("", "²", "0", "9" * 5000, "0000000001" + "9" * 5000, "00000000019999"):
        assert operator.post(f"{path}/again", targets=odd, times="1").status_code == 400
    assert operator.post(f"{path}/backfill", days="7").status_code == 303
    with filled.read() as c:
        (changed,) = queries.list_evaluators(c)
        (backfill,) = queries.backfills(c)
    assert (changed.version, changed.is_enabled, backfill.status) == (2, False, "running")
    assert operator.post(f"{path}/backfill", stop=backfill.id).status_code == 303
    assert operator.post(f"{path}/delete").status_code == 303


def test_what_cannot_work_is_said_and_the_fields_stay(operator: Visitor) -> None:
    wrong = operator.post(
        "/evaluators/save", **{**FORM, "check": '{"name": "regex", "pattern": "("}', "name": "odd one"}
    )
    assert wrong.status_code == 400
    assert "no regular expression" in wrong.text
    assert 'value="odd one"' in wrong.text


def test_viewers_write_no_evaluators(viewer: Visitor) -> None:
    assert viewer.get("/evaluators").status_code == 200
    assert viewer.get("/evaluators/new").status_code == 403
    assert viewer.post("/evaluators/save", **FORM).status_code == 403


def test_a_blocked_evaluator_says_why(operator: Visitor, filled: Database) -> None:
    values = {"name": "blocked one", "kind": "check", "check": {"name": "refusal"}}
    source = read_definition(values)[0].source
    now_us = 1
    made = filled.transact(evaluators.create, source, is_enabled=True, sealed=None, author=None, now_us=now_us)
    later_us = 4_000_000_000_000_000
    filled.transact(evaluators.note_failures, made.id, "http_429", count=5, now_us=later_us)
    assert "too many requests" in operator.get("/evaluators").text
    assert "No score is made up meanwhile" in operator.get(f"/evaluators/{made.id}").text
    filled.transact(evaluators.remove, made.id)


def test_agreement_with_people_is_shown_once_there_is_enough_of_it(operator: Visitor, filled: Database) -> None:
    with filled.read() as c:
        turns = list_traces(c, limit=30).items
    with filled.write() as c:
        for number, turn in enumerate(turns):
            for source, value in (("evaluator", number % 3 == 0), ("human", number % 3 == 0 or number == 1)):
                score = Score(
                    id=f"agree-{source}-{number}",
                    name="grounded",
                    value=value,
                    data_type="boolean",
                    source=source,
                    turn_id=turn.id,
                    evaluator="grounder" if source == "evaluator" else None,
                    evaluator_version=1 if source == "evaluator" else None,
                    author="ada" if source == "human" else None,
                )
                scores.upsert(c, score, now_us=turn.started_at_us + 1_000_000)
                if source == "evaluator" and number < 1:
                    scores.upsert(c, replace(score, id="alone", name="polite"), now_us=turn.started_at_us + 1_000_000)
    shown = operator.get(f"/traces/{turns[0].id}?observation=turn").text
    assert shown.count("agreement with people unknown") == 1
    assert re.search(r'href="[^"]*of=polite[^"]*">agreement with people unknown', shown)
    page = operator.get("/quality?of=grounded&by=grounder&range=7d").text
    assert re.search(r"κ 0\.9\d \(0\.\d+ to 1\.00\) on 30", page)
    words = plain(page)
    assert re.search(r"judge: good 10 0 judge: bad 1 19", words)
    assert "Against itself Unknown: this version was not asked twice about anything." in words
    assert "Against people, by version" in words


def plain(page: str) -> str:
    """What a page says."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split()).replace(" .", ".").replace(" ,", ",")


def test_a_score_is_said_in_one_sentence_against_the_period_before(operator: Visitor, filled: Database) -> None:
    now_us = time.time_ns() // 1000
    turns = [turn(started_at_us=now_us - (2 if number < 500 else 9) * DAY_US - number) for number in range(1000)]
    write_batch(filled, Batch(worked=tuple(Worked(kind=FrameKind.END, trace=t) for t in turns)), now_us=now_us)
    with filled.write() as c:
        for number, one in enumerate(turns):
            score = Score(
                id=f"rate-{number}",
                name="hallucination rate",
                value=number < 16 or 500 <= number < 509,
                data_type="boolean",
                source="evaluator",
                turn_id=one.id,
                evaluator="claims",
                evaluator_version=1,
            )
            scores.upsert(c, score, now_us=now_us)
    values = {"name": "claims", "kind": "code", "code": {"function": "a:b"}, "score": RATE}
    source = read_definition(values)[0].source
    made = filled.transact(evaluators.create, source, is_enabled=False, sealed=None, author=None, now_us=now_us)
    page = operator.get("/quality?of=hallucination+rate&by=claims&range=7d").text
    now = "hallucination rate in the last week: 3.2 % (2.0 % to 5.1 %)"
    assert f"{now}, up from 1.8 % (0.9 % to 3.4 %) in the period before." in plain(page)
    assert "No more than chance explains at 95 %." in plain(page)
    link = r'href="/llm-admin([^"]*score=hallucination\+rate%3Dtrue[^"]*)"'
    behind, before = (html.unescape(found) for found in re.findall(link, page)[:2])
    for path, number in ((behind, 16), (before, 9)):
        assert len(set(re.findall(r"/traces/([0-9a-f]{32})", operator.get(path).text))) == number
    asked = operator.post(f"/evaluators/{made.id}/again", targets="20", times="2")
    assert asked.status_code == 303
    assert operator.post(f"/evaluators/{made.id}/again", targets="20", times="99").status_code == 400
    filled.transact(evaluators.remove, made.id)
