"""Alert rules, their breaches, and probes."""

from typing import Final

from sqlalchemy import Double, String

from turntrace.storage.tables import length
from turntrace.storage.tables.column import Flag, Instant, LongText, TurnId, Word, column, fixed, index, optional, table

# A condition on a metric; `definition` is JSON as in `POST /alert-rules`, `sealed` holds credentials.
alert_rule: Final = table(
    "alert_rule",
    column("id", fixed(32), primary_key=True),
    column("name", String(100)),
    column("definition", LongText),
    optional("sealed", LongText),
    column("is_enabled", Flag),
    optional("silenced_until_us", Instant),
    optional("checked_at_us", Instant),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("alert_rule_name", "name", unique=True),
)

# One breach of a rule, open until the metric recovers or somebody resolves it.
alert: Final = table(
    "alert",
    column("id", fixed(32), primary_key=True),
    column("rule_id", fixed(32)),
    column("status", Word),  # open, acknowledged, resolved
    optional("value", Double),
    optional("threshold", Double),
    optional("details", LongText),  # JSON: group, window, example turn ids
    optional("turn_id", TurnId),  # an example
    optional("user_id", String(length.USER_ID)),
    column("opened_at_us", Instant),
    optional("closed_at_us", Instant),
    optional("notified_at_us", Instant),
    optional("acknowledged_by", String(length.NAME)),
    index("alert_rule_opened", "rule_id", "opened_at_us"),
    index("alert_status", "status", "opened_at_us"),
)

# A synthetic turn on a timer; `definition` is JSON as in `POST /probes`.
probe: Final = table(
    "probe",
    column("id", fixed(32), primary_key=True),
    column("name", String(100)),
    column("definition", LongText),
    optional("sealed", LongText),
    column("is_enabled", Flag),
    optional("last_status", Word),
    optional("last_turn_id", TurnId),
    optional("last_run_at_us", Instant),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("probe_name", "name", unique=True),
)
