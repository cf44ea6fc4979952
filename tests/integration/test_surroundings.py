"""A risky server is told at the start, on the System page and by `doctor`, which runs in another process."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from turntrace import Turntrace
from turntrace.doctor import examine


@pytest.mark.parametrize(
    ("module", "stand_in", "words", "level"),
    [
        ("uwsgi", SimpleNamespace(opt={}), "--enable-threads", "error"),
        ("gevent.monkey", SimpleNamespace(is_module_patched=lambda name: True), "greenlets", "warning"),
    ],
)
def test_it_is_told_everywhere(
    module: str,
    stand_in: object,
    words: str,
    level: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, module, stand_in)
    tt = Turntrace(f"sqlite:///{tmp_path / 't.db'}", spool_dir=str(tmp_path / "spool"), secret_key="k" * 32)
    monkeypatch.setattr(tt.recorder, "_supervise", lambda location, mode: None)  # no worker is needed here
    try:
        with caplog.at_level(logging.WARNING, logger="turntrace"), tt.turn("job"):
            pass
        assert [record for record in caplog.records if words in record.getMessage()]
        assert [warning for warning in tt.recorder.warnings() if words in warning]
        monkeypatch.delitem(sys.modules, module)
        told = [finding for finding in examine(tt.settings) if words in finding.text]
        assert [finding.level for finding in told] == [level]
    finally:
        tt.shutdown()
