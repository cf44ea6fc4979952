"""The OpenAPI document and the routes are one thing."""

from typing import Any

import httpx
import pytest

from turntrace import api
from turntrace.api.components import COMPONENTS
from turntrace.api.document import document

pytestmark = pytest.mark.anyio


async def test_every_call_is_in_the_document_and_answers(client: httpx.AsyncClient) -> None:
    found = (await client.get("/openapi.json")).json()
    assert found["openapi"] == "3.1.0"
    declared = {(item.method, item.path.replace(":path", "")) for item in api.ENDPOINTS}
    written = {(method.upper(), path) for path, item in found["paths"].items() for method in item}
    assert declared == written
    for method, path in written:
        filled = path.replace("{", "").replace("}", "")
        answer = await client.request(method, filled)
        # whatever it answers, it is the call that answers and not the router
        is_routed = answer.status_code != 405 and "no-such-call" not in answer.text
        assert is_routed, (method, path)
        assert str(answer.status_code) in found["paths"][path][method.lower()]["responses"], (method, path)


def test_every_reference_and_every_operation_is_sound() -> None:
    found = document(api.ENDPOINTS, server="/llm-admin/api/v1")
    names: list[str] = []
    for path, item in found["paths"].items():
        for operation in item.values():
            names.append(operation["operationId"])
            in_path = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}
            assert operation["responses"]
    assert len(names) == len(set(names))
    assert {text.rpartition("/")[2] for text in _references(found)} <= set(COMPONENTS)
    assert found["servers"] == [{"url": "/llm-admin/api/v1"}]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [text for item in value.values() for text in _references(item)]
    if isinstance(value, list):
        return [text for item in value for text in _references(item)]
    return []
