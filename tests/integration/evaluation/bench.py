"""Evaluators on a real database: turns stored as the worker does, judgements made as the worker does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select

from tests.integration.turns import turn
from turntrace.errors import EvaluationFailed
from turntrace.evaluation.definition import read_definition
from turntrace.evaluation.judge import JudgeAnswer, JudgeSpec
from turntrace.evaluation.shape import ScoreShape
from turntrace.jobs import planning
from turntrace.jobs.evaluate import Evaluation
from turntrace.jobs.judging import Means
from turntrace.records.batch import Batch, Worked
from turntrace.records.evaluator import Evaluator, Verdict
from turntrace.records.fragment import FrameKind
from turntrace.records.score import Score
from turntrace.records.trace import Trace
from turntrace.storage import evaluators, tables
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database
from turntrace.storage.queries.scores import ScoreFilter, list_scores

NOW_US = 1_795_200_000_000_000
MINUTE_US = 60_000_000

CHECK: Mapping[str, Any] = {
    "name": "says vinegar",
    "kind": "check",
    "check": {"name": "contains", "texts": ["vinegar"]},
}
JUDGE: Mapping[str, Any] = {
    "name": "helpful",
    "kind": "judge",
    "judge": {"base_url": "http://127.0.0.1:9/v1", "model": "small"},
    "prompt": "Is it? {{answer}}",
    "score": {"data_type": "numeric", "min": 0, "max": 1},
}


class Recorded:
    """A run of a judge that leaves no trace."""

    turn_id = "f" * 32

    def answered(self, answer: JudgeAnswer) -> int | None:
        return 2_000_000

    def judged(self, verdict: Verdict) -> None:
        pass


@contextmanager
def no_trace(name: str, spec: JudgeSpec, prompt: str, tags: tuple[str, ...], depth: int) -> Iterator[Recorded]:
    yield Recorded()


class Judge:
    """A judge whose answers are given beforehand; the last one is given again and again."""

    def __init__(self, *answers: str | EvaluationFailed) -> None:
        self.answers, self.prompts = list(answers), []  # type: ignore[var-annotated]

    def __call__(self, spec: JudgeSpec, api_key: str | None, prompt: str, shape: ScoreShape) -> JudgeAnswer:
        self.prompts.append(prompt)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, EvaluationFailed):
            raise answer
        return JudgeAnswer(text=answer)


def means(judge: Any = None, code: Any = None) -> Means:
    return Means(asks=judge or Judge("{}"), runs=code, records=no_trace, unseal=lambda text: text)


def add(database: Database, values: Mapping[str, Any], *, now_us: int = NOW_US - MINUTE_US) -> Evaluator:
    definition, _ = read_definition(values)
    return database.transact(
        evaluators.create, definition.source, is_enabled=True, sealed=None, author=None, now_us=now_us
    )


def put(database: Database, *traces: Trace, at_us: int = NOW_US) -> None:
    """Store turns that have ended."""
    worked = tuple(Worked(kind=FrameKind.END, trace=trace) for trace in traces)
    write_batch(database, Batch(worked=worked), now_us=at_us)


def some(n: int, **fields: Any) -> list[Trace]:
    return [turn(started_at_us=NOW_US - n + index, **fields) for index in range(n)]


def evaluate(database: Database, evaluator: Evaluator, with_means: Means, *, now_us: int = NOW_US + MINUTE_US) -> int:
    """One slot of the schedule and all that is due after it."""
    planning.plan(database, evaluator, now_us=now_us)
    evaluation = Evaluation(database, with_means, wall=lambda: now_us)
    try:
        return evaluation.step()
    finally:
        evaluation.close()


def scores(database: Database) -> list[Score]:
    with database.read() as connection:
        return list(list_scores(connection, ScoreFilter(), limit=1000).items)


def rows(database: Database, name: str = "evaluation") -> list[dict[str, Any]]:
    table = tables.metadata.tables[tables.PREFIX + name]
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]
