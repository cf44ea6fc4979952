"""The worker: tails the spool, runs the pipeline, commits batches. The same code in a process, a thread or outside.

`supervisor` and `status` are for the web process and load nothing heavy; `loop` is the worker itself.
"""
