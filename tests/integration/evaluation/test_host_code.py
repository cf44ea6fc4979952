"""Functions of the host: they read the real rows and cannot write; their faults are errors of the run."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from tests.integration.evaluation.bench import add, evaluate, means, put, rows, scores, some
from turntrace.errors import EvaluationFailed
from turntrace.evaluating import redacting
from turntrace.integrations.hostcode import HostCode
from turntrace.keyring import KeyRing
from turntrace.records.evaluator import Verdict
from turntrace.settings import Secret, Settings
from turntrace.storage.database import Database

HERE = "tests.integration.evaluation.host_functions"
NAMES = tuple(f"{HERE}:{name}" for name in ("looks_up", "writes", "fails", "is_not_there"))


@pytest.fixture
def code(database: Database) -> Iterator[HostCode]:
    """The host's functions over a table of the host's."""
    engine = create_engine(database.url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE shop (question VARCHAR(200), answer VARCHAR(200))"))
        connection.execute(text("INSERT INTO shop VALUES ('How do I descale the kettle?', 'vinegar')"))
    found = HostCode(NAMES, Secret(database.url.render_as_string(hide_password=False)))
    yield found
    found.close()
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE shop"))
    engine.dispose()


def evaluator(function: str) -> dict[str, Any]:
    return {"name": function, "kind": "code", "code": {"function": f"{HERE}:{function}"}}


def test_an_answer_is_checked_against_the_real_rows(database: Database, code: HostCode) -> None:
    made = add(database, evaluator("looks_up"))
    put(database, *some(1), *some(1, output="With lemon."), *some(1, input="Who are you?"))
    assert evaluate(database, made, means(code=code)) == 3
    found = scores(database)
    assert sorted(score.value for score in found) == [False, True]
    assert {score.comment for score in found} == {"the shop says vinegar"}
    assert sorted(row["status"] for row in rows(database)) == ["done", "done", "skipped"]


def test_what_a_function_knows_of_people_is_redacted_before_it_is_stored(database: Database, code: HostCode) -> None:
    """The host's rows are not redacted, and its function may quote them; wired as the worker wires it."""
    with database.write() as c:
        c.execute(text("UPDATE shop SET answer = 'vinegar, says anna.mourik@example.com'"))
    made = add(database, evaluator("looks_up"))
    put(database, *some(1))
    with redacting(Settings(redaction_seconds=30), KeyRing([b"k" * 32], is_explicit=True)) as redact:
        assert evaluate(database, made, replace(means(code=code), redact=redact)) == 1
    (score,) = scores(database)
    assert score.comment is not None
    assert score.comment.startswith("the shop says vinegar, says <EMAIL_")
    with redacting(Settings(content="full", redaction="off"), KeyRing([b"k" * 32], is_explicit=True)) as redact:
        assert redact(Verdict(value=1.0, reason="a@b.example"), "").reason == "a@b.example"


def test_the_session_cannot_write(database: Database, code: HostCode) -> None:
    made = add(database, evaluator("writes"))
    put(database, *some(1))
    evaluate(database, made, means(code=code))
    assert scores(database) == []
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT answer FROM shop").scalar() == "vinegar"


def test_a_fault_is_an_error_of_the_run_without_its_text(database: Database, code: HostCode) -> None:
    made = add(database, evaluator("fails"))
    put(database, *some(1))
    evaluate(database, made, means(code=code))
    (row,) = rows(database)
    assert (row["status"], row["error_type"], row["score_id"]) == ("pending", "ValueError", None)


def test_what_the_settings_do_not_name_is_not_called() -> None:
    code = HostCode(NAMES, None)
    with pytest.raises(EvaluationFailed, match="function_not_allowed"):
        code("os:getcwd", {})
    with pytest.raises(EvaluationFailed, match="function_not_importable"):
        code(f"{HERE}:is_not_there", {})
