"""One turn whose work goes on in threads, executors, asyncio tasks, a pool of processes and background tasks.

    python docs/examples/threads_and_tasks.py

Threads, executors and tasks that are started in a turn belong to it by themselves (setting `thread_context`). A pool
that started its threads long ago needs `tt.borders.carry`; another process needs a carrier.
"""

import asyncio
import multiprocessing
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import httpx
from fastapi import BackgroundTasks, FastAPI

from turntrace import Turntrace, TurntraceMiddleware

tt = Turntrace(service_name="workshop")
app = FastAPI()
app.add_middleware(TurntraceMiddleware, turntrace=tt)


def step(where: str) -> None:
    """A step of whatever turn is current here."""
    with tt.observation(where):
        print(f"{where:12}", tt.current_trace_id(), tt.carrier().get("baggage"))


def step_elsewhere(carrier: dict[str, str]) -> tuple[str | None, str | None]:
    """The same in another process, which gets the carrier with its work."""
    with tt.continue_trace(carrier, name="in-a-process"):
        return tt.current_trace_id(), tt.carrier().get("baggage")


def serve(jobs: "queue.Queue[Callable[[], None] | None]") -> None:
    """A thread that was there before the turn."""
    while (job := jobs.get()) is not None:
        job()


@app.post("/work")
async def work(background: BackgroundTasks) -> None:
    """The turn."""
    tt.update_trace(session_id="s-8", user_id="u-8")
    step("request")
    thread = threading.Thread(target=step, args=["thread"])
    thread.start()
    await asyncio.to_thread(thread.join)
    with ThreadPoolExecutor() as pool:
        pool.submit(step, "executor").result()
    await asyncio.create_task(asyncio.to_thread(step, "task"))

    jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
    old = threading.Thread(target=serve, args=[jobs])
    with tt.suspended():  # as if it had been started before the turn
        old.start()
    jobs.put(tt.borders.carry(lambda: step("old-thread")))
    jobs.put(None)
    await asyncio.to_thread(old.join)

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        print("process     ", *processes.submit(step_elsewhere, tt.carrier()).result())
    background.add_task(step, "background")


async def main() -> None:
    """One request."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://workshop.test") as client:
        answer = await client.post("/work")
        print("answer      ", answer.headers["x-trace-id"])


if __name__ == "__main__":
    asyncio.run(main())
    tt.shutdown()
