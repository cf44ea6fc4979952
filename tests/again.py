"""Failed tests once more, by themselves: `python tests/again.py EXIT_CODE MOST`.

Tests share two cores with others, and measures of time with whatever else the machine does. What fails again has
failed; what does not is named, so that it can be made to stand company. Nothing is tried again where more than `MOST`
tests failed, or none did (a skipped test, an interrupted run).
"""

import json
import subprocess
import sys
from pathlib import Path

_FAILED = Path(__file__).parents[1] / ".pytest_cache" / "v" / "cache" / "lastfailed"


def main(code: int, most: int) -> int:
    """Answers the exit code of the second try, or the first one's where there is none."""
    failed = sorted(json.loads(_FAILED.read_text())) if _FAILED.exists() else []
    if code != 1 or not 1 <= len(failed) <= most:
        return code
    print(f"\n{len(failed)} failed; once more, by themselves:", *failed, sep="\n  ", flush=True)
    done = subprocess.run([sys.executable, "-m", "pytest", "-rA", "--tb=short", *failed], check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
