"""The REST API: one thin module per noun, each parse → query or write → shape."""

from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp

from turntrace.api import (
    budgets,
    costs,
    erasures,
    evaluator_runs,
    evaluators,
    health,
    observations,
    openapi,
    prices,
    queues,
    repricing,
    scoreconfigs,
    scores,
    sessions,
    subjects,
    traces,
)
from turntrace.api.application import Application
from turntrace.api.context import ApiContext
from turntrace.api.endpoint import Endpoint

_NOUNS: Final[Sequence[Endpoint]] = (
    *traces.ENDPOINTS,
    *observations.ENDPOINTS,
    *sessions.ENDPOINTS,
    *subjects.ENDPOINTS,
    *erasures.ENDPOINTS,
    *scores.ENDPOINTS,
    *scoreconfigs.ENDPOINTS,
    *costs.ENDPOINTS,
    *prices.ENDPOINTS,
    *repricing.ENDPOINTS,
    *budgets.ENDPOINTS,
    *evaluators.ENDPOINTS,
    *evaluator_runs.ENDPOINTS,
    *queues.ENDPOINTS,
    *health.ENDPOINTS,
)
ENDPOINTS: Final[Sequence[Endpoint]] = (*_NOUNS, openapi.endpoint_of(_NOUNS))

__all__ = ["ENDPOINTS", "ApiContext", "build"]


def build(context: ApiContext) -> ASGIApp:
    """The API of a Turntrace as an ASGI application, closed by default: everything but `GET /health` needs a key."""
    return Application(context, ENDPOINTS)
