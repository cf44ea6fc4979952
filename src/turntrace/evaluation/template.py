"""Prompt templates: `{{name}}`, each name mapped by a JSONPath (RFC 9535) to a part of the document that is judged."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jsonpath_rfc9535
from jsonpath_rfc9535 import JSONPathError, JSONPathQuery

from turntrace.errors import InvalidInput

_NAME: Final = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
MOST_CHARACTERS: Final = 60_000  # of one variable: head and tail are kept

# Used where a definition maps no variables itself; see `evaluation.document` for what the document holds.
STANDARD: Final[Mapping[str, str]] = {
    "input": "$.input",
    "output": "$.output",
    "question": "$.question",
    "answer": "$.answer",
    "context": "$.context",
    "expected": "$.expected",
    "transcript": "$.transcript",
    "tools": "$.tool_definitions",
    "tool_calls": "$.tool_calls",
}


@dataclass(frozen=True, slots=True)
class Template:
    """A text with variables, checked."""

    text: str
    paths: Mapping[str, JSONPathQuery]

    def render(self, document: Any) -> str:
        """The text with every variable replaced; what stands in the document is never looked at for variables."""
        return _NAME.sub(lambda found: shown(select(self.paths[found[1]], document)), self.text)


def compile_template(text: str, variables: Mapping[str, str] | None, *, field: str = "$.prompt") -> Template:
    """A checked template.

    Raises:
        InvalidInput: a name nobody maps, or a path that does not parse; `field` of the error says where.
    """
    mapped = STANDARD if variables is None else variables
    paths: dict[str, JSONPathQuery] = {}
    for name, path in mapped.items():
        if not _PLAIN.match(name):
            raise InvalidInput(f"variables: {name[:40]!r} is no name of a variable", field=f"$.variables.{name[:40]}")
        paths[name] = compile_path(path, field=f"$.variables.{name}")
    for name in _NAME.findall(text):
        if name not in paths:
            known = ", ".join(sorted(paths))
            raise InvalidInput(
                f"the prompt names {{{{{name[:40]}}}}}, which is not mapped; known: {known}", field=field
            )
    return Template(text, {name: paths[name] for name in set(_NAME.findall(text))})


def compile_path(path: str, *, field: str) -> JSONPathQuery:
    """A checked JSONPath.

    Raises:
        InvalidInput: it does not parse.
    """
    try:
        return jsonpath_rfc9535.compile(path)
    except (JSONPathError, RecursionError) as error:
        raise InvalidInput(f"{path[:80]!r} is no JSONPath (RFC 9535): {str(error)[:120]}", field=field) from None


def select(path: JSONPathQuery, document: Any) -> Any:
    """What a path finds: the value where it is one, a list where there are several, None where there is none."""
    found = path.find(document).values()
    return found[0] if len(found) == 1 else (found or None)


def shown(value: Any) -> str:
    """A value as a model reads it, cut in the middle where it is very long."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False, indent=1)
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"
