"""One worker process of an application: threads that make model calls until its budget refuses them.

Run as `python -m tests.integration.guards.spender URL THREADS ESTIMATE COST`; prints what was spent, in nano-dollars.
"""

import sys
import threading
import time

from turntrace import BudgetExceeded, Turntrace


def main() -> None:
    """Spend until refused."""
    url, threads, estimate, cost = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    tt = Turntrace(url, worker="external", secret_key="k" * 32, budget_failure="closed", budget_wait_ms=30_000)
    spent: list[int] = []
    barrier = threading.Barrier(threads)

    def call() -> None:
        barrier.wait()
        for _ in range(1000):
            try:
                with tt.budget(user_id="anna", estimate_usd=estimate) as hold:
                    time.sleep(0.01)  # the model answers
                    hold.settle(cost)
                    spent.append(round(float(cost) * 1_000_000_000))
            except BudgetExceeded:
                return

    workers = [threading.Thread(target=call) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert tt.budgets.close(30)
    print(sum(spent))


if __name__ == "__main__":
    main()
