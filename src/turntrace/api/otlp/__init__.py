"""The OTLP/HTTP receiver: spans and log records of other services and front ends, on their way to the spool."""

from turntrace.api.otlp.receiver import Receiver, ReceiverContext

__all__ = ["Receiver", "ReceiverContext"]
