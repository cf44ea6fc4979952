"""Roll-ups: sums by time and dimension, and histograms. Append-only deltas, merged by one elected compactor.

Readers always sum: a key may have several rows, compacted or not. What is kept by hour is kept by day too, but only the
compactor writes days: those of a day are the sum of its compacted hours, so that a reader of whole days takes day rows
and the hours that are not compacted yet, and writers append one row for both. So it is with days of people by model,
and whole ones.
"""

from typing import Final

from sqlalchemy import String

from turntrace.storage.tables import length
from turntrace.storage.tables.column import Count, Flag, Instant, LongText, Nano, Serial, Word, column, index, table

WHOLE: Final = "whole"

# Sums of one bucket of time. `grain` is `minute`, `hour` or `day`; `at_us` the start of the bucket (UTC). `dimension`
# "" is the base: by model, provider, feature and environment, kept by hour and day, and by minute for 48 hours. A
# marginal (`user`, `session`: by day only; `route`, `release`, `prompt`, `experiment`, `tag`: by hour and day) has its
# value in `value` (a tag as "key:value", a prompt as "name@version") and is kept by model and environment: `provider`
# and `feature` are "". `input_length` and `step` (by hour and day, of calls and of every step, as `calls`) have a
# bucket of `records.rollup.SIZES` and "type:name" in `value`. Turns are counted in rows with model "", calls in rows
# with the model's name. Every row is one price version and service tier. `own_us` is the time of steps themselves.
# The grain `whole` is a day of a user or session by whatever model, price and tier (all ""), of which there is one row
# to read where there are many: turns with their errors and times, and the calls, tokens and cost of their calls.
rollup: Final = table(
    "rollup",
    column("id", Serial, primary_key=True, autoincrement=True),
    column("is_compacted", Flag),
    column("grain", Word),
    column("at_us", Instant),
    column("dimension", Word),
    column("value", String(length.NAME)),
    column("model", String(length.MODEL)),
    column("provider", String(length.PROVIDER)),
    column("feature", String(length.FEATURE)),
    column("environment", String(length.ENVIRONMENT)),
    column("price_version", String(length.PRICE_VERSION)),
    column("tier", String(length.TIER)),
    column("turns", Count),
    column("calls", Count),
    column("errors", Count),
    column("unpriced", Count),
    column("input_tokens", Count),
    column("output_tokens", Count),
    column("cache_read_tokens", Count),
    column("cache_write_tokens", Count),
    column("reasoning_tokens", Count),
    column("cost_input_nano", Nano),
    column("cost_output_nano", Nano),
    column("cost_total_nano", Nano),
    column("duration_us", Count),
    column("duration_count", Count),
    column("ttft_us", Count),
    column("ttft_count", Count),
    column("own_us", Count, server_default="0"),
    index("rollup_at", "dimension", "grain", "is_compacted", "at_us"),
    index("rollup_value", "dimension", "value", "at_us"),
    index("rollup_delta", "is_compacted", "id"),
    # It answers who spent most without a look at the rows.
    index(
        "rollup_whole",
        *("dimension", "at_us", "value", "environment", "cost_total_nano", "turns", "calls"),
        only=f"grain = '{WHOLE}'",
    ),
)

# How many lengths fell into each 1 % log bucket, by hour and day (`grain`, `at_us` as in roll-ups). `metric` is
# `duration` or `ttft` (first byte) of turns, by feature and environment; `call_duration`, `call_ttft`, `call_tpot` (µs
# per output token after the first), `call_input` or `call_output` (tokens) of model calls, by model, environment and
# `size` of their input. What a metric is not kept by is "". `counts` is the text of `storage.histograms.packed`: bucket
# b holds lengths of about `storage.histograms.middle_us(b)`, ± 1 %. One row holds all its buckets: a row a bucket would
# be thirty times the rows to write and to read.
histogram: Final = table(
    "histogram",
    column("id", Serial, primary_key=True, autoincrement=True),
    column("is_compacted", Flag),
    column("grain", Word),
    column("at_us", Instant),
    column("metric", Word),
    column("model", String(length.MODEL)),
    column("feature", String(length.FEATURE)),
    column("environment", String(length.ENVIRONMENT)),
    column("size", String(length.SIZE), server_default=""),  # of `records.rollup.SIZES`
    column("counts", LongText),
    index("histogram_at", "metric", "grain", "is_compacted", "at_us"),
    index("histogram_delta", "is_compacted", "id"),
)
