"""Stored turns as OTLP: an `ExportTraceServiceRequest`, named by the current GenAI conventions. Pure."""

from turntrace.pipeline.outbound.request import encode

__all__ = ["encode"]
