"""One worker process that judges what is due in a database until it is killed."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from turntrace.evaluation.judge import JudgeAnswer, JudgeSpec
from turntrace.evaluation.shape import ScoreShape
from turntrace.jobs.evaluate import Evaluation
from turntrace.jobs.judging import Means
from turntrace.records.evaluator import Verdict
from turntrace.storage.database import Database

LEASE_US = 3_000_000


class Recorded:
    """A run that leaves no trace but its cost."""

    turn_id = None

    def answered(self, answer: JudgeAnswer) -> int | None:
        return 1_000_000

    def judged(self, verdict: Verdict) -> None:
        pass


@contextmanager
def record(name: str, spec: JudgeSpec, prompt: str, tags: tuple[str, ...], depth: int) -> Iterator[Recorded]:
    yield Recorded()


def ask(spec: JudgeSpec, api_key: str | None, prompt: str, shape: ScoreShape) -> JudgeAnswer:
    """A judge that takes 20 ms."""
    time.sleep(0.02)
    return JudgeAnswer(text='{"reason": "so it is", "score": 1}')


def judge_until_killed(url: str) -> None:
    """The whole life of the process."""
    database = Database(url)
    means = Means(asks=ask, runs=lambda function, document: None, records=record, unseal=lambda text: text)
    Evaluation(database, means, concurrency=4, lease_us=LEASE_US).run(threading.Event())
