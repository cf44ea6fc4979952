"""`/openapi.json`."""

from collections.abc import Sequence
from typing import Final

from turntrace.api.document import document
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.schema import free


def endpoint_of(others: Sequence[Endpoint]) -> Endpoint:
    """The endpoint that describes the others and itself."""

    async def get(call: Call) -> Answer:
        return Answer(document((*others, found), server=call.request.scope.get("root_path", "")))

    found: Final = Endpoint(
        method="GET",
        path="/openapi.json",
        name="getOpenApi",
        summary="This document, OpenAPI 3.1",
        handle=get,
        scopes=("read", "write", "feedback", "erase", "ingest"),
        answers={200: ("the document", free())},
    )
    return found
