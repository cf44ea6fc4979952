"""Windows of full capture that several people open and close at the same time."""

import threading

import stored as s

from turntrace.records.window import Window
from turntrace.storage import windows
from turntrace.storage.database import Database

ROUNDS = 30


def window(name: str) -> Window:
    return Window(id=name, kind="route", value=f"/{name}", mode="redacted", from_us=s.NOW, until_us=s.NOW + 60_000_000)


def test_a_window_that_was_closed_is_not_opened_again_by_somebody_elses(database: Database) -> None:
    """Both read all windows and write all windows: one that began before the other ended took its change back."""

    def open_and_close(name: str) -> None:
        for n in range(ROUNDS):
            database.transact(windows.open_window, window(f"{name}{n}"), now_us=s.NOW)
            database.transact(windows.close_window, f"{name}{n}", author=name, now_us=s.NOW)

    failures: list[BaseException] = []

    def guarded(name: str) -> None:
        try:
            open_and_close(name)
        except BaseException as error:  # a thread's error is nobody's
            failures.append(error)

    people = [threading.Thread(target=guarded, args=(name,)) for name in ("a", "b", "c")]
    for person in people:
        person.start()
    for person in people:
        person.join(60)
    with database.read() as connection:
        assert windows.list_windows(connection, now_us=s.NOW) == ()
    assert failures == []
