"""The durable queue between capture and worker: append-only, encrypted segment files, one directory per process.

What is promised on disk stands in `frame.py`; nothing here knows what a payload means.
"""
