"""Servers without threads are recognised, and only those."""

from types import SimpleNamespace
from typing import Any

import pytest

from turntrace.surroundings import SURROUNDINGS, risky_surroundings


def gevent(*patched: str) -> Any:
    return SimpleNamespace(is_module_patched=lambda name: name in patched)


def uwsgi(**options: Any) -> Any:
    return SimpleNamespace(opt={name.replace("_", "-"): value for name, value in options.items()})


@pytest.mark.parametrize(
    ("modules", "found"),
    [
        ({}, ()),
        ({"gevent": object()}, ()),
        ({"gevent.monkey": gevent()}, ()),  # imported by some library, and nothing is patched
        ({"gevent.monkey": gevent("socket")}, ()),
        ({"gevent.monkey": gevent("socket", "threading")}, ("gevent",)),
        ({"eventlet": object(), "eventlet.patcher": SimpleNamespace(is_monkey_patched=lambda name: False)}, ()),
        ({"eventlet.patcher": SimpleNamespace(is_monkey_patched=lambda name: name == "thread")}, ("eventlet",)),
        ({"uwsgi": uwsgi(http=b":80")}, ("uwsgi",)),
        ({"uwsgi": uwsgi(enable_threads=True)}, ()),
        ({"uwsgi": uwsgi(threads=b"4")}, ()),
        ({"uwsgi": SimpleNamespace(opt={b"enable-threads": True})}, ()),
        ({"uwsgi": object()}, ("uwsgi",)),
    ],
)
def test_a_server_without_threads_is_known_by_what_it_loaded(modules: dict[str, Any], found: tuple[str, ...]) -> None:
    assert risky_surroundings("process", modules) == found
    assert risky_surroundings("external", modules) == ()
    assert set(found) <= SURROUNDINGS.keys()
