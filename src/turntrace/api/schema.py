"""The small part of JSON Schema 2020-12 that the API declares its bodies and answers with, and the check against it."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

_PYTHON: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


class Mismatch(Exception):
    """A value does not fit its schema. `path` is where (JSON path), `reason` what was expected."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def text(description: str = "", **more: Any) -> Schema:
    """A string."""
    return _described({"type": "string", **more}, description)


def number(description: str = "", **more: Any) -> Schema:
    """A number."""
    return _described({"type": "number", **more}, description)


def integer(description: str = "", **more: Any) -> Schema:
    """A whole number."""
    return _described({"type": "integer", **more}, description)


def boolean(description: str = "") -> Schema:
    """True or false."""
    return _described({"type": "boolean"}, description)


def moment(description: str = "") -> Schema:
    """A time in RFC 3339."""
    return text(description, format="date-time")


def money(description: str = "US dollars, exact") -> Schema:
    """An exact decimal string."""
    return text(description, pattern=r"^-?[0-9]+(\.[0-9]+)?$")


def listing(items: Schema, description: str = "") -> Schema:
    """An array."""
    return _described({"type": "array", "items": items}, description)


def record(properties: Mapping[str, Schema], *, required: tuple[str, ...] | None = None, **more: Any) -> Schema:
    """An object with these members only; all are required unless said otherwise."""
    names = tuple(properties) if required is None else required
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(names),
        "additionalProperties": False,
        **more,
    }


def free(description: str = "") -> Schema:
    """An object with any members."""
    return _described({"type": "object"}, description)


def anything(description: str = "") -> Schema:
    """Any JSON value."""
    return _described({}, description)


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    if "type" not in schema:
        return schema
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    changed = {**schema, "type": [*kinds, "null"]}
    return {**changed, "enum": [*schema["enum"], None]} if "enum" in schema else changed


def reference(name: str) -> Schema:
    """A schema of the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def _described(schema: dict[str, Any], description: str) -> Schema:
    return {**schema, "description": description} if description else schema


def check(value: Any, schema: Schema, components: Mapping[str, Schema] | None = None, path: str = "$") -> None:
    """Check a JSON value against a schema.

    Raises:
        Mismatch: at the first place that does not fit.
    """
    if "$ref" in schema:
        schema = (components or {})[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return _check_any(value, schema["anyOf"], components, path)
    _check_type(value, schema, path)
    if "enum" in schema and value not in schema["enum"]:
        raise Mismatch(path, f"expected one of {', '.join(str(item) for item in schema['enum'])}")
    if isinstance(value, str):
        _check_text(value, schema, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_number(value, schema, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check(item, schema.get("items", {}), components, f"{path}[{index}]")
    elif isinstance(value, dict):
        _check_members(value, schema, components, path)


def _check_any(value: Any, choices: list[Schema], components: Mapping[str, Schema] | None, path: str) -> None:
    first: Mismatch | None = None
    for choice in choices:
        try:
            return check(value, choice, components, path)
        except Mismatch as mismatch:
            first = first or mismatch
    raise first or Mismatch(path, "nothing is allowed here")


def _check_type(value: Any, schema: Schema, path: str) -> None:
    declared = schema.get("type")
    if declared is None:
        return
    kinds = declared if isinstance(declared, list) else [declared]
    for kind in kinds:
        # bool is an int to Python, not to JSON
        if isinstance(value, _PYTHON[kind]) and (kind == "boolean" or not isinstance(value, bool)):
            return
    raise Mismatch(path, f"expected {' or '.join(kinds)}")


def _check_text(value: str, schema: Schema, path: str) -> None:
    if "\x00" in value:  # no database of ours but SQLite stores it
        raise Mismatch(path, "the character U+0000 is not allowed")
    if len(value) < schema.get("minLength", 0):
        raise Mismatch(path, f"expected at least {schema['minLength']} characters")
    if len(value) > schema.get("maxLength", math.inf):
        raise Mismatch(path, f"expected at most {schema['maxLength']} characters, got {len(value)}")
    if "pattern" in schema and not re.search(schema["pattern"].replace("$", r"\Z"), value):
        raise Mismatch(path, f"expected the form {schema['pattern']}")


def _check_number(value: float, schema: Schema, path: str) -> None:
    if not math.isfinite(value):
        raise Mismatch(path, "expected a finite number")
    if value < schema.get("minimum", -math.inf) or value > schema.get("maximum", math.inf):
        raise Mismatch(path, f"expected {schema.get('minimum', '')}..{schema.get('maximum', '')}")


def _check_members(value: dict[str, Any], schema: Schema, components: Mapping[str, Schema] | None, path: str) -> None:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        raise Mismatch(path, f"missing {', '.join(missing)}")
    rest = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in properties:
            check(item, properties[name], components, f"{path}.{name}")
        elif rest is False:
            raise Mismatch(path, f"unknown member {name!r}; known: {', '.join(properties)}")
        elif isinstance(rest, Mapping):
            check(item, rest, components, f"{path}.{name}")
