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

# error.*, http.*: what failed, and the request of a turn
ERROR_TYPE: Final = "error.type"
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"

# gen_ai.*: written by the current conventions (what is read, older spellings included, stands in `pipeline/convert`)
AGENT_NAME: Final = "gen_ai.agent.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
DATA_SOURCE_ID: Final = "gen_ai.data_source.id"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OPERATION_NAME: Final = "gen_ai.operation.name"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
OUTPUT_TYPE: Final = "gen_ai.output.type"
PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VARIABLE: Final = "gen_ai.prompt.variable."
PROMPT_VERSION: Final = "gen_ai.prompt.version"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST: Final = "gen_ai.request."
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_TIER: Final = "openai.response.service_tier"
RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"
RETRIEVAL_QUERY: Final = "gen_ai.retrieval.query.text"
RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"  # seconds
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
TOOL_NAME: Final = "gen_ai.tool.name"
USAGE: Final[dict[str, str]] = {  # by field of `Usage`
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "input_audio_tokens": "gen_ai.usage.audio.input_tokens",
    "output_audio_tokens": "gen_ai.usage.audio.output_tokens",
}
USAGE_AGGREGATED: Final = "gen_ai.aggregated_usage."
USAGE_COST: Final = "gen_ai.usage.cost"  # of no convention, but widely read: US dollars
WORKFLOW_NAME: Final = "gen_ai.workflow.name"

# input.*, output.* (OpenInference): what goes in and out of a step that the conventions have no attribute for
INPUT_MIME_TYPE: Final = "input.mime_type"
INPUT_VALUE: Final = "input.value"
OUTPUT_MIME_TYPE: Final = "output.mime_type"
OUTPUT_VALUE: Final = "output.value"

# Read by Langfuse and Phoenix where the conventions have no name or no value for it
LANGFUSE_FIRST_AT: Final = "langfuse.observation.completion_start_time"  # ISO 8601
LANGFUSE_TAGS: Final = "langfuse.trace.tags"
OPENINFERENCE_KIND: Final = "openinference.span.kind"

# resource: what recorded the turn
DISTRO_NAME: Final = "telemetry.distro.name"
DISTRO_VERSION: Final = "telemetry.distro.version"
ENVIRONMENT: Final = "deployment.environment.name"
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"

# turntrace.*: what no convention has a name for, so that another Turntrace reads the same observation
LOG_BODY: Final = "turntrace.log.body"  # of a log record that travels as an event of its span
OWN_PREFIX: Final = "turntrace.observation."
OWN_TYPE: Final = "turntrace.observation.type"
TURN_ID: Final = "turntrace.turn.id"
TURN_PREFIX: Final = "turntrace.turn."
