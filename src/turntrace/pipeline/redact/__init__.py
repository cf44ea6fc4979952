"""The last text stage of the pipeline: personal data out, structure kept, closed on failure. Pure.

`TraceRedactor` walks traces and asks an injected `Analyzer`; `number_tags` turns stored placeholders into shown ones.
"""

from turntrace.pipeline.redact.analysis import Analyzer, Entity, Failure, settle
from turntrace.pipeline.redact.redactor import TraceRedactor, marker
from turntrace.pipeline.redact.rule import Rule
from turntrace.pipeline.redact.tag import Tagger, label, number_tags

__all__ = [
    "Analyzer",
    "Entity",
    "Failure",
    "Rule",
    "Tagger",
    "TraceRedactor",
    "label",
    "marker",
    "number_tags",
    "settle",
]
