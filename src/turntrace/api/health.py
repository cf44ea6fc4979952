"""`/health` and `/loss`."""

from collections.abc import Sequence
from typing import Final

from turntrace.api import shape
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.schema import record, reference, text


async def _health(call: Call) -> Answer:
    return Answer({"status": "ok"})


async def _loss(call: Call) -> Answer:
    return Answer(shape.loss_of(await call.run(call.context.loss)))


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="GET",
        path="/health",
        name="getHealth",
        summary="The process answers; no data in it",
        handle=_health,
        scopes=(),
        answers={200: ("alive", record({"status": text(enum=["ok"])}))},
    ),
    Endpoint(
        method="GET",
        path="/loss",
        name="getLoss",
        summary="The loss balance: accepted = stored + sampled + erased + dropped + in_spool",
        handle=_loss,
        answers={200: ("turns", reference("Loss"))},
    ),
)
