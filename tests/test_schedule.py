"""When something falls due, over every change of the clocks; time is an argument."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbridge_trio.errors import BadRequest
from apexbridge_trio.schedule import Cron, instant_of, read_zone

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
SHANGHAI = ZoneInfo("Asia/Shanghai")
ZONES = [BERLIN, NEW_YORK, LORD_HOWE, SHANGHAI]
# A Sunday.
NOW = datetime(2026, 11, 22, 8, 30, 15, tzinfo=BERLIN)


def following(cron, instant, zone):
    found = cron.next_after(instant, zone)
    assert found is not None
    return found


def offset_s(wall):
    offset = wall.utcoffset()
    assert offset is not None
    return round(offset.total_seconds())


def due(line, start, count=1, zone=BERLIN):
    """The next instants, each with its offset, as that zone's clock shows them."""
    cron, instant = Cron.read(line), datetime.fromisoformat(start).replace(tzinfo=zone).timestamp()
    said = []
    for _ in range(count):
        instant = following(cron, instant, zone)
        said.append(datetime.fromtimestamp(instant, zone).strftime("%m-%d %H:%M%z"))
    return said


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("* * * * *", "2026-11-22T08:31"),
        ("30 8 * * *", "2026-11-23T08:30"),
        ("*/20 * * * *", "2026-11-22T08:40"),
        ("5/30 * * * *", "2026-11-22T08:35"),
        ("0 */6 * * *", "2026-11-22T12:00"),
        ("0 9-17/4,20 * * *", "2026-11-22T09:00"),
        ("0 7 * * 1", "2026-11-23T07:00"),
        ("0 7 * * mon-fri", "2026-11-23T07:00"),
        ("0 7 * * 7", "2026-11-29T07:00"),
        ("0 7 * * 5L", "2026-11-27T07:00"),
        ("0 0 L * *", "2026-11-30T00:00"),
        ("0 0 1 1 *", "2027-01-01T00:00"),
        ("0 0 24 * 6", "2026-11-24T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
    ],
)
def test_it_falls_due(line, at):
    want = datetime.fromisoformat(at).replace(tzinfo=BERLIN)
    assert NOW + timedelta(seconds=Cron.read(line).delay(NOW)) == want


def test_a_day_of_23_hours_is_waited_for_23_hours():
    eve = datetime(2026, 3, 28, 12, 0, tzinfo=BERLIN)
    assert Cron.read("0 12 * * *").delay(eve) == 23 * 3600
    assert Cron.read("0 12 * * *").delay(datetime(2026, 3, 28, 11, tzinfo=UTC)) == 3600


@pytest.mark.parametrize(
    "line",
    ["", "* * * *", "60 * * * *", "x * * * *", "*/0 * * * *", "5-1 * * * *", "* * 0 * *", "@daily", "0 0 0 * * *",
     "* * * * 5#2/2", "* * * * L", "* * L/x * *", "1,,2 * * * *", "² * * * *", "1/" * 90 + " * * * *", "* " * 4 + "*" * 300],
)  # fmt: skip
def test_what_is_no_cron_line_is_said(line):
    with pytest.raises(BadRequest) as refused:
        Cron.read(line)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 2 *", "0 0 31 4,6,9,11 *"])
def test_one_that_never_falls_due_is_said(line):
    with pytest.raises(BadRequest, match="never falls due"):
        Cron.read(line)


@pytest.mark.parametrize(
    ("zone", "line", "start", "want"),
    [
        # 2026-03-29 02:00 -> 03:00
        (BERLIN, "30 2 * * *", "2026-03-28T02:30", ["03-29 03:00+0200", "03-30 02:30+0200"]),
        (BERLIN, "0 2-3 * * *", "2026-03-29T01:00", ["03-29 03:00+0200", "03-30 02:00+0200"]),
        (BERLIN, "*/15 2 * * *", "2026-03-29T01:00", ["03-29 03:00+0200", "03-30 02:00+0200"]),
        (BERLIN, "0 */2 * * *", "2026-03-29T00:00", ["03-29 03:00+0200", "03-29 04:00+0200"]),
        (BERLIN, "30 * * * *", "2026-03-29T01:00", ["03-29 01:30+0100", "03-29 03:30+0200"]),
        # 2026-10-25 03:00 -> 02:00
        (BERLIN, "30 2 * * *", "2026-10-24T02:30", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        (BERLIN, "30 * * * *", "2026-10-25T02:00", ["10-25 02:30+0200", "10-25 02:30+0100", "10-25 03:30+0100"]),
        # 2026-03-08 02:00 -> 03:00, 2026-11-01 02:00 -> 01:00
        (NEW_YORK, "15 2 * * *", "2026-03-07T03:00", ["03-08 03:00-0400", "03-09 02:15-0400"]),
        (NEW_YORK, "15 1 * * *", "2026-10-31T03:00", ["11-01 01:15-0400", "11-02 01:15-0500"]),
        # 2026-10-04 02:00 -> 02:30, 2026-04-05 02:00 -> 01:30
        (LORD_HOWE, "10 2 * * *", "2026-10-03T03:00", ["10-04 02:30+1100", "10-05 02:10+1100"]),
        (LORD_HOWE, "40 1 * * *", "2026-04-04T03:00", ["04-05 01:40+1100", "04-06 01:40+1030"]),
        (LORD_HOWE, "0 5 * * *", "2026-10-04T01:00", ["10-04 05:00+1100", "10-05 05:00+1100"]),
        (LORD_HOWE, "*/20 * * * *", "2026-04-05T01:20",
         ["04-05 01:40+1100", "04-05 01:40+1030", "04-05 02:00+1030"]),
        (LORD_HOWE, "15 * * * *", "2026-10-04T01:00", ["10-04 01:15+1030", "10-04 03:15+1100"]),
        (SHANGHAI, "30 2 * * *", "2026-03-29T01:00", ["03-29 02:30+0800", "03-30 02:30+0800"]),
        # Two that are past: a change at midnight, and a whole day that an island left out.
        (ZoneInfo("America/Sao_Paulo"), "0 0 * * *", "2018-11-03T12:00", ["11-04 01:00-0200", "11-05 00:00-0200"]),
        (ZoneInfo("Pacific/Apia"), "0 7 30 12 *", "2011-12-29T12:00", ["12-31 00:00+1400", "12-30 07:00+1400"]),
    ],
)  # fmt: skip
def test_over_a_change_of_the_clocks(zone, line, start, want):
    assert due(line, start, len(want), zone) == want


def test_in_the_second_pass_of_a_fold_nothing_of_the_first_is_named():
    second = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1).timestamp()
    found = following(Cron.read("45 2 * * *"), second, BERLIN)
    assert datetime.fromtimestamp(found, BERLIN).isoformat() == "2026-10-26T02:45:00+01:00"


def expected(line, zone, start, end):
    """What is due within some days, minute by minute: a second way, without a look at any wall to come."""
    fields = line.split()
    minutes, hours = (
        set(range(size)) if text == "*" else {int(part) for part in text.split(",")}
        for text, size in zip(fields[:2], (60, 24), strict=True)
    )
    found, seen, before = [], set(), datetime.fromtimestamp(start - 60, zone)
    for instant in range(start, end, 60):
        wall = datetime.fromtimestamp(instant, zone)
        is_due = wall.minute in minutes and wall.hour in hours
        if len(hours) < 24:
            key = wall.strftime("%m-%d %H:%M")
            gap = (offset_s(wall) - offset_s(before)) // 60
            skipped = [wall.replace(tzinfo=None) - timedelta(minutes=back) for back in range(1, gap + 1)]
            is_due = (is_due and key not in seen) or any(
                one.minute in minutes and one.hour in hours for one in skipped
            )
            seen.add(key)
        if is_due:
            found.append(instant)
        before = wall
    return found


# Days around each change of 2027, and a day without any.
DAYS = [datetime(2027, month, day, tzinfo=UTC) for month, day in
        [(3, 13), (3, 27), (4, 2), (7, 1), (10, 1), (10, 29), (11, 6)]]  # fmt: skip
some = lambda most: st.one_of(  # noqa: E731
    st.just("*"),
    st.sets(st.integers(0, most), min_size=1, max_size=4).map(lambda found: ",".join(map(str, found))),
)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.sets(st.integers(0, 59), min_size=1, max_size=3).map(lambda found: ",".join(map(str, found))),
    st.one_of(
        some(23), st.sets(st.sampled_from([0, 1, 2, 3]), min_size=1).map(lambda s: ",".join(map(str, s)))
    ),
    st.sampled_from(DAYS),
)
def test_each_line_is_due_when_a_look_at_each_minute_says_so(zone, minute, hour, day):
    line = f"{minute} {hour} * * *"
    start = int(day.timestamp())
    cron, instant, found = Cron.read(line), start - 1.0, []
    while (instant := following(cron, instant, zone)) < start + 3 * 86400:
        found.append(int(instant))
    # What the first minutes repeat of a fold before them is not seen there; no day begins in one.
    assert found == expected(line, zone, start, start + 3 * 86400)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([*ZONES, ZoneInfo("Antarctica/Troll"), ZoneInfo("Africa/Casablanca")]),
    st.sampled_from(["* * * * *", "30 2 * * *", "*/7 1-3 * * *", "0 0 29 2 *", "15 * * * mon", "0 1 L * *"]),
    st.floats(0, 4e9),
)
def test_it_goes_on_and_never_back(zone, line, instant):
    cron, instants = Cron.read(line), [instant]
    for _ in range(5):
        instants.append(following(cron, instants[-1], zone))
    assert all(first < second for first, second in pairwise(instants))
    # From any moment between two, the next one is the same.
    assert cron.next_after((instants[1] + instants[2]) / 2, zone) == instants[2]


def test_an_instant_of_a_wall():
    def of(text, zone=BERLIN):
        return datetime.fromtimestamp(instant_of(datetime.fromisoformat(text), zone), zone).isoformat()

    assert of("2026-07-01T12:00:30") == "2026-07-01T12:00:30+02:00"
    assert of("2026-03-29T02:30") == "2026-03-29T03:00:00+02:00"
    assert of("2026-10-25T02:30") == "2026-10-25T02:30:00+02:00"
    assert of("2026-10-04T02:10", LORD_HOWE) == "2026-10-04T02:30:00+11:00"


@pytest.mark.parametrize(
    ("now", "want"),
    [("00:29", "00:30"), ("00:30", "00:30"), ("00:31", "01:30"), ("01:30", "01:30"), ("01:31", "00:30")],
)
def test_in_a_fold_the_second_counts_once_the_first_has_passed(now, want):
    def at(text):
        return datetime.fromisoformat(f"2026-10-25T{text}:00+00:00").timestamp()

    assert instant_of(datetime.fromisoformat("2026-10-25T02:30"), BERLIN, at(now)) == at(want)


@pytest.mark.parametrize(
    ("name", "near"),
    [("Europe/Berln", "Europe/Berlin"), ("asia/shanghai", "Asia/Shanghai"), ("New_York", "near"), ("", "such as"),
     ("../../etc/passwd", "such as"), ("/etc/localtime", "zone"), ("America", "near"), ("tzdata.zi", "zone"), ("a\0b", "zone"),
     ("北京", "such as"), ("x" * 100_000, "such as")],
)  # fmt: skip
def test_a_zone_that_does_not_exist(name, near):
    with pytest.raises(BadRequest, match=near) as refused:
        read_zone(name)
    assert refused.value.param == "timezone"
    assert len(str(refused.value)) < 400
