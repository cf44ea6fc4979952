"""The loss balance: every turn is accounted for, or dropped with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """accepted = stored + sampled + erased + dropped (by reason) + in_spool, exact at any quiet moment."""

    accepted: int = 0
    stored: int = 0
    sampled: int = 0
    erased: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    in_spool: int = 0

    @property
    def is_balanced(self) -> bool:
        """Whether the balance holds."""
        return self.accepted == self.stored + self.sampled + self.erased + sum(self.dropped.values()) + self.in_spool
