"""Destinations of stored turns as the System page shows them: what the settings say beside what became of the turns."""

from collections.abc import Iterable
from dataclasses import dataclass

from turntrace.errors import SettingsError
from turntrace.settings import Settings
from turntrace.storage.queries.outbound import DestinationFact


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """One destination; `host` is None where the settings of this process name it no more, `sent` what it gets."""

    fact: DestinationFact
    host: str | None = None
    gets: str = ""

    @property
    def state(self) -> str:
        """One word: failing, waiting, working, ready or removed."""
        if self.host is None:
            return "removed"
        if self.fact.failing_since_us is not None:
            return "failing"
        return "working" if self.fact.sent else "waiting" if self.fact.waiting else "ready"

    @property
    def lost(self) -> int:
        """Turns it will never get although they were meant for it."""
        return self.fact.refused + self.fact.overflowed


def destination_rows(settings: Settings, facts: Iterable[DestinationFact]) -> list[DestinationRow]:
    """Those of the settings and those that the database knows, by name."""
    try:
        named = {destination.name: destination for destination in settings.destinations()}
    except SettingsError:
        named = {}
    known = {fact.name: fact for fact in facts}
    rows = []
    for name in sorted({*named, *known}):
        fact, destination = known.get(name, DestinationFact(name=name)), named.get(name)
        if destination is None:
            rows.append(DestinationRow(fact))
            continue
        share = "" if destination.sample_rate == 1 else f", {destination.sample_rate:.0%} of traces"
        rows.append(DestinationRow(fact, destination.host, ("texts" if destination.content else "no texts") + share))
    return rows
