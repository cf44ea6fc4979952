"""sqladmin's lists and forms of small entities (API keys, people, prices), in our own templates, behind our gate."""

from turntrace.panel.views.site import add_admin

__all__ = ["add_admin"]
