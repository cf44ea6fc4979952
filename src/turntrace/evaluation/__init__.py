"""Judging turns: what an evaluator is, what it sees, what it may answer. Pure: no SQL, no HTTP, no clock."""
