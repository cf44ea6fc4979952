"""Attribute names that Turntrace reads or writes, by group. Append only; groups and names in alphabetical order.

Sources: OpenTelemetry semantic conventions (general, gen_ai), OpenInference, and the vendors named in the group.
"""

from typing import Final

# Spans with an attribute under any of these belong to an LLM turn.
AI_PREFIXES: Final = ("ai.", "gen_ai.", "langfuse.", "llm.", "mcp.", "mlflow.", "openinference.", "traceloop.")

# exception.*: events of `record_exception`
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
EXCEPTION_TYPE: Final = "exception.type"

# session.*, user.*: whose turn it is
ENDUSER_ID: Final = "enduser.id"
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"
