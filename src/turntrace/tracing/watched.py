"""What ends in a turn while somebody is charged for it, also behind the turn's own end."""

from turntrace.tracing.span import Recorded


class Watched:
    """The spans of one turn that end while it has watchers; each is taken by one of them.

    `count` is changed by whoever watches, under a lock of theirs.
    """

    __slots__ = ("_spans", "count")

    def __init__(self) -> None:
        self.count = 0
        self._spans: list[Recorded | None] = []

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, span: Recorded) -> None:
        """A span has ended; from any thread."""
        self._spans.append(span)

    def take(self, mark: int) -> list[Recorded]:
        """What has ended since there were `mark` of them and nobody has taken yet."""
        found: list[Recorded] = []
        for index in range(mark, len(self._spans)):
            # At once: a finaliser may take from in here.
            span, self._spans[index] = self._spans[index], None
            if span is not None:
                found.append(span)
        return found
