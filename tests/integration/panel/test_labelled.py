"""How many verdicts people judged as well is read once a minute, not for every list."""

from tests.integration.turns import START_US, store, turn
from turntrace.panel.labelled import EVERY_SECONDS, Labelled
from turntrace.records.score import Score
from turntrace.storage import scores
from turntrace.storage.database import Database

NOW_US = START_US + 60_000_000


def _judge(database: Database, turn_id: str, source: str, name: str = "grounded") -> None:
    score = Score(
        id=f"{source}-{name}",
        name=name,
        value=True,
        data_type="boolean",
        source=source,  # type: ignore[arg-type]
        turn_id=turn_id,
        evaluator="grounder" if source == "evaluator" else None,
        evaluator_version=1 if source == "evaluator" else None,
        author="ada" if source == "human" else None,
    )
    database.transact(scores.upsert, score, now_us=NOW_US)


def test_the_counts_are_a_minute_old_at_the_most(database: Database) -> None:
    now = [100.0]
    labelled = Labelled(clock=lambda: now[0])
    judged = turn()
    store(database, judged)
    _judge(database, judged.id, "evaluator")
    assert labelled.counts(database, now_us=NOW_US) == {}
    _judge(database, judged.id, "human")
    _judge(database, judged.id, "human", "polite")  # no verdict of this name
    now[0] += EVERY_SECONDS - 1
    assert labelled.counts(database, now_us=NOW_US) == {}
    now[0] += 1
    assert labelled.counts(database, now_us=NOW_US) == {("grounded", "grounder"): 1}
