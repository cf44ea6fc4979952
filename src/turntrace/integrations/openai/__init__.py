"""Our own thin tracing of the official OpenAI client; see `switch` for where it takes hold.

Needs `openai` only when it is switched on. What it records are observations of ours, so they carry usage and cost
whatever OpenTelemetry set-up the host has.
"""
