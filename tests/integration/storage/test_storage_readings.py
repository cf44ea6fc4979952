"""Turns whose files are gone are counted as lost, once, whoever reads the rest; what turns up again is taken back."""

import pytest
import stored as s

from turntrace.records.batch import Batch, Reading
from turntrace.storage import batches
from turntrace.storage.database import Database
from turntrace.storage.readings import ReadMeanwhile

PROCESS = "a" * 16


def read(database: Database, segment: str, sequences: tuple[int, int], turns: tuple[int | None, int]) -> int:
    """Commit what a worker has read of one segment; how many turns count as lost in all."""
    reading = Reading(process_id=PROCESS, first_sequence=sequences[0], before=turns[0], through=turns[1])
    batch = Batch(marks={segment: sequences[1]}, readings={segment: reading})
    batches.write_batch(database, batch, now_us=s.NOW)
    return sum(row["n"] for row in s.rows(database, "loss") if row["reason"] == "dropped:corrupt")


def test_what_follows_without_a_gap_is_no_loss(database: Database) -> None:
    assert read(database, "one", (1, 3), (0, 3)) == 0
    assert read(database, "one", (4, 9), (3, 8)) == 0
    assert read(database, "two", (1, 1), (8, 9)) == 0


def test_turns_that_nobody_can_read_any_more_are_lost_once(database: Database) -> None:
    assert read(database, "two", (1, 3), (5, 8)) == 5
    assert read(database, "two", (4, 5), (8, 10)) == 5
    assert read(database, "four", (1, 1), (12, 13)) == 7


def test_what_another_worker_had_read_before_it_was_gone_is_taken_back(database: Database) -> None:
    assert read(database, "one", (1, 2), (0, 2)) == 0
    assert read(database, "two", (1, 3), (9, 12)) == 7
    assert read(database, "one", (3, 5), (2, 5)) == 4
    assert read(database, "one", (6, 9), (5, 9)) == 0
    assert read(database, "two", (4, 4), (12, 13)) == 0


def test_a_segment_that_is_there_and_cannot_be_read_yet_is_not_lost(database: Database) -> None:
    assert read(database, "two", (1, 3), (None, 12)) == 0
    assert read(database, "one", (1, 9), (0, 9)) == 0


def test_frames_that_another_worker_has_stored_are_refused(database: Database) -> None:
    read(database, "one", (1, 3), (0, 3))
    with pytest.raises(ReadMeanwhile):
        read(database, "one", (3, 5), (2, 5))
    assert read(database, "one", (1, 3), (0, 3)) == 0  # the same again: its answer was lost
    assert read(database, "one", (4, 5), (3, 5)) == 0
