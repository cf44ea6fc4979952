"""A turn that sends a Celery task: the task is a turn of the same trace, with the same session.

    python docs/examples/celery_task.py

The broker is a folder here; with Redis or RabbitMQ nothing else changes. `tt.borders.celery(app)` stands where the
application is made, so that clients and workers both have it.
"""

import tempfile
from pathlib import Path

from celery import Celery
from celery.contrib.testing.worker import start_worker

from turntrace import Turntrace

tt = Turntrace(service_name="shop")
folder = Path(tempfile.mkdtemp())
app = tt.borders.celery(
    Celery(
        "shop",
        broker="filesystem://",
        backend=f"file://{folder}",
        broker_transport_options={"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder},
    )
)


@app.task(name="shop.summarise")
def summarise(text: str) -> tuple[str | None, str | None]:
    """The work that a turn leaves to somebody else."""
    with tt.generation("summary", model="gpt-4o-mini", provider="openai", input=text) as call:
        call.update(output=text[:10], usage={"input_tokens": 5, "output_tokens": 2})
    return tt.current_trace_id(), tt.carrier().get("baggage")


def main() -> None:
    """A turn in this process, the task in a thread of it."""
    with start_worker(app, perform_ping_check=False, pool="solo"):
        with tt.turn("order", session_id="s-9", user_id="u-9", tags=["plan:pro"]):
            print("turn", tt.current_trace_id())
            with tt.observation("send", type="tool"):
                sent = summarise.delay("Two kettles, one of them red.")
        print("task", *sent.get(timeout=30))


if __name__ == "__main__":
    main()
    tt.shutdown()
