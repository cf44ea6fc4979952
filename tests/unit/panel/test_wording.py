import pytest

from turntrace.panel import wording


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (None, "–"),
        (0, "$0"),
        (1, "$0.000000001"),
        (142_000, "$0.000142"),
        (225_600, "$0.000226"),
        (31_200_000, "$0.0312"),
        (500_000_000, "$0.50"),
        (999_960_000, "$1.00"),
        (12_400_000_000, "$12.40"),
        (1_234_567_890_000, "$1,234.57"),
        (-2_500_000_000, "−$2.50"),
    ],
)
def test_money_never_reads_as_zero_when_it_is_not(nano: int | None, shown: str) -> None:
    assert wording.money(nano) == shown


@pytest.mark.parametrize(
    ("us", "shown"),
    [
        (None, "–"),
        (0, "0 µs"),
        (840, "840 µs"),
        (4_830, "4.8 ms"),
        (12_000, "12 ms"),
        (999_499, "999 ms"),
        (999_500, "1.00 s"),
        (1_240_000, "1.24 s"),
        (59_900_000, "59.9 s"),
        (125_000_000, "2 m 05 s"),
        (3_720_000_000, "1 h 02 m"),
        (200_000_000_000, "2 d 7 h"),
    ],
)
def test_durations_read_as_people_say_them(us: int | None, shown: str) -> None:
    assert wording.duration(us) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(None, "–"), (0, "0"), (9_999, "9,999"), (12_480, "12.5k"), (3_000_000, "3M")]
)
def test_short_counts(number: int | None, shown: str) -> None:
    assert wording.short_count(number) == shown


def test_sizes_shares_changes_and_ages() -> None:
    assert [wording.size(n) for n in (None, 0, 1023, 1536, 1 << 30)] == ["–", "0 B", "1023 B", "1.5 KB", "1.0 GB"]
    assert [wording.percent(*pair) for pair in ((1, 3), (1, 40), (0, 5), (1, 0))] == ["33 %", "2.5 %", "0 %", "–"]
    assert [wording.change(*pair) for pair in ((118, 100), (79, 100), (100, 100), (1, 0), (None, 1))] == [
        "+18 %",
        "−21 %",
        "±0 %",
        "",
        "",
    ]
    assert [wording.ago(0, s * 1_000_000) for s in (5, 200, 9000, 400_000)] == [
        "5 s ago",
        "3 min ago",
        "2 h ago",
        "4 d ago",
    ]
