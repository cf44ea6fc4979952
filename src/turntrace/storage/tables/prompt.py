"""Prompts, their immutable versions, and the labels that point to one."""

from typing import Final

from sqlalchemy import String

from turntrace.storage.tables import length
from turntrace.storage.tables.column import Count, Flag, Instant, LongText, Word, column, fixed, index, optional, table

# A named prompt.
prompt: Final = table(
    "prompt",
    column("id", fixed(32), primary_key=True),
    column("name", String(length.PROMPT)),
    optional("description", LongText),
    column("is_archived", Flag),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("prompt_name", "name", unique=True),
)

# One numbered, immutable text (`kind` text) or list of messages (`kind` chat, JSON) with its configuration.
prompt_version: Final = table(
    "prompt_version",
    column("prompt_id", fixed(32), primary_key=True),
    column("version", Count, primary_key=True, autoincrement=False),
    column("kind", Word),
    column("body", LongText),
    optional("config", LongText),  # JSON
    optional("commit_message", LongText),
    column("content_hash", fixed(64)),
    optional("author", String(length.NAME)),
    column("created_at_us", Instant),
)

# A movable pointer such as `production`; `weight` splits traffic between labels of one group.
prompt_label: Final = table(
    "prompt_label",
    column("prompt_id", fixed(32), primary_key=True),
    column("label", String(64), primary_key=True),
    column("version", Count),
    optional("author", String(length.NAME)),
    column("updated_at_us", Instant),
)
