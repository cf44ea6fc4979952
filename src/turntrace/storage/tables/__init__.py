"""Every table of Turntrace, declared in the modules, one noun a file.

`metadata` is our own, apart from the host's. The migrations build what stands here, and a test compares.
"""

from turntrace.storage.tables.alert import alert, alert_rule, probe
from turntrace.storage.tables.column import PREFIX, metadata
from turntrace.storage.tables.dataset import dataset, dataset_item, experiment, experiment_run, run_item
from turntrace.storage.tables.erasure import erasure, fence, tombstone
from turntrace.storage.tables.outbound import destination, outbound
from turntrace.storage.tables.people import (
    account,
    api_key,
    audit,
    login_attempt,
    panel_session,
    price,
    saved_view,
)
from turntrace.storage.tables.progress import job_run, lease, loss, process, segment, setting
from turntrace.storage.tables.prompt import prompt, prompt_label, prompt_version
from turntrace.storage.tables.quality import (
    annotation_queue,
    backfill,
    budget,
    comment,
    evaluation,
    evaluator,
    evaluator_version,
    queue_item,
    score_config,
)
from turntrace.storage.tables.residence import stray
from turntrace.storage.tables.rollup import histogram, rollup
from turntrace.storage.tables.spending import spending, spending_rule
from turntrace.storage.tables.trace import content, observation, received, sampled, score, session, trace

VERSION_TABLE = PREFIX + "alembic_version"

__all__ = [
    "PREFIX",
    "VERSION_TABLE",
    "account",
    "alert",
    "alert_rule",
    "annotation_queue",
    "api_key",
    "audit",
    "backfill",
    "budget",
    "comment",
    "content",
    "dataset",
    "dataset_item",
    "destination",
    "erasure",
    "evaluation",
    "evaluator",
    "evaluator_version",
    "experiment",
    "experiment_run",
    "fence",
    "histogram",
    "job_run",
    "lease",
    "login_attempt",
    "loss",
    "metadata",
    "observation",
    "outbound",
    "panel_session",
    "price",
    "probe",
    "process",
    "prompt",
    "prompt_label",
    "prompt_version",
    "queue_item",
    "received",
    "rollup",
    "run_item",
    "sampled",
    "saved_view",
    "score",
    "score_config",
    "segment",
    "session",
    "setting",
    "spending",
    "spending_rule",
    "stray",
    "tombstone",
    "trace",
]
