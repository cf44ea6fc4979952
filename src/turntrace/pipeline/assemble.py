"""The tree of a turn: unique spans in start order, framework spans cut out, children moved to kept ancestors."""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final

from turntrace.pipeline.noise import is_noise
from turntrace.records.fragment import Fragment, FrameKind, RawSpan

# Their parents may lie in an earlier frame: the stated id is kept, and the child attaches there.
_LATE: Final = frozenset({FrameKind.AMEND})

# Turns whose own root stands for what a web framework's server span would say.
_CAPTURED: Final = frozenset({"http", "websocket"})

Parents = dict[str, str | None]


class Tree:
    """Spans by id in start order, and for each the id of its parent among them (None at a root).

    A stated parent that is unknown is kept for late fragments only; cycles are cut.
    """

    __slots__ = ("_keeps_unknown", "_nearest", "dropped", "parents", "spans")

    def __init__(self, spans: dict[str, RawSpan], parents: Parents, *, keeps_unknown: bool) -> None:
        self.spans = spans
        self.parents = parents
        self.dropped: set[str] = set()
        self._keeps_unknown = keeps_unknown
        self._nearest: Parents = {}  # of dropped spans: their nearest ancestor that is not dropped

    def drop(self, span_ids: Iterable[str]) -> None:
        """Cut these spans out: their children move to the nearest ancestor that stays."""
        self.dropped.update(span_ids)
        self._nearest.clear()

    def restore(self, span_id: str) -> None:
        """Take a dropped span back."""
        self.dropped.discard(span_id)
        self._nearest.clear()

    def ancestors(self, span_id: str) -> Iterator[str]:
        """Ids of the known ancestors, dropped ones included, nearest first."""
        parent = self.parents.get(span_id)
        while parent is not None and parent in self.spans:
            yield parent
            parent = self.parents.get(parent)

    def kept_parent(self, span_id: str) -> str | None:
        """Id of the nearest ancestor that is not dropped."""
        parent = self.parents.get(span_id)
        if parent is not None and parent in self.dropped:
            parent = self._nearest_of(parent)
        if parent is None or parent in self.spans or self._keeps_unknown:
            return parent
        return None

    def _nearest_of(self, span_id: str) -> str | None:
        """Walks up once for each run of dropped spans, however many children hang below it."""
        path: list[str] = []
        at: str | None = span_id
        while at is not None and at in self.dropped and at not in self._nearest:
            path.append(at)
            at = self.parents.get(at)
        found = self._nearest[at] if at is not None and at in self._nearest else at
        for member in path:
            self._nearest[member] = found
        return found


def assemble(fragment: Fragment, keep_scopes: Container[str] = ()) -> Tree:
    """The tree of a fragment's spans; the turn's own root span is no part of it."""
    spans = _unique(fragment)
    tree = Tree(spans, _parents(fragment, spans), keeps_unknown=fragment.kind in _LATE)
    is_captured = fragment.turn.source in _CAPTURED
    noisy = [span_id for span_id, span in spans.items() if is_noise(span, keep_scopes, is_captured=is_captured)]
    tree.drop(noisy)
    for span_id in noisy:
        span = spans[span_id]
        # An error is never lost: without a kept ancestor there is nothing else that could show it. What a server
        # span of a captured turn could show is the turn's own status.
        if span.status == "error" and span.kind != "server" and tree.kept_parent(span_id) is None:
            tree.restore(span_id)
    return tree


def _unique(fragment: Fragment) -> dict[str, RawSpan]:
    """Spans by id, sorted by start; of a repeated id the last form wins, an ended one before an open one."""
    found: dict[str, RawSpan] = {}
    is_sorted, last = True, 0
    for span in fragment.spans:
        earlier = found.get(span.span_id)
        if earlier is None or span.duration_us is not None or earlier.duration_us is None:
            found[span.span_id] = span
        is_sorted = is_sorted and span.started_at_us >= last
        last = span.started_at_us
    if fragment.kind not in _LATE:
        found.pop(fragment.turn.span_id, None)
    if is_sorted:
        return found
    depth = _depths(found)
    return {
        span.span_id: span
        for span in sorted(found.values(), key=lambda span: (span.started_at_us, depth[span.span_id]))
    }


def _depths(spans: Mapping[str, RawSpan]) -> dict[str, int]:
    """Levels below the root, so that a parent comes before a child that starts in the same microsecond."""
    depths: dict[str, int] = {}
    for span_id in spans:
        path: list[str] = []
        at: str | None = span_id
        while at is not None and at in spans and at not in depths and len(path) <= len(spans):
            path.append(at)
            at = spans[at].parent_span_id
        below = depths.get(at, -1) if at is not None else -1
        for level, member in enumerate(reversed(path), start=below + 1):
            depths.setdefault(member, level)
    return depths


def _parents(fragment: Fragment, spans: Mapping[str, RawSpan]) -> Parents:
    root = fragment.turn.span_id
    parents: Parents = {}
    for span_id, span in spans.items():
        parent = span.parent_span_id
        parents[span_id] = None if parent == span_id or (parent == root and root not in spans) else parent
    _cut_cycles(parents)
    return parents


def _cut_cycles(parents: Parents) -> None:
    """Make the first member of each cycle (in start order) a root."""
    order: dict[str, int] = {}
    done: set[str] = set()
    for start in parents:
        path: set[str] = set()
        at: str | None = start
        while at is not None and at in parents and at not in done:
            if at in path:
                order = order or {span_id: index for index, span_id in enumerate(parents)}
                parents[min(_cycle(parents, at), key=order.__getitem__)] = None
                break
            path.add(at)
            at = parents[at]
        done |= path


def _cycle(parents: Parents, member: str) -> set[str]:
    cycle = {member}
    at = parents[member]
    while at is not None and at != member:
        cycle.add(at)
        at = parents[at]
    return cycle
