"""A process that makes one long model call: `python -m tests.integration.guards.holder URL LEASE_SECONDS ESTIMATE`.

It prints a line when its budget has let it begin, and ends when its standard input does.
"""

import sys

from turntrace import Turntrace


def main() -> None:
    """Hold until told otherwise."""
    url, lease, estimate = sys.argv[1:4]
    tt = Turntrace(url, worker="external", secret_key="k" * 32, budget_wait_ms=30_000, budget_lease_seconds=lease)
    with tt.budget(user_id="anna", estimate_usd=estimate) as hold:
        print("began", flush=True)
        sys.stdin.read()
        hold.settle(estimate)
    assert tt.budgets.close(30)


if __name__ == "__main__":
    main()
