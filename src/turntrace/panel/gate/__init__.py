"""The gate in front of every page: closed by default; who may in, from where, and with which form.

Order, from outside in: recording off (`Unrecorded`), path put right (`FixRoot`), the host's router hidden (`Isolate`),
then either the REST API and the OTLP receiver (own keys, own headers) or security headers, `Gate`, the page.
"""

from turntrace.panel.gate.gate import Gate
from turntrace.panel.gate.headers import SecurityHeaders
from turntrace.panel.gate.proxy import FixRoot, Isolate
from turntrace.panel.gate.role import Role, Viewer

__all__ = ["FixRoot", "Gate", "Isolate", "Role", "SecurityHeaders", "Viewer"]
