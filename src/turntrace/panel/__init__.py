"""The panel: `build(context)` gives one ASGI application, to be mounted anywhere in a host."""

from turntrace.panel.application import build
from turntrace.panel.context import PanelContext

__all__ = ["PanelContext", "build"]
