"""What needs a server in an environment of its own is for the long form: not collected in the short one."""

import os

collect_ignore = [] if os.environ.get("TURNTRACE_TEST_LONG") else ["test_phoenix.py"]
