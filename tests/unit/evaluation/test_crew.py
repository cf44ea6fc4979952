"""Threads that work side by side."""

import threading

from turntrace.jobs.crew import Crew


def test_all_that_is_given_is_done_and_taken_once() -> None:
    crew: Crew[int, int] = Crew(lambda number: number * 2, 4)
    crew.give(range(50))
    found: list[int] = []
    while crew.under_way:
        found += crew.take(seconds=60, gather_seconds=0.01)
    crew.close()
    assert sorted(found) == [2 * number for number in range(50)]


def test_nobody_waits_for_work_that_takes_long() -> None:
    release = threading.Event()
    crew: Crew[int, int] = Crew(lambda number: number if release.wait(60) else -1, 2)
    crew.give([1])
    assert crew.take(seconds=0.01, gather_seconds=0.0) == []
    assert crew.under_way == 1
    threads = list(crew._threads)
    assert all(thread.daemon for thread in threads)
    crew.close()
    release.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
