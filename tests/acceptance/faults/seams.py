"""The seams of Turntrace, found in its source: every handler that counts a fault of ours, and every function inside.

A seam is armed by exchanging the code of its function for a copy that raises at one statement of the guarded block.
What is compiled is the source itself, so that a seam that somebody adds is found, and one cannot be forgotten.
"""

import ast
import builtins
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import turntrace

HOME: Final = Path(turntrace.__file__).parent
# What runs inside the host's request. `spool` is the writing end only.
MODULES: Final = (
    *sorted(f"capture.{path.stem}" for path in (HOME / "capture").glob("*.py")),
    *sorted(f"tracing.{path.stem}" for path in (HOME / "tracing").glob("*.py")),
    *(f"spool.{name}" for name in ("writer", "memory", "segment", "allowance", "counters", "home", "ring", "frame")),
    "runtime",
    "worker.supervisor",
)
_INJECT: Final = "turntrace_inject_"  # no leading underscores: those are mangled inside classes
_hooks: Final = count()
_LOST: Final = "__turntrace_lost"
_FAULT: Final = "FAULT"


@dataclass(frozen=True)
class Seam:
    """One guarded block: `name` as it is counted, the function around it, and how many statements it may fail at."""

    module: str
    function: str
    name: str
    line: int
    points: int

    def __str__(self) -> str:
        return f"{self.module}:{self.function}:{self.name}"


@dataclass(frozen=True)
class Place:
    """A function of ours: it may fail at its first statement."""

    module: str
    function: str

    def __str__(self) -> str:
        return f"{self.module}:{self.function}"


def load(module: str) -> ModuleType:
    """A module of Turntrace."""
    return importlib.import_module(f"turntrace.{module.removesuffix('.__init__')}")


@cache
def source(module: str) -> str:
    return inspect.getsource(load(module))


def counted(handler: ast.ExceptHandler) -> str | None:
    """The seam that a handler counts a fault against: `….fault("name", …)`, or `….add(f"{FAULT}name")`."""
    for node in ast.walk(handler):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        names = [argument.value for argument in node.args if isinstance(argument, ast.Constant) and argument.value]
        if called == "fault" and names:
            return str(names[0])
        if called == "add" and node.args and isinstance(node.args[0], ast.JoinedStr):
            first, *rest = node.args[0].values
            is_fault = isinstance(first, ast.FormattedValue) and getattr(first.value, "id", "") == _FAULT
            if is_fault and rest and isinstance(rest[0], ast.Constant):
                return str(rest[0].value)
    return None


def _guarded(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Try):
        return None
    return next((name for handler in node.handlers if (name := counted(handler))), None)


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{prefix}{node.name}", node


def all_seams() -> list[Seam]:
    """Every seam of the modules above, by source."""
    found = []
    for module in MODULES:
        for name, function in _functions(ast.parse(source(module))):
            for node in ast.walk(function):
                seam = _guarded(node)
                if seam is not None:
                    assert isinstance(node, ast.Try)
                    found.append(Seam(module, name, seam, node.lineno, _armed_body(node.body)[1]))
    return found


def all_functions() -> list[Place]:
    """Every function of the modules above."""
    return [Place(module, name) for module in MODULES for name, _ in _functions(ast.parse(source(module)))]


def _call(point: int, hook: str) -> ast.stmt:
    return ast.Expr(ast.Call(ast.Name(hook, ast.Load()), [ast.Constant(point)], []))


def _ends(statement: ast.stmt) -> bool:
    """Whether nothing comes after it."""
    if isinstance(statement, ast.With):
        return _ends(statement.body[-1])
    return isinstance(statement, (ast.Return, ast.Raise, ast.Continue, ast.Break))


def _armed_body(body: list[ast.stmt], hook: str = "") -> tuple[list[ast.stmt], int]:
    """The block with a call before each statement and after the last, and how many calls these are."""
    armed: list[ast.stmt] = []
    for point, statement in enumerate(body):
        armed += [_call(point, hook), statement]
    points, last = len(body), body[-1]
    if isinstance(last, ast.Return):  # done, then the fault: what it returned is lost
        lost = ast.Assign([ast.Name(_LOST, ast.Store())], last.value or ast.Constant(None))
        armed[-1:] = [lost, _call(points, hook), ast.Return(ast.Name(_LOST, ast.Load()))]
        return armed, points + 1
    if _ends(last):
        return armed, points
    return [*armed, _call(points, hook)], points + 1


def _code_of(tree: ast.Module, filename: str, function: FunctionType) -> CodeType:
    """The code of the same function in another tree."""
    ast.fix_missing_locations(tree)
    waiting = [compile(tree, filename, "exec", dont_inherit=True)]
    while waiting:
        code = waiting.pop()
        if code.co_qualname == function.__code__.co_qualname:
            return code
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    raise AssertionError(f"no such function any more: {function.__qualname__}")


def function_of(module: str, name: str) -> FunctionType:
    """The function object by its qualified name, below properties, decorators and descriptors."""
    found: Any = load(module)
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    found = getattr(found, "fget", None) or getattr(found, "__func__", None) or found
    found = inspect.unwrap(found) if not isinstance(found, FunctionType) or hasattr(found, "__wrapped__") else found
    assert isinstance(found, FunctionType), f"{module}:{name} is {found!r}"
    return found


@contextmanager
def _exchanged(module: str, name: str, tree: ast.Module, hook: str, inject: Callable[[int], None]) -> Iterator[None]:
    function = function_of(module, name)
    former = function.__code__
    code = _code_of(tree, former.co_filename, function)
    setattr(builtins, hook, inject)
    function.__code__ = code
    try:
        yield
    finally:
        function.__code__ = former
        delattr(builtins, hook)


@contextmanager
def armed(seam: Seam, inject: Callable[[int], None]) -> Iterator[None]:
    """`inject` is called with its number at each point of the seam's block, and raises there if it likes."""
    tree, hook = ast.parse(source(seam.module)), f"{_INJECT}{next(_hooks)}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and node.lineno == seam.line and _guarded(node):
            node.body, _ = _armed_body(node.body, hook)
    with _exchanged(seam.module, seam.function, tree, hook, inject):
        yield


@contextmanager
def armed_function(place: Place, inject: Callable[[int], None]) -> Iterator[None]:
    """`inject` is called at the beginning of this function."""
    tree, hook = ast.parse(source(place.module)), f"{_INJECT}{next(_hooks)}"
    for name, node in _functions(tree):
        if name == place.function:
            has_text = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
            node.body.insert(1 if has_text and len(node.body) > 1 else 0, _call(0, hook))
    with _exchanged(place.module, place.function, tree, hook, inject):
        yield
