"""The bot's knowledge: real passages with questions, searched with BM25 and re-ranked by overlap."""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rank_bm25 import BM25Okapi

FILE = Path(__file__).with_name("knowledge") / "halueval_qa.jsonl"
_WORD = re.compile(r"[a-z0-9]+")
_STOP = frozenset(
    word
    for line in (
        "a an and are as at be by did do does for from had has have he her his how in is it its of on or she that the",
        "their there this to was were what when where which who whom whose why with",
    )
    for word in line.split()
)


@dataclass(frozen=True, slots=True)
class Passage:
    """One document of the knowledge base with the question it answers."""

    id: str
    text: str
    question: str
    right_answer: str
    hallucinated_answer: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found for a query; a higher score is a better match."""

    passage: Passage
    score: float


def words(text: str) -> list[str]:
    """The lower-case content words of a text."""
    return [word for word in _WORD.findall(text.lower()) if word not in _STOP]


@cache
def passages() -> tuple[Passage, ...]:
    """All passages, in file order."""
    rows = (json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines())
    return tuple(
        Passage(row["id"], row["context"].strip(), row["question"], row["right_answer"], row["hallucinated_answer"])
        for row in rows
    )


@cache
def _index() -> BM25Okapi:
    return BM25Okapi([words(passage.text) for passage in passages()])


def search(query: str, top_k: int = 6) -> list[Hit]:
    """The `top_k` passages that match best, by BM25."""
    scores = _index().get_scores(words(query))
    best = sorted(range(len(scores)), key=lambda i: -scores[i])[:top_k]
    return [Hit(passages()[i], round(float(scores[i]), 4)) for i in best if scores[i] > 0]


def rerank(query: str, hits: list[Hit], keep: int = 3) -> list[Hit]:
    """The `keep` hits whose text covers most of the query's content words; the score is that share, 0..1."""
    asked = set(words(query))
    covered = [
        Hit(hit.passage, round(len(asked & set(words(hit.passage.text))) / max(len(asked), 1), 4)) for hit in hits
    ]
    return sorted(covered, key=lambda hit: -hit.score)[:keep]


def open_article(document_id: str) -> str:
    """The full text of one passage.

    Raises:
        LookupError: there is no such passage.
    """
    for passage in passages():
        if passage.id == document_id:
            return passage.text
    raise LookupError(f"no document {document_id}")
