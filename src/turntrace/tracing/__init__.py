"""The path of a turn inside the host: the turn itself, its observations, and the bridge to OpenTelemetry's API.

Nothing here imports OpenTelemetry's SDK, a web framework or SQL; frames leave through the `Recorder` protocol.
"""
