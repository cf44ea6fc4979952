"""A judge that speaks OpenAI's chat completions and takes its time: `slow_judge(seconds)` runs it in a process."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tests.acceptance.servers import ROOT

VERDICT: Final = json.dumps({"reason": "Every sentence of the answer stands in a document.", "score": True})
_ANSWER: Final = json.dumps(
    {
        "id": "chatcmpl-1",
        "model": "slow-judge",
        "choices": [{"message": {"role": "assistant", "content": VERDICT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 20},
    }
).encode()
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_ANSWER)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
            await asyncio.sleep(seconds)
            writer.write(_HEAD + _ANSWER)
            await writer.drain()
    writer.close()


async def _serve(seconds: float) -> None:
    server = await asyncio.start_server(lambda r, w: _talk(r, w, seconds), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def slow_judge(seconds: float) -> Iterator[str]:
    """The judge in a process of its own; answers its base URL."""
    command = [sys.executable, "-m", "tests.acceptance.evaluation.slow_judge", str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


if __name__ == "__main__":
    os.nice(19)  # it stands for another machine: the host's requests must not wait for it
    asyncio.run(_serve(float(sys.argv[1])))
