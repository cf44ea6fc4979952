"""The OpenAPI 3.1 document, made from the declarations that the routes are made from."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from turntrace.api.components import COMPONENTS
from turntrace.api.endpoint import Endpoint
from turntrace.api.parameter import Parameter
from turntrace.api.problem import MEDIA_TYPE
from turntrace.api.schema import Schema, reference
from turntrace.version import __version__

_CONVERTOR: Final = re.compile(r":\w+(?=\})")
_PROBLEMS: Final = {
    400: "a parameter or the body is unusable",
    401: "no valid key",
    403: "the key lacks the scope",
    404: "there is no such record",
    409: "several turns share the id, or the record belongs to somebody else",
    413: "the body is too large",
    415: "the media type is not supported",
    503: "the database cannot be reached or its schema is out of date",
}


def document(endpoints: Sequence[Endpoint], *, server: str) -> Mapping[str, Any]:
    """The document for an API that is mounted at `server`."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(_CONVERTOR.sub("", endpoint.path), {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Turntrace",
            "version": __version__,
            "summary": "What the LLM features of this application really do: traces, sessions, costs and scores.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": server or "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": dict(COMPONENTS),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key made by `turntrace keys create`, with scopes.",
                }
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    wanted = " and ".join([" or ".join(endpoint.scopes), *endpoint.besides])
    scopes = f"Scope: {wanted}." if endpoint.scopes else "Needs no key."
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "description": scopes,
        "parameters": [*_path_parameters(endpoint), *(_parameter(item) for item in endpoint.parameters)],
        "responses": _responses(endpoint),
    }
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": endpoint.body}}}
    if not endpoint.scopes:
        operation["security"] = []
    return operation


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in endpoint.path_parameters.items()
    ]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: Schema = parameter.schema
    if parameter.is_repeatable:
        schema = {"type": "array", "items": schema}
    return {"name": parameter.name, "in": "query", "description": parameter.description, "schema": schema}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    found = {
        str(status): {"description": text, "content": {"application/json": {"schema": schema}}}
        for status, (text, schema) in endpoint.answers.items()
    }
    for status in _problems(endpoint):
        content = {MEDIA_TYPE: {"schema": reference("Problem")}}
        found[str(status)] = {"description": _PROBLEMS[status], "content": content}
    return found


def _problems(endpoint: Endpoint) -> list[int]:
    if not endpoint.scopes:
        return [400]
    found = [400, 401, 403, 503]
    if endpoint.path_parameters or endpoint.body is not None:
        found.append(404)
    if endpoint.body is not None:
        found += [409, 413, 415]
    if "session_id" in endpoint.path_parameters:
        found.append(409)
    return sorted(found)
