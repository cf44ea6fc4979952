"""The analysing process: `python -m turntrace.integrations.presidio.child`. Reads texts, answers findings, ends with
its parent. Nothing it reads is ever written anywhere but into its answers, which are offsets.
"""

import json
import os
import signal
import struct
import sys
import threading
from typing import IO, Any, Final

from turntrace.integrations.presidio.engine import Engine, EngineConfig
from turntrace.pipeline.redact import Failure

LENGTH: Final = struct.Struct("!I")
_WATCH_SECONDS: Final = 5.0
READY: Final = b'"ready"'


def main() -> int:
    """Serve until standard input ends. The first frame is the configuration, every other a text and its signs."""
    source, answers = _private_pipes()
    head = _read(source)
    if head is None:
        return 0
    order = json.loads(head)
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    engine = Engine(_config(order["engine"]))
    _write(answers, READY)
    while (frame := _read(source)) is not None:
        _arm(order["seconds"])
        (signs,) = LENGTH.unpack_from(frame)
        answer = _answer(engine, frame[LENGTH.size :].decode("utf-8", "surrogatepass"), signs)
        _arm(0)
        _write(answers, answer)
    return 0


def _watch(parent: int) -> None:
    """End with the parent even where a fork of it holds the pipe open."""
    never = threading.Event()
    while os.getppid() == parent:
        never.wait(_WATCH_SECONDS)
    os._exit(0)


def _private_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes to the parent, moved away from the standard streams so that no library can write between answers."""
    source = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silent, stream)
    return source, answers


def _arm(seconds: float) -> None:
    """Let the kernel end this process when a text takes too long, even with Python stuck in C and the parent gone."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _answer(engine: Engine, text: str, signs: int) -> bytes:
    try:
        found = engine.analyze(text, signs)
    except Exception:  # its message may quote the text
        found = Failure("error")
    if isinstance(found, Failure):
        return json.dumps({"failure": found.reason, "lasting": found.is_lasting}).encode()
    return json.dumps([[item.start, item.end, item.type, item.score, item.source] for item in found]).encode()


def _config(values: dict[str, Any]) -> EngineConfig:
    return EngineConfig(
        languages=tuple(values["languages"]),
        phone_regions=tuple(values["phone_regions"]),
        ner_model=values["ner_model"],
        seconds=values["seconds"],
        national_ids=tuple(values.get("national_ids", ())),
        denied=tuple(values.get("denied", ())),
        allowed=tuple(values.get("allowed", ())),
    )


def _read(source: IO[bytes]) -> bytes | None:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = source.read(length)
    return body if len(body) == length else None


def _write(answers: IO[bytes], body: bytes) -> None:
    answers.write(LENGTH.pack(len(body)) + body)
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
