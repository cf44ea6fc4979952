"""What clients are answered when a budget refuses, by the handlers of FastAPI/Starlette and Flask."""

import json

import flask
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient

from turntrace import BudgetExceeded, BudgetUnavailable
from turntrace.budgets import answer, answer_flask, answer_starlette
from turntrace.records.budget import renews_at_us, starts_at_us

RENEWS = 1_795_219_200_000_000  # 2026-11-21T00:00:00Z


def _refused() -> BudgetExceeded:
    return BudgetExceeded("secret plan", scope="user", period="day", renews_at_us=RENEWS, retry_after_seconds=3600)


async def _raise_starlette(request: Request) -> None:
    raise _refused()


def test_starlette_answers_429_with_the_time_of_renewal() -> None:
    app = Starlette(routes=[Route("/ask", _raise_starlette)], exception_handlers={BudgetExceeded: answer_starlette})
    response = TestClient(app).get("/ask")
    assert (response.status_code, response.headers["retry-after"]) == (429, "3600")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["renews_at"] == "2026-11-21T00:00:00Z"
    assert "secret plan" not in response.text


def test_flask_answers_429_with_the_time_of_renewal() -> None:
    app = flask.Flask("ask")
    app.register_error_handler(BudgetExceeded, answer_flask)

    @app.get("/ask")
    def ask() -> str:
        raise _refused()

    response = app.test_client().get("/ask")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "3600")
    assert json.loads(response.data)["renews_at"] == "2026-11-21T00:00:00Z"


def test_budgets_that_cannot_be_checked_are_503() -> None:
    body, status, headers = answer(BudgetUnavailable())
    assert (status, headers["Retry-After"], json.loads(body)["status"]) == (503, "5", 503)


def test_other_errors_are_not_answered() -> None:
    with pytest.raises(TypeError):
        answer(ValueError())


@pytest.mark.parametrize(
    ("period", "start", "renewal"),
    [
        ("hour", 1_795_168_800_000_000, 1_795_172_400_000_000),
        ("day", 1_795_132_800_000_000, 1_795_219_200_000_000),
        ("month", 1_793_491_200_000_000, 1_796_083_200_000_000),
    ],
)
def test_periods_begin_and_renew_in_utc(period: str, start: int, renewal: int) -> None:
    at_us = 1_795_168_800_000_000 + 61_000_000  # 2026-11-20T10:01:01Z
    assert (starts_at_us(period, at_us), renews_at_us(period, at_us)) == (start, renewal)
