"""A turn that enqueues a job of RQ: the job is a turn of the same trace, with the same session.

REDIS_URL=redis://127.0.0.1:6379/0 python docs/examples/rq_job.py
"""

import os

import redis
from rq import Queue, SimpleWorker

from turntrace import Turntrace

tt = Turntrace(service_name="shop")


@tt.borders.rq_job
def summarise(text: str) -> tuple[str | None, str | None]:
    """The work that a turn leaves to somebody else."""
    with tt.generation("summary", model="gpt-4o-mini", provider="openai", input=text) as call:
        call.update(output=text[:10], usage={"input_tokens": 5, "output_tokens": 2})
    return tt.current_trace_id(), tt.carrier().get("baggage")


def main() -> None:
    """A turn in this process, the job in a worker that is this process, too."""
    connection = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
    queue = tt.borders.rq(Queue(f"turntrace-example-{os.getpid()}", connection=connection))
    try:
        with tt.turn("order", session_id="s-10", user_id="u-10", tags=["plan:pro"]):
            print("turn", tt.current_trace_id())
            with tt.observation("send", type="tool"):
                job = queue.enqueue("docs.examples.rq_job.summarise", "Two kettles, one of them red.")
        SimpleWorker([queue], connection=connection).work(burst=True, logging_level="ERROR")
        print("job ", *job.return_value())
    finally:
        queue.delete(delete_jobs=True)
        connection.close()


if __name__ == "__main__":
    main()
    tt.shutdown()
