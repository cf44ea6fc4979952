"""Drives conversations through the example app over HTTP, as people would: some fail, some leave early.

Run: `python -m example_app.drive http://127.0.0.1:8000 --turns 240`.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import httpx

from example_app.knowledge_base import Passage, passages

USERS = tuple(
    f"{name}@example.com"
    for name in ("ada", "bruno", "chidi", "dana", "elif", "farid", "grace", "hana", "ivan", "jola", "kofi", "lena")
)
PATHS = {"support-chat": "/chat", "quick-answer": "/ask", "research": "/research"}
FEATURES = ("support-chat", "support-chat", "quick-answer", "research")
LEAVES_EARLY = 0.06
GIVES_FEEDBACK = 0.35
BROKEN_OFF = 599  # no status of HTTP's: the answer began and did not end


@dataclass(frozen=True, slots=True)
class Conversation:
    """A session: who asks what, in order."""

    session_id: str
    user_id: str
    feature: str
    questions: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a turn looked like from outside."""

    trace_id: str | None
    status: int
    cites: bool
    left_early: bool


def conversations(turns: int, seed: int = 7) -> Iterator[Conversation]:
    """Sessions of two to six questions that add up to `turns` questions."""
    choose, asked, number = random.Random(seed), 0, 0
    while asked < turns:
        length = min(choose.randint(2, 6), turns - asked)
        questions = tuple(passages()[(asked + i) % len(passages())] for i in range(length))
        yield Conversation(f"demo-{seed}-{number:03d}", choose.choice(USERS), choose.choice(FEATURES), questions)
        asked, number = asked + length, number + 1


def hold(base_url: str, conversation: Conversation, done: Callable[[Outcome], None]) -> None:
    """Ask the questions of one session, one after the other."""
    choose = random.Random(conversation.session_id)
    headers = {"X-Session-Id": conversation.session_id, "X-User-Id": conversation.user_id}
    limits = httpx.Limits(max_keepalive_connections=0)  # whoever leaves early closes the connection
    with httpx.Client(base_url=base_url, headers=headers, timeout=60, limits=limits) as client:
        for passage in conversation.questions:
            outcome = ask(client, conversation.feature, passage, leave=choose.random() < LEAVES_EARLY)
            if outcome.trace_id and outcome.status == 200 and choose.random() < GIVES_FEEDBACK:
                thumbs = {"trace_id": outcome.trace_id, "thumbs_up": outcome.cites and choose.random() < 0.85}
                client.post("/feedback", json=thumbs)
            done(outcome)


def ask(client: httpx.Client, feature: str, passage: Passage, *, leave: bool = False) -> Outcome:
    """One question over HTTP; `leave` closes a streamed answer after its first pieces."""
    try:
        return _ask(client, feature, passage, leave=leave)
    except httpx.TransportError:
        return Outcome(None, BROKEN_OFF, False, False)


def _ask(client: httpx.Client, feature: str, passage: Passage, *, leave: bool) -> Outcome:
    body = {"question": passage.question, "feature": feature}
    with client.stream("POST", PATHS[feature], json=body) as response:
        trace_id = response.headers.get("x-trace-id")
        pieces: list[str] = []
        try:
            for line in response.iter_lines():
                pieces.append(_text(line))
                if leave and len(pieces) > 6:
                    return Outcome(trace_id, response.status_code, False, True)
        except httpx.HTTPError:
            # The answer broke off: as people see it, a failure.
            return Outcome(trace_id, BROKEN_OFF, False, False)
        cites = f"[{passage.id}]" in "".join(pieces) or "[halueval-qa-" in "".join(pieces)
        return Outcome(trace_id, response.status_code, cites, False)


def _text(line: str) -> str:
    if not line.startswith("data: {"):
        return line
    return str(json.loads(line[6:]).get("text", ""))


def drive(base_url: str, turns: int, *, workers: int = 6, show: bool = True, seed: int = 7) -> list[Outcome]:
    """Hold conversations of `turns` turns in all, `workers` at a time; a progress bar goes to stderr."""
    outcomes: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if show:
            _show(len(outcomes), turns)

    with ThreadPoolExecutor(workers) as pool:
        held = [pool.submit(hold, base_url, conversation, done) for conversation in conversations(turns, seed)]
        for future in as_completed(held):
            future.result()
    if show and sys.stderr.isatty():
        print(file=sys.stderr)
    return outcomes


def _show(done: int, turns: int) -> None:
    """A bar on a terminal; in a file a line for each tenth."""
    if sys.stderr.isatty():
        print(f"\r[{'#' * (30 * done // turns):<30}] {done}/{turns} turns", end="", file=sys.stderr, flush=True)
    elif done % max(1, turns // 10) == 0:
        print(f"{done}/{turns} turns", file=sys.stderr, flush=True)


def summary(outcomes: list[Outcome]) -> str:
    """One line: how many turns, citations, failures and early leavers."""
    answered = [o for o in outcomes if o.status == 200 and not o.left_early]
    cited = sum(o.cites for o in answered)
    left = sum(o.left_early for o in outcomes)
    failed = sum(o.status != 200 for o in outcomes)
    share = 100 * cited / max(len(answered), 1)
    cites = f"{share:.0f} % of {len(answered)} answers cite a document"
    return f"{len(outcomes)} turns: {cites}, {failed} failed, {left} left early"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base_url")
    parser.add_argument("--turns", type=int, default=240)
    parser.add_argument("--workers", type=int, default=6)
    arguments = parser.parse_args()
    print(summary(drive(arguments.base_url, arguments.turns, workers=arguments.workers)))


if __name__ == "__main__":
    main()
