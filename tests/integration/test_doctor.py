"""`turntrace doctor` names what keeps worker or panel from their work."""

from pathlib import Path
from typing import Any

import pytest

from turntrace.doctor import examine
from turntrace.settings import Settings


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prices_file": "/nowhere/prices.json"}, "no worker starts"),
        ({"export_to": "@/nowhere/export.json"}, "nothing is sent on"),
        ({"redaction": "ner", "ner_model": "no_such_model"}, "texts are withheld"),
        ({"redaction": "ner", "ner_model": "no_such_package.model"}, "texts are withheld"),
    ],
)
def test_what_a_setting_names_and_is_not_there_is_an_error(wrong: dict[str, Any], words: str, tmp_path: Path) -> None:
    fixed = {"database_url": f"sqlite:///{tmp_path / 't.db'}", "spool_dir": str(tmp_path / "spool")}
    before, after = (examine(Settings.of(**fixed, **more)) for more in ({}, wrong))
    assert not [finding for finding in before if words in finding.text]
    assert [finding.level for finding in after if words in finding.text] == ["error"]
