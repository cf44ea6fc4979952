"""Puts evaluation together for a worker: what judges are asked with, where their runs are recorded, the thread it is
done in."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from turntrace.evaluation.definition import Definition
from turntrace.integrations.hostcode import HostCode
from turntrace.integrations.judge import JudgeClient
from turntrace.integrations.judge_address import JudgeAddresses
from turntrace.integrations.presidio import build_analyzer
from turntrace.jobs.evaluate import Evaluation
from turntrace.jobs.judging import Means
from turntrace.jobs.runtrace import HasPricer, RunTraces, Unrecorded
from turntrace.jobs.schedule import cron_trigger
from turntrace.jobs.workbench import Workbench
from turntrace.keyring import KeyRing
from turntrace.pipeline.price import Pricer
from turntrace.pipeline.redact import TraceRedactor
from turntrace.records.evaluator import Verdict
from turntrace.settings import Settings
from turntrace.spool.memory import MemorySpool
from turntrace.spool.writer import SpoolWriter
from turntrace.storage.database import Database
from turntrace.storage.sealing import unseal
from turntrace.worker.comment import TAG_PURPOSE, VerdictRedactor
from turntrace.worker.judging import Appends, JudgeRecorder


@contextmanager
def evaluating(
    settings: Settings, database: Database, keys: KeyRing, spool: Path | MemorySpool, prices: HasPricer
) -> Iterator[None]:
    """Judgements that are due are made, in a thread of their own, for as long as the block runs.

    Args:
        spool: where the runs of judges are recorded.
        prices: has the price list of the moment.
    """
    if isinstance(spool, MemorySpool):
        with _thread(settings, database, keys, spool, prices):
            yield
        return
    writer = SpoolWriter(spool, keys, max_bytes=settings.spool_max_bytes)
    with closing(writer), _thread(settings, database, keys, writer, prices):
        yield


@contextmanager
def _thread(settings: Settings, database: Database, keys: KeyRing, spool: Appends, prices: HasPricer) -> Iterator[None]:
    with (
        closing(host_code(settings)) as code,
        closing(judge_client(settings, code)) as asks,
        redacting(settings, keys) as redact,
    ):
        recorder = JudgeRecorder(settings, spool)
        runs = RunTraces(recorder, prices)
        found = Means(asks=asks, runs=code, records=runs, unseal=partial(unseal, keys), redact=redact)
        evaluation = Evaluation(database, found, on_fault=recorder.count_fault)
        stop = threading.Event()
        thread = threading.Thread(target=evaluation.run, args=(stop,), name="turntrace-evaluation", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(settings.shutdown_seconds)


@contextmanager
def redacting(settings: Settings, keys: KeyRing) -> Iterator[Callable[[Verdict, str], Verdict]]:
    """What redacts verdicts, by an analysing process of its own that begins with the first text that needs one."""
    if settings.redaction == "off":
        yield lambda verdict, scope: verdict
        return
    analyzer = build_analyzer(settings)
    try:
        yield VerdictRedactor(TraceRedactor.of(settings, analyzer, key=keys.derive(TAG_PURPOSE)))
    finally:
        if analyzer is not None:
            analyzer.close()


def workbench(settings: Settings, keys: KeyRing) -> Workbench:
    """For panel and API: what a definition is checked against, and tried with. Nothing is recorded."""
    addresses, code = JudgeAddresses(settings.judge_allowed_hosts, settings.may_call), host_code(settings)

    def admit(definition: Definition) -> None:
        if definition.cron is not None:
            cron_trigger(definition.cron)
        if definition.function is not None:
            code.check(definition.function, field="$.code.function")
        if definition.judge is not None and definition.judge.callable is not None:
            code.check(definition.judge.callable, field="$.judge.callable")
        elif definition.judge is not None and definition.judge.base_url is not None:
            addresses.check(definition.judge.base_url)

    tools = Means(
        asks=JudgeClient(addresses, code.load), runs=code, records=Unrecorded(Pricer()), unseal=partial(unseal, keys)
    )
    return Workbench(admit=admit, means=tools)


def host_code(settings: Settings) -> HostCode:
    """The host's functions that the settings let evaluators call."""
    return HostCode(settings.evaluator_functions, settings.evaluator_database_url or settings.database_url)


def judge_client(settings: Settings, code: HostCode) -> JudgeClient:
    """Asks judges for a worker: many questions one after another."""
    addresses = JudgeAddresses(settings.judge_allowed_hosts, settings.may_call)
    return JudgeClient(addresses, code.load, keeps_open=True)
