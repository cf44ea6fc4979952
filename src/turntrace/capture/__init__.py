"""Where requests enter: the raw ASGI and WSGI middleware. Knows no SQL, no storage and no web framework."""
