"""Erasures: what is to go, and the receipt of what went."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

Kind = Literal["subject", "turn", "session"]
KINDS: tuple[str, ...] = get_args(Kind)
# pending: asked for; running: some rows are gone; scrubbing: all rows are gone, bytes of them may be left; done.
Status = Literal["pending", "running", "scrubbing", "done"]
Physical = Literal["pending", "done", "checkpointed", "server"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an erasure is about.

    `user_ids` are ids as stored (a person may have a plain and a pseudonymous one); `sessions` are pairs of session
    id and user id ("" where no user is known). Turns that began after `until_us` stay; None: none stays, and none
    comes back.
    """

    kind: str
    user_ids: tuple[str, ...] = ()
    turn_ids: tuple[str, ...] = ()
    sessions: tuple[tuple[str, str], ...] = ()
    until_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of an erasure. It names no user and no trace.

    `counts` are rows by table name without our prefix; for `rollup` rows whose identity was replaced by `erased`.
    `verification` says what is left: `remaining` rows by table (empty: nothing), `verified_at`, and `physical`: `done`
    (no byte is left in our SQLite file), `pending` (some may be, for a while), `checkpointed` (in the host's SQLite
    file none but copies in the free space of pages, which VACUUM removes), or `server` (the pages, logs and backups of
    a database server are the operator's to purge). `id` is None for a dry run.
    """

    id: str | None
    kind: str
    status: str = "pending"
    is_dry_run: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    requested_at_us: int = 0
    started_at_us: int | None = None
    finished_at_us: int | None = None
    verification: Mapping[str, Any] = field(default_factory=dict)
    signature: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether every row is gone, and that was verified."""
        return self.finished_at_us is not None

    def document(self) -> dict[str, Any]:
        """The receipt as the REST API answers it: JSON values, times in RFC 3339."""
        return {
            "id": self.id,
            "kind": self.kind,
            "status": self.status,
            "dry_run": self.is_dry_run,
            "counts": dict(sorted(self.counts.items())),
            "requested_at": written(self.requested_at_us),
            "started_at": written(self.started_at_us),
            "finished_at": written(self.finished_at_us),
            "verification": dict(self.verification),
            "signature": self.signature,
        }

    def __getitem__(self, name: str) -> Any:
        """A member of `document()`: code that knows the API's answer reads this one alike."""
        return self.document()[name]


def written(at_us: int | None) -> str | None:
    """RFC 3339 in UTC with microseconds."""
    if at_us is None:
        return None
    return (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
