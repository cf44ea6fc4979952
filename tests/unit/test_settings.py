"""Settings: read from the environment, checked at once, secrets never shown."""

import pickle
from decimal import Decimal

import pytest

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


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("worker", "sideways", "process, thread, external"),
        ("sample_rate", "1.5", "0..1"),
        ("sample_rate", "many", "number"),
        ("sample_rate", "nan", "at least"),
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
def test_an_unusable_value_names_the_setting_and_what_is_allowed(name: str, value: str, said: str) -> None:
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
