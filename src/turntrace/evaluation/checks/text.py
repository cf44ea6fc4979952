"""Checks of what was said: patterns, phrases, JSON, length, language."""

import json
from collections.abc import Callable
from typing import Any, Final

import regex
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry

from turntrace.errors import EvaluationFailed
from turntrace.evaluation import language
from turntrace.evaluation.checks.finding import Check, CheckKind, Document, Finding
from turntrace.evaluation.options import Options
from turntrace.evaluation.template import compile_path, select, shown

# A pattern somebody typed must not be able to stop the worker.
REGEX_SECONDS: Final = 1.0
_FENCE: Final = regex.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", regex.DOTALL)


def _field(options: Options, default: str = "$.answer") -> Callable[[Document], str]:
    path = compile_path(options.text("path", default), field=f"{options.place}.path")
    return lambda document: shown(select(path, document))


def _regex(options: Options) -> Check:
    read = _field(options)
    flags = regex.IGNORECASE if options.flag("ignore_case", False) else 0
    try:
        pattern = regex.compile(options.text("pattern", most=2000), flags)
    except regex.error as error:
        raise options.refuse("pattern", f"no regular expression: {error}") from None

    def check(document: Document) -> Finding:
        try:
            found = pattern.search(read(document), timeout=REGEX_SECONDS)
        except TimeoutError:
            raise EvaluationFailed("regex_timeout", is_final=True) from None
        return Finding(flag=found is not None, reason=f"matches at {found.start()}" if found else "no match")

    return check


def _contains(options: Options) -> Check:
    read, mode = _field(options), options.choice("mode", ("any", "all", "none"), "any")
    folds = options.flag("ignore_case", True)
    wanted = [(text, text.casefold() if folds else text) for text in options.texts("texts")]

    def check(document: Document) -> Finding:
        said = read(document)
        said = said.casefold() if folds else said
        found = [text for text, folded in wanted if folded in said]
        flag = {"any": bool(found), "all": len(found) == len(wanted), "none": not found}[mode]
        return Finding(flag=flag, reason=f"found: {', '.join(found)[:300]}" if found else "none of the texts found")

    return check


def _json_schema(options: Options) -> Check:
    read, schema = _field(options), options.raw("schema", {})
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise options.refuse("schema", f"no JSON Schema (2020-12): {error.message[:200]}") from None
    # An empty registry: a `$ref` to elsewhere is never fetched.
    validator = Draft202012Validator(schema, registry=Registry())

    def check(document: Document) -> Finding:
        text = read(document)
        fenced = _FENCE.match(text)
        try:
            value = json.loads(fenced[1] if fenced else text)
        except ValueError as error:
            return Finding(flag=False, reason=f"not JSON: {str(error)[:100]}")
        wrong = next(validator.iter_errors(value), None)
        return Finding(flag=wrong is None, reason="fits" if wrong is None else f"{wrong.json_path} does not fit")

    return check


def _length(options: Options) -> Check:
    read, unit = _field(options), options.choice("unit", ("characters", "words"), "characters")
    low, high = options.number("min", 0), options.number("max", 1e12)

    def check(document: Document) -> Finding:
        text = read(document)
        n = len(text.split()) if unit == "words" else len(text)
        return Finding(flag=low <= n <= high, number=float(n), reason=f"{n:,} {unit}")

    return check


def _language(options: Options) -> Check:
    read = _field(options)
    wanted = options.texts("languages", is_required=False)
    unknown = [code for code in wanted if code not in language.CODES]
    if unknown:
        raise options.refuse("languages", f"expected codes of {', '.join(language.CODES)}")

    def check(document: Document) -> Finding | None:
        found = language.detect(read(document))
        if found is None:
            return None
        return Finding(flag=found in wanted if wanted else None, label=found, reason=f"reads as {found}")

    return check


_EXAMPLE_SCHEMA: Final[dict[str, Any]] = {"type": "object", "required": ["answer"]}
KINDS: Final = (
    CheckKind(name="regex", help="matches a regular expression", make=_regex, options={"pattern": r"\[kb-\d+\]"}),
    CheckKind(name="contains", help="has some phrases", make=_contains, options={"texts": ["thank you"]}),
    CheckKind(
        name="json_schema",
        help="is JSON that fits a schema",
        make=_json_schema,
        options={"schema": _EXAMPLE_SCHEMA},
    ),
    CheckKind(
        name="length",
        help="is not shorter or longer than",
        make=_length,
        data_types=("boolean", "numeric"),
        options={"max": 2000},
    ),
    CheckKind(
        name="language",
        help="is written in one of some languages",
        make=_language,
        data_types=("categorical", "boolean"),
        options={"languages": ["en"]},
    ),
)
