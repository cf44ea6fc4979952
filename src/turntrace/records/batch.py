"""What the worker hands to storage: worked-on turns and the progress they stand for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from turntrace.records.fragment import FrameKind
from turntrace.records.rollup import RollupFact
from turntrace.records.score import Score
from turntrace.records.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Received spans or log records of one turn as they came, sealed: what its rows are made from anew."""

    digest: str  # 32 hex digits, the same for the same content
    size: int  # bytes before sealing
    key_id: str  # key ring id
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """What was newly received of one turn over OTLP, and the pieces its rows were made from besides."""

    turn_id: str
    pieces: tuple[Piece, ...] = ()
    seen: frozenset[str] = frozenset()  # digests of the stored pieces that were read


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """One fragment after the pipeline.

    `trace.observations` holds the fragment's observations. `is_kept` is False for a turn that sampling left out: only
    its facts are stored. For AMEND, `trace` carries the late fields and late observations only. For START and DELTA
    (`outcome` in_progress) the trace row is replaced and no fact is counted. OTLP is the whole of what was received of
    a turn so far and replaces what is stored of it.
    """

    kind: FrameKind
    trace: Trace
    facts: tuple[RollupFact, ...] = ()
    is_kept: bool = True
    amended: frozenset[str] = frozenset()  # AMEND: names of the Trace fields that this fragment states
    reception: Reception | None = None  # received over OTLP: kept with the rows
    exports: tuple[str, ...] = ()  # names of the destinations that it is sent on to, once it is stored
    counted: tuple[RollupFact, ...] = ()  # OTLP: facts of its earlier state, where sampling left that out


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessCounts:
    """Absolute counters of one capturing process, read from its shared mapping (idempotent to store)."""

    process_id: str
    accepted: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
    turns: int = 0
    overhead_us: int = 0
    bytes_written: int = 0
    seen_at_us: int = 0
    is_dead: bool = False


@dataclass(slots=True, kw_only=True)
class Reading:
    """What a batch holds of one spool segment: which frames, and which turns of its process, counted from the first."""

    process_id: str
    first_sequence: int  # of the frames that were not stored before
    before: int | None  # turns accounted for before them; None: an earlier segment is there and cannot be read now
    through: int  # turns accounted for with them


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One transaction's worth: rows, roll-up facts, loss counts and progress marks commit together or not at all."""

    worked: tuple[Worked, ...] = ()
    marks: Mapping[str, int] = field(default_factory=dict)  # segment id -> through_sequence
    readings: Mapping[str, Reading] = field(default_factory=dict)  # segment id -> what of it is in here
    loss: Mapping[str, int] = field(default_factory=dict)  # "dropped:<reason>" -> turns, beyond those in `worked`
    processes: tuple[ProcessCounts, ...] = ()
    scores: tuple[Score, ...] = ()  # upserted by id; the turn may come later
    waiting: tuple[Reception, ...] = ()  # received, and not yet of any turn: log records before their spans
