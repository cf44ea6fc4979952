"""What scores of one name may be."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """`minimum` and `maximum` (inclusive) are of numeric scores, `categories` of categorical ones."""

    id: str
    name: str
    data_type: str
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    description: str | None = None
    created_at_us: int = 0
    updated_at_us: int = 0


# Ready in every database, without a row: three words that nearly every review needs.
VERDICT: Final = ScoreConfig(
    id="verdict",
    name="verdict",
    data_type="categorical",
    categories=("good", "bad", "unsure"),
    description="What a reviewer thinks of an answer",
)
