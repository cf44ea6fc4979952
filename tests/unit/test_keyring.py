import multiprocessing
import os
import pickle
import stat
from pathlib import Path

import pytest

from turntrace.errors import KeyMissing
from turntrace.keyring import KeyRing, hkdf
from turntrace.settings import Settings

FIRST, SECOND = "a" * 32, "b" * 32


def test_hkdf_agrees_with_rfc_5869_test_case_1_in_its_first_32_bytes() -> None:
    key = hkdf(bytes.fromhex("0b" * 22), bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"), bytes(range(13)))
    assert key.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_hkdf_agrees_with_rfc_5869_test_case_3_without_a_salt() -> None:
    assert (
        hkdf(bytes.fromhex("0b" * 22), b"").hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    )


def test_the_first_key_writes_and_all_of_them_read() -> None:
    old = KeyRing.from_settings(Settings.of(secret_key=FIRST), None)
    both = KeyRing.from_settings(Settings.of(secret_key=f"{SECOND},{FIRST}"), None)
    assert both.current_id != old.current_id
    assert both.ids == (both.current_id, old.current_id)
    assert both.derive(b"spool", key_id=old.current_id) == old.derive(b"spool")
    assert both.is_explicit


def test_purposes_salts_and_keys_give_different_keys() -> None:
    ring = KeyRing([FIRST.encode(), SECOND.encode()], is_explicit=True)
    keys = {
        ring.derive(b"one"),
        ring.derive(b"two"),
        ring.derive(b"one", salt=b"salt"),
        ring.derive(b"one", key_id=ring.ids[1]),
    }
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}


def test_a_key_that_is_not_in_the_ring_is_missing() -> None:
    ring = KeyRing([FIRST.encode()], is_explicit=True)
    with pytest.raises(KeyMissing, match="00000000"):
        ring.derive(b"spool", key_id="00000000")


def test_nothing_secret_shows_and_nothing_is_pickled() -> None:
    ring = KeyRing([FIRST.encode()], is_explicit=True)
    assert FIRST not in repr(ring)
    assert ring.current_id not in repr(ring)
    with pytest.raises(TypeError):
        pickle.dumps(ring)


def test_without_a_secret_key_a_private_key_file_is_made_and_used_again(tmp_path: Path) -> None:
    key_file = tmp_path / "state" / "app.key"
    first = KeyRing.from_settings(Settings(), key_file)
    again = KeyRing.from_settings(Settings(), key_file)
    assert first.derive(b"x") == again.derive(b"x")
    assert not first.is_explicit
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert os.listdir(key_file.parent) == ["app.key"]


def test_a_spool_written_with_the_key_file_stays_readable_once_a_secret_key_is_set(tmp_path: Path) -> None:
    generated = KeyRing.from_settings(Settings(), tmp_path / "app.key")
    explicit = KeyRing.from_settings(Settings.of(secret_key=FIRST), tmp_path / "app.key")
    assert explicit.is_explicit
    assert explicit.derive(b"x", key_id=generated.current_id) == generated.derive(b"x")


def test_an_explicit_key_makes_no_key_file(tmp_path: Path) -> None:
    KeyRing.from_settings(Settings.of(secret_key=FIRST), tmp_path / "app.key")
    assert os.listdir(tmp_path) == []


def test_a_key_file_that_was_cut_short_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "app.key").write_text("short")
    ring = KeyRing.from_settings(Settings(), tmp_path / "app.key")
    assert ring.current_id == KeyRing.from_settings(Settings(), tmp_path / "app.key").current_id


def test_a_symlink_is_never_followed_to_a_key(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("c" * 64)
    (tmp_path / "app.key").symlink_to(tmp_path / "theirs")
    KeyRing.from_settings(Settings(), tmp_path / "app.key")
    assert not (tmp_path / "app.key").is_symlink()
    assert (tmp_path / "theirs").read_text() == "c" * 64


def test_where_no_key_file_can_be_made_the_key_is_of_this_process_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    ring = KeyRing.from_settings(Settings(), tmp_path / "file" / "app.key")
    assert len(ring.derive(b"x")) == 32
    assert "no key file" in caplog.text


def _current_id(key_file: Path, barrier: object, answers: object) -> None:
    barrier.wait(30)  # type: ignore[attr-defined]
    answers.put(KeyRing.from_settings(Settings(), key_file).current_id)  # type: ignore[attr-defined]


def test_processes_that_make_the_key_file_at_once_agree_on_one_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_current_id, args=(tmp_path / "app.key", barrier, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=30) for _ in processes}
    for process in processes:
        process.join(30)
    assert len(found) == 1
