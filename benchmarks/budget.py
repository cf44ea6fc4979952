"""How long a budget check takes in process: `python benchmarks/budget.py`. Prints microseconds at p50 and p99.

The database is a SQLite file of its own; a check is a look into memory, so it plays no part but for the thread beside.
"""

import tempfile
import time
from statistics import median, quantiles

from turntrace import Turntrace
from turntrace.records.budget import Budget
from turntrace.storage import budgets, migrate
from turntrace.storage.database import Database

CHECKS = 20_000


def main() -> None:
    """Measure entering and leaving, by number of budgets that a call is charged to."""
    with tempfile.TemporaryDirectory() as home:
        url = f"sqlite:///{home}/turntrace.db"
        database = Database(url)
        migrate.upgrade(database)
        for number, scope in enumerate(("user", "feature", "application"), 1):
            rule = Budget(id="", name=scope, scope=scope, limit_nano=10**15, period="month")
            database.transact(budgets.put, rule, now_us=time.time_ns() // 1000)
            tt = Turntrace(url, worker="external", secret_key="k" * 32, spool_dir=f"{home}/spool", budget_wait_ms=5000)
            enters, leaves = measure(tt)
            tt.budgets.close()
            say = (
                f"{number} budgets a call: enter p50 {median(enters):.1f} µs, p99 {quantiles(enters, n=100)[98]:.1f} µs"
            )
            print(f"{say}; leave p50 {median(leaves):.1f} µs")
        database.close()


def measure(tt: Turntrace) -> tuple[list[float], list[float]]:
    """Microseconds of entering and of leaving."""
    enters: list[float] = []
    leaves: list[float] = []
    for _ in range(CHECKS):
        began = time.perf_counter()
        hold = tt.budget(user_id="anna", feature="support", estimate_usd="0.001").__enter__()
        entered = time.perf_counter()
        hold.settle("0.001")
        hold.__exit__(None, None, None)
        left = time.perf_counter()
        enters.append((entered - began) * 1e6)
        leaves.append((left - entered) * 1e6)
    return enters, leaves


if __name__ == "__main__":
    main()
