"""Settings: read from the environment, checked at once, secrets never shown."""

import pickle
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import make_url

from turntrace.errors import SettingsError
from turntrace.settings import Secret, Settings


def test_defaults_are_the_careful_ones() -> None:
    settings = Settings()
    assert (settings.content, settings.redaction, settings.worker, settings.record) == (
        "redacted",
        "patterns",
        "process",
        "ai",
    )
    assert settings.sample_rate == 1.0
    assert settings.retention() == {"content": 30, "numbers": 400}


def test_values_come_from_variables_and_arguments_win() -> None:
    environ = {
        "TURNTRACE_SAMPLE_RATE": "0.25",
        "TURNTRACE_EXCLUDE": "/a, /b*",
        "TURNTRACE_ENABLED": "no",
        "TURNTRACE_KEEP_COST_USD": "1.25",
        "TURNTRACE_ENVIRONMENT": "staging",
        "OTHER": "x",
    }
    settings = Settings.from_environment(environ, environment="prod")
    assert settings.sample_rate == 0.25
    assert settings.exclude == ("/a", "/b*")
    assert settings.enabled is False
    assert settings.keep_cost_usd == Decimal("1.25")
    assert settings.environment == "prod"


def test_none_says_nothing_whatever_the_default() -> None:
    settings = Settings(content=None, redaction=None, enabled=None, sample_rate=None, exclude=None, release=None)
    assert settings == Settings()


def test_secrets_in_python_lists_are_those_of_a_variable() -> None:
    first, second = "a" * 32, "b" * 32
    assert Settings(secret_key=[first, second]).secret_key == Settings(secret_key=f"{first},{second}").secret_key
    hooks = ("https://one.example/hook", "https://two.example/hook")
    assert Settings(report_every="day", report_to=list(hooks)).report_addresses() == hooks


def test_a_url_object_keeps_its_password() -> None:
    text = "postgresql://app:sesame@db.example/shop"
    assert Settings(database_url=make_url(text)).database_url == Secret(text)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("worker", "sideways", "process, thread, external"),
        ("sample_rate", "1.5", "0..1"),
        ("sample_rate", "many", "number"),
        ("sample_rate", "nan", "at least"),
        ("redaction_seconds", "inf", "finite"),
        ("shutdown_seconds", float("inf"), "finite"),
        ("keep_cost_usd", "sNaN", "finite"),
        ("keep_cost_usd", "Infinity", "finite"),
        ("exclude", 5, "list of texts"),
        ("provider_hosts", {"localhost:8000": "vllm"}, "list of texts"),
        ("phone_regions", [49], "texts in the list"),
        ("enabled", "perhaps", "true/false"),
        ("secret_key", "short", "32 characters"),
        ("environment", "Not So", "lower case"),
        ("environment", "turntrace-x", "turntrace"),
        ("retention_days", "forever", "content=30"),
        ("trusted_context", "10.0.0.0/99", "networks"),
        ("user_id", "no_such_module:f", "module:function"),
        ("user_id", "os:sep", "not callable"),
        ("spool_max_bytes", "1", "at least"),
        ("rollup_tags", "a,b,c,d,e,f", "five"),
        ("panel_password", "short", "12 characters"),
        ("content", "full", "redaction=off"),
        ("redaction", "ner", "spaCy model"),
    ],
)
def test_an_unusable_value_names_the_setting_and_what_is_allowed(name: str, value: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as raised:
        Settings.from_environment({f"TURNTRACE_{name.upper()}": value})
    assert "TURNTRACE_" in str(raised.value)


def test_an_unknown_variable_or_key_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="TURNTRACE_SAMPEL_RATE.*sample_rate"):
        Settings.from_environment({"TURNTRACE_SAMPEL_RATE": "1"})
    with pytest.raises(SettingsError, match="colour.*sample_rate"):
        Settings.of(colour="blue")


def test_secrets_are_not_shown() -> None:
    settings = Settings(database_url="postgresql://me:canary@db/x", secret_key="canary" * 8)
    assert "canary" not in repr(settings) + str(settings) + repr(settings.secret_key)
    assert settings.database_url is not None
    assert settings.database_url.reveal() == "postgresql://me:canary@db/x"
    with pytest.raises(TypeError):
        pickle.dumps(Secret("canary"))


def test_the_wire_form_makes_equal_settings_again() -> None:
    settings = Settings(
        database_url="sqlite://", secret_key="k" * 40, rollup_tags=("plan",), keep_cost_usd=Decimal("0.1")
    )
    assert Settings.of(**settings.wire()) == settings


def test_raw_content_needs_both_settings_by_hand() -> None:
    assert Settings(content="full", redaction="off").content == "full"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (
            "production-eu=postgresql+psycopg://me:can,ary=1@eu.example/x?a=1,b=2, staging=sqlite:///a/b.db",
            {
                "production-eu": "postgresql+psycopg://me:can,ary=1@eu.example/x?a=1,b=2",
                "staging": "sqlite:///a/b.db",
            },
        ),
        ({"turntrace-evaluation": "sqlite:///c.db"}, {"turntrace-evaluation": "sqlite:///c.db"}),
    ],
)
def test_stores_of_environments_are_read_and_not_shown(given: object, found: dict[str, str]) -> None:
    settings = Settings(content_urls=given)  # type: ignore[arg-type]
    assert {name: url.reveal() for name, url in settings.content_stores().items()} == found
    assert "can,ary" not in repr(settings) + repr(settings.content_stores())
    assert Settings.of(**settings.wire()).content_stores() == settings.content_stores()


@pytest.mark.parametrize(
    "given",
    [
        "sqlite:///canary.db",
        "EU=sqlite:///canary.db",
        '{"eu": 7}',
        "{canary",
        "eu=",
        "eu=canary",
        "postgresql://me:canary@h/x?sslmode=require",  # the name of the environment forgotten
        "eu=sqlite:///a.db, postgresql://me:canary@h/x?a=sqlite:///b.db",
        '{"postgresql://me:canary@h/x": "sqlite:///a.db"}',
        "eu=postgresql://me:canary@h/x us=sqlite:///a.db",  # no comma
        "eu=postgresql://me:canary@h/x;us=sqlite:///a.db",
        "eu=postgresql://me:canary@h/x,",
        "canary,eu=sqlite:///a.db",
        "eu=sqlite:///canary.db,eu=sqlite:///a.db",
        '{"eu": "sqlite:///canary.db", "eu": "sqlite:///a.db"}',
        "eu=postgresql://h:canary/x",
    ],
)
def test_stores_that_are_not_understood_are_refused_without_being_shown(given: str) -> None:
    with pytest.raises(SettingsError, match="content_urls") as refused:
        Settings(content_urls=given)  # type: ignore[arg-type]
    assert "canary" not in str(refused.value)


def test_a_store_must_be_among_the_hosts_that_may_be_called() -> None:
    url = "eu=postgresql://me:canary@eu.example/x"
    assert Settings(content_urls=url, outgoing_hosts=("*.example",)).content_stores()  # type: ignore[arg-type]
    assert Settings(content_urls="eu=sqlite:///x.db", outgoing_hosts=("a.example",)).content_stores()  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="outgoing_hosts") as refused:
        Settings(content_urls=url, outgoing_hosts=("a.example",))  # type: ignore[arg-type]
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://eu.example/x?host=us.example",
        "postgresql:///x?host=eu.example,us.example",
        "postgresql://eu.example:canary@us.example/x",
        "postgresql://eu.example:can/ary@us.example/x",
        "postgresql://eu.example/x?hostaddr=192.0.2.1",
        "postgresql://eu.example/x?service=canary",
    ],
)
def test_every_host_that_a_store_may_be_connected_at_is_looked_at(url: str) -> None:
    with pytest.raises(SettingsError, match="outgoing_hosts"):
        Settings(content_urls=f"eu={url}", outgoing_hosts=("eu.example",))  # type: ignore[arg-type]


def test_of_the_address_of_a_store_its_hosts_are_told_and_no_names() -> None:
    urls = "eu=postgresql://me:p/w@eu.example/x?host=us.example,here=sqlite:///a.db"
    found = Settings(content_urls=urls).content_hosts()  # type: ignore[arg-type]
    assert found == {"eu": ("eu.example", "us.example"), "here": ()}
