"""The spool in memory keeps the promises of the one on disk, kills excepted."""

import gc
import threading

from spooled import Clock, number_of, turn

from turntrace.records.fragment import FrameKind
from turntrace.spool.memory import MemorySpool

START, DELTA, END, AMEND = FrameKind.START, FrameKind.DELTA, FrameKind.END, FrameKind.AMEND


def test_frames_are_delivered_once_and_accepted_once() -> None:
    spool = MemorySpool()
    for kind, is_first in ((START, True), (END, False)):
        assert spool.append(kind, turn(1), is_first=is_first)
    assert spool.unread() == 1
    frames = spool.poll(10, 1000)
    assert [(f.kind, f.is_first, f.sequence) for f in frames] == [(START, True, 1), (END, False, 2)]
    assert {(f.segment, f.process_id) for f in frames} == {(spool.segment_id, spool.process_id)}
    assert (spool.unread(), spool.poll(10, 1000)) == (0, [])
    assert spool.counts()[0].accepted == 1


def test_what_was_not_committed_comes_again_after_a_rewind() -> None:
    spool = MemorySpool()
    for number in range(4):
        spool.append(END, turn(number), is_first=True)
    frames = spool.poll(3, 10_000)
    spool.commit({spool.segment_id: frames[0].sequence})
    spool.rewind()
    assert spool.unread() == 3
    assert [number_of(f) for f in spool.poll(10, 10_000)] == [1, 2, 3]


def test_memory_is_bounded_by_whole_turns_and_the_balance_holds() -> None:
    spool = MemorySpool(max_bytes=5_000, clock=Clock())
    for number in range(20):
        spool.append(START, turn(number), is_first=True)
        spool.append(END, turn(number, size=500), is_first=False)
    assert not spool.append(AMEND, turn(0), is_first=False)
    stored = {number_of(f) for f in spool.poll(100, 100_000) if f.kind is END}
    counts = spool.counts()[0]
    assert 19 in stored
    assert counts.accepted == 20
    assert counts.dropped == {"memory_full": 20 - len(stored)}
    assert (spool.dead(), dict(spool.skipped)) == ([], {})
    spool.release(frozenset())
    spool.forget(spool.process_id)
    spool.close()


def test_a_turn_that_garbage_collection_ends_while_counts_are_taken_is_appended() -> None:
    spool = MemorySpool()
    spool.append(END, turn(0), is_first=True)
    left = [50]

    class Stream:
        """Dropped in a cycle, and followed by another: whenever objects are made, one is cleared away."""

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            spool.append(END, turn(1 + left[0]), is_first=True)
            if left[0]:
                left[0] -= 1
                Stream()

    def count() -> None:
        gc.disable()
        Stream()
        gc.set_threshold(1, 1, 1)
        gc.enable()
        for _ in range(5):
            spool.counts()

    thresholds, thread = gc.get_threshold(), threading.Thread(target=count, daemon=True)
    try:
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
    finally:
        gc.set_threshold(*thresholds)
        left[0] = 0
        gc.collect()
    assert spool.counts()[0].accepted == spool.unread() > 1
