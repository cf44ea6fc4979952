"""`turntrace doctor` names what keeps worker or panel from their work."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from turntrace.doctor import examine
from turntrace.settings import Settings
from turntrace.storage import migrate
from turntrace.storage.database import Database


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


@pytest.mark.parametrize("dialect", ["mariadb"])
def test_a_server_that_hangs_up_on_the_largest_turn_is_an_error(blank_url: URL, dialect: str, tmp_path: Path) -> None:
    url = blank_url.render_as_string(hide_password=False)
    database = Database(url)
    migrate.upgrade(database)
    with database.read() as connection:
        packet = int(connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one())
    database.close()
    found = {}
    for turn_bytes in (packet // 4, packet):
        settings = Settings.of(database_url=url, spool_dir=str(tmp_path / "spool"), max_turn_bytes=turn_bytes)
        found[turn_bytes] = [each.level for each in examine(settings) if "max_allowed_packet" in each.text]
    assert found == {packet // 4: [], packet: ["error"]}
