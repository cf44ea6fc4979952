"""Checks that the documents are true: settings and command tables are the generated ones, links lead somewhere.

`python docs/check.py` fails with what differs; `--write` writes the generated pages.
"""

import re
import sys
from dataclasses import fields
from pathlib import Path

from turntrace.cli import build_parser
from turntrace.settings import PREFIX, Settings

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
_LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:|#)([^)#\s]+)")
# A home or workplace of one machine has no business in a document.
_MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/\w+")


def settings_page() -> str:
    """The reference page of all settings, one row each."""
    rows = ["| setting | environment variable | default | meaning |", "|---|---|---|---|"]
    for item in fields(Settings):
        help_text = str(item.metadata["help"])
        choices = item.metadata.get("choices")
        if choices:
            help_text += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
        rows.append(f"| `{item.name}` | `{PREFIX}{item.name.upper()}` | {_default(item.default)} | {help_text} |")
    head = "# Settings\n\nGenerated from `turntrace.settings` by `python docs/check.py --write`.\n\n"
    return head + "\n".join(rows) + "\n"


def _default(value: object) -> str:
    if value is None:
        return "none"
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{text}`" if text else "empty"


def cli_page() -> str:
    """The reference page of the command line: every command with its help line."""
    rows = ["| command | does |", "|---|---|"]
    rows += [f"| `turntrace {name}` | {help_text} |" for name, help_text in commands(build_parser())]
    head = "# Command line\n\nGenerated from `turntrace.cli` by `python docs/check.py --write`.\n\n"
    return head + "\n".join(rows) + "\n"


def commands(parser: object, prefix: str = "") -> list[tuple[str, str]]:
    """Leaf commands of an argparse parser with their help."""
    found: list[tuple[str, str]] = []
    for action in getattr(parser, "_actions", ()):
        if not hasattr(action, "_choices_actions"):
            continue
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, sub in action.choices.items():
            deeper = commands(sub, f"{prefix}{name} ")
            found += deeper or [(f"{prefix}{name}", helps.get(name, ""))]
    return found


GENERATED = {"reference/settings.md": settings_page, "reference/cli.md": cli_page}


def problems() -> list[str]:
    """Everything that is not as it should be."""
    found = []
    for name, page in GENERATED.items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != page():
            found.append(f"docs/{name} is not what the code says: run `python docs/check.py --write`")
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        found += _page_problems(path)
    return found


def _page_problems(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT)
    found = [f"{name}: broken link {target}" for target in _LINK.findall(text) if not (path.parent / target).exists()]
    found += [f"{name}: path of one machine {match}" for match in _MACHINE_PATH.findall(text)]
    return found


def main() -> int:
    """The command line; 1 when something is wrong."""
    if "--write" in sys.argv:
        for name, page in GENERATED.items():
            (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
            (DOCS / name).write_text(page(), encoding="utf-8")
    found = problems()
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
