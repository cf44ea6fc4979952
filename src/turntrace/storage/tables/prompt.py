"""Prompts, their immutable versions, and the labels that point to one."""

from typing import Final

from sqlalchemy import String

from turntrace.storage.tables import length
from turntrace.storage.tables.column import (
    Count,
    Flag,
    Instant,
    LongText,
    Row,
    Word,
    column,
    fixed,
    index,
    optional,
    options,
    table,
)


class PromptRow(Row, table=True):
    """A named prompt."""

    __table_args__ = options(index("prompt_name", "name", unique=True))

    id: str = column(fixed(32), primary_key=True)
    name: str = column(String(length.PROMPT))
    description: str | None = optional(LongText)
    is_archived: bool = column(Flag)
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


class PromptVersionRow(Row, table=True):
    """One numbered, immutable text (`kind` text) or list of messages (`kind` chat, JSON) with its configuration."""

    prompt_id: str = column(fixed(32), primary_key=True)
    version: int = column(Count, primary_key=True, autoincrement=False)
    kind: str = column(Word)
    body: str = column(LongText)
    config: str | None = optional(LongText)  # JSON
    commit_message: str | None = optional(LongText)
    content_hash: str = column(fixed(64))
    author: str | None = optional(String(length.NAME))
    created_at_us: int = column(Instant)


class PromptLabelRow(Row, table=True):
    """A movable pointer such as `production`; `weight` splits traffic between labels of one group."""

    prompt_id: str = column(fixed(32), primary_key=True)
    label: str = column(String(64), primary_key=True)
    version: int = column(Count)
    author: str | None = optional(String(length.NAME))
    updated_at_us: int = column(Instant)


prompt: Final = table(PromptRow)
prompt_version: Final = table(PromptVersionRow)
prompt_label: Final = table(PromptLabelRow)
