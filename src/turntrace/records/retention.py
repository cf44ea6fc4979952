"""How long rows are kept: days by kind, environment and flag, as the setting `retention_days` writes them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

KINDS: Final = ("content", "numbers")
FLAGS: Final = ("error", "annotated", "pinned")
DEFAULT: Final[Mapping[str, int]] = {"content": 30, "numbers": 400}
MOST_DAYS: Final = 36_500
_SUMS: Final = re.compile(r"sums=(\d{1,5})")
_RULE: Final = re.compile(r"(content|numbers)(?:@([a-z0-9][a-z0-9_-]{0,39})|\+(error|annotated|pinned))?=(\d{1,5})")
FORM: Final = "a number, or rules such as `content=30,numbers=400,sums=1100,content@staging=7,content+error=90`"


@dataclass(frozen=True, slots=True)
class Rule:
    """Days of one kind of rows: in most environments, in some, and of turns with a flag where that is longer."""

    days: int
    environments: Mapping[str, int] = field(default_factory=dict)
    flags: Mapping[str, int] = field(default_factory=dict)

    def steps(self, environment: str | None) -> list[tuple[int, frozenset[str]]]:
        """Ages in days with the flags that spare a turn of that age, in this environment (None: in those not named).

        A turn goes at the first age at which it has none of the flags.
        """
        base = self.days if environment is None else self.environments[environment]
        ages = sorted({base, *(days for days in self.flags.values() if days > base)})
        return [(age, frozenset(flag for flag, days in self.flags.items() if days > age)) for age in ages]


def parsed(text: str) -> dict[str, Rule]:
    """Rules by kind; `sums` where it is stated (roll-ups that name nobody: else they go with the numbers).

    Raises:
        ValueError: the text is not of the form `FORM`.
    """
    if text.isdigit() and int(text) <= MOST_DAYS:
        return {kind: Rule(int(text)) for kind in KINDS}
    days = dict(DEFAULT)
    environments: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    flags: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    sums: dict[str, Rule] = {}
    for part in text.split(","):
        if (of_sums := _SUMS.fullmatch(part.strip())) and int(of_sums[1]) <= MOST_DAYS:
            sums = {"sums": Rule(int(of_sums[1]))}
            continue
        match = _RULE.fullmatch(part.strip())
        if match is None or int(match[4]) > MOST_DAYS:
            raise ValueError(FORM)
        kind, environment, flag, number = match[1], match[2], match[3], int(match[4])
        if environment:
            environments[kind][environment] = number
        elif flag:
            flags[kind][flag] = number
        else:
            days[kind] = number
    return {**{kind: Rule(days[kind], environments[kind], flags[kind]) for kind in KINDS}, **sums}
