from pathlib import Path

import pytest

from turntrace.errors import SettingsError
from turntrace.settings import Settings
from turntrace.spool import directory
from turntrace.spool.directory import Location, filesystem, fingerprint, locate

PG = "postgresql+psycopg://app:secret@db.example:5432/shop"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"database_url": PG}, {"database_url": PG.replace("secret", "rotated")}, True),
        ({"database_url": PG}, {"database_url": PG.replace("psycopg", "asyncpg")}, True),
        ({"database_url": PG}, {"database_url": PG.replace("db.example", "DB.example")}, True),
        ({"database_url": PG}, {"database_url": PG + "?password=x"}, True),
        ({"database_url": PG}, {"database_url": PG + "?options=-csearch_path%3Dtenant"}, False),
        ({"database_url": PG}, {"database_url": PG.replace("shop", "crm")}, False),
        ({"database_url": PG}, {"database_url": PG.replace("5432", "5433")}, False),
        ({"database_url": PG}, {"database_url": PG, "environment": "staging"}, False),
        ({"database_url": "sqlite:///a.db"}, {"database_url": "sqlite+aiosqlite:///a.db"}, True),
        ({"database_url": "sqlite:///a.db"}, {"database_url": "sqlite:///b.db"}, False),
        ({}, {"database_url": "sqlite:///turntrace.db"}, True),
    ],
)
def test_applications_share_a_fingerprint_when_they_share_database_and_environment(
    one: dict[str, str], other: dict[str, str], is_same: bool
) -> None:
    first, second = fingerprint(Settings.of(**one)), fingerprint(Settings.of(**other))
    assert (first == second) is is_same
    assert len(first) == 16
    assert int(first, 16) >= 0


@pytest.mark.parametrize("password", ["a/b", "a#b", "a?b", "a[b", "a:b", "a%2Fb"])
def test_any_password_that_a_url_may_hold_leaves_the_fingerprint(password: str) -> None:
    settings = Settings.of(database_url=PG.replace("secret", password))
    assert fingerprint(settings) == fingerprint(Settings.of(database_url=PG))


@pytest.mark.parametrize("url", ["postgresql://app:secret@db.example:many/shop", "postgresql://[secret/shop"])
def test_what_is_no_url_is_said_without_its_text(url: str) -> None:
    with pytest.raises(SettingsError, match="database_url: not a SQLAlchemy URL") as caught:
        fingerprint(Settings.of(database_url=url))
    assert "secret" not in str(caught.value)


def test_the_same_relative_file_in_another_directory_is_another_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.of(database_url="sqlite:///a.db")
    here = fingerprint(settings)
    monkeypatch.chdir(tmp_path)
    assert fingerprint(settings) != here


def test_the_setting_decides_the_place(tmp_path: Path) -> None:
    settings = Settings.of(spool_dir=str(tmp_path / "spool"))
    name = fingerprint(settings)
    place = locate(settings)
    assert place.path == tmp_path / "spool" / name
    assert place.key_file == tmp_path / "spool" / f"{name}.key"
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


def test_a_place_named_by_the_settings_is_kept_while_it_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    place = locate(Settings.of(spool_dir=str(tmp_path / "file" / "spool")))
    assert place.path is not None
    assert "cannot be used now" in place.warnings[0]


def test_the_state_directory_comes_first_then_var_tmp_then_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked, free = tmp_path / "file" / "state", tmp_path / "tmp"
    monkeypatch.setattr(directory, "_candidates", lambda: ((blocked, False), (free, True)))
    assert locate(Settings()).path == free / fingerprint(Settings())
    monkeypatch.setattr(directory, "_candidates", lambda: ((blocked, False),))
    nowhere = locate(Settings())
    assert (nowhere.path, nowhere.key_file) == (None, None)
    assert "TURNTRACE_SPOOL_DIR" in nowhere.warnings[0]


def test_a_shared_place_that_others_may_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "turntrace"
    base.mkdir()
    base.chmod(0o777)
    monkeypatch.setattr(directory, "_candidates", lambda: ((base, True),))
    assert locate(Settings()).path is None
    base.rmdir()
    base.symlink_to(tmp_path)
    assert locate(Settings()).path is None


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite://"])
def test_a_database_in_memory_is_spooled_in_memory(url: str) -> None:
    assert locate(Settings.of(database_url=url)) == Location(None, None)


def test_the_file_system_is_that_of_the_longest_mount_point(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "overlay / overlay rw 0 0\n/dev/sda /data ext4 rw 0 0\nnas:/x /data/my\\040nas nfs4 rw 0 0\n"
        "tmpfs /data/cache ext4 rw 0 0\ntmpfs /data/cache tmpfs rw 0 0\nbroken\n"
    )
    cases = {
        "/": "overlay",
        "/datafiles": "overlay",
        "/data": "ext4",
        "/data/spool": "ext4",
        "/data/my nas/spool": "nfs4",
        "/data/cache": "tmpfs",
    }
    assert {path: filesystem(Path(path), mounts) for path in cases} == cases
    assert filesystem(Path("/"), tmp_path / "none") is None


@pytest.mark.parametrize(
    ("kind", "words"), [("tmpfs", "reboot"), ("overlay", "container"), ("nfs4", "local disk"), ("ext4", None)]
)
def test_places_that_lose_turns_are_warned_of(
    kind: str, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "filesystem", lambda path: kind)
    warnings = locate(Settings.of(spool_dir=str(tmp_path))).warnings
    assert [words in warning for warning in warnings] == ([True] if words else [])
