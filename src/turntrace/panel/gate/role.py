"""Who looks at the panel, and what each role may do."""

from dataclasses import dataclass
from enum import IntEnum

from turntrace.storage.sight import Scope, Sight


class Role(IntEnum):
    """Roles, each including those before it: numbers, content, scores, exports and keys of others, everything.

    A reviewer is before them all: the turns of their queues with their texts, and nothing else.
    """

    REVIEWER = 0
    VIEWER = 1
    READER = 2
    ANNOTATOR = 3
    OPERATOR = 4
    ADMIN = 5

    @property
    def label(self) -> str:
        """The role's name as people write it."""
        return self.name.lower()

    @classmethod
    def of(cls, text: object) -> "Role | None":
        """The role of this name, or None."""
        try:
            return cls[str(text).strip().upper()]
        except KeyError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """A person in front of the panel. `csrf_token` belongs to their session; `token_hash` names it, if it is ours.

    `scope` is a tenant's share of the turns, where the host's callback gave one.
    """

    name: str
    role: Role
    csrf_token: str
    token_hash: str | None = None
    scope: Scope | None = None

    @property
    def sight(self) -> Sight:
        """What every statement of this person is narrowed to."""
        return Sight(with_content=self.reads, scope=self.scope)

    @property
    def is_reviewer(self) -> bool:
        """Whether the person sees their queues only; the gate lets them nowhere else."""
        return self.role is Role.REVIEWER

    @property
    def reads(self) -> bool:
        """Whether the person sees texts where they get to."""
        return self.is_reviewer or self.may(Role.READER)

    def may(self, role: Role) -> bool:
        """Whether the person's role includes `role`."""
        return self.role >= role
