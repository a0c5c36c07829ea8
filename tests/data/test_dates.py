"""Dates, times of day and durations: what the net gets of them, and what is refused."""

import datetime as dt
import json
import math
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import UsageError
from trainer.data.tables.learn import Wanted, learn_schema
from trainer.data.tables.memory import as_table
from trainer.data.tables.moments import duration_text
from trainer.data.tables.schema import Schema
from trainer.data.tables.times import durations_of


def learn(values, *, untyped=False, **options):
    labels = (["no", "yes"] * len(values))[: len(values)]
    return learn_schema(pa.table({"a": values, "y": labels}), Wanted("y", **options), untyped=untyped).schema


def encoded(schema, values):
    rows = schema.encode(pa.table({"a": values}), where="here")
    return {name: rows.features[:, number] for number, name in enumerate(schema.feature_names)}


# ---- dates ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9998, 1, 1)), min_size=2, max_size=10),
    st.sampled_from([None, "UTC", "Europe/Berlin", "America/New_York", "+05:30"]),
)
@settings(deadline=None)
def test_the_parts_of_a_date_are_those_of_the_calendar_of_its_zone(moments, zone):
    values = pa.array(moments, pa.timestamp("us")).cast(pa.timestamp("us", zone))
    schema = learn(values, standardize=False)
    found = encoded(schema, values)
    there = dt.timezone(dt.timedelta(hours=5, minutes=30)) if zone == "+05:30" else zone and ZoneInfo(zone)
    local = [each.replace(tzinfo=dt.timezone.utc).astimezone(there) if zone else each for each in moments]
    midnight = [each.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None) for each in local]
    expected = {
        "days": [(each - min(moments)) / dt.timedelta(days=1) for each in moments],
        "year": [each.year for each in local],
    }
    cycles = {
        "month": [(each.month - 1) / 12 for each in local],
        "weekday": [each.weekday() / 7 for each in local],
        "hour": [(each.replace(tzinfo=None) - day) / dt.timedelta(days=1)
                 for each, day in zip(local, midnight, strict=True)],
    }  # fmt: skip
    for name, turns in cycles.items():
        expected[f"{name}.sin"] = [math.sin(2 * math.pi * turn) for turn in turns]
        expected[f"{name}.cos"] = [math.cos(2 * math.pi * turn) for turn in turns]
    varied = {"days"} | ({"year"} if len(set(expected["year"])) > 1 else set())
    varied |= {f"{name}.{wave}" for name, turns in cycles.items() if len(set(turns)) > 1 for wave in ("sin", "cos")}
    assert set(found) == {f"a.{name}" for name in varied}
    for name in varied:
        np.testing.assert_allclose(found[f"a.{name}"], expected[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_days_and_year_are_standardised_and_missing_dates_are_in_the_middle():
    values = ["2022-01-31", "2023-01-31", "2024-01-31", None]
    schema = learn(values, untyped=True)
    assert schema.feature_names == ["a.days", "a.year", "a.weekday.sin", "a.weekday.cos"]
    found = encoded(schema, values)
    np.testing.assert_allclose(found["a.days"], [-math.sqrt(1.5), 0, math.sqrt(1.5), 0], rtol=1e-6)
    np.testing.assert_allclose(found["a.year"], [-math.sqrt(1.5), 0, math.sqrt(1.5), 0], rtol=1e-6)
    assert [found[f"a.weekday.{wave}"][3] for wave in ("sin", "cos")] == [0, 0]
    plain = learn(values, untyped=True, standardize=False)
    assert encoded(plain, values)["a.days"].tolist() == [0, 365, 730, 365]
    assert plain.encode(pa.table({"a": values}), where="here").missing == {"a": 1}


def test_a_date_that_is_always_the_same_is_zero():
    assert encoded(learn(["2024-01-31"] * 4, untyped=True), ["2024-01-31"]) == {"a.days": [0]}


def test_the_learned_zone_decides_whatever_zone_other_rows_are_written_in():
    berlin = pa.array([dt.datetime(2024, 7, day, 22, 30) for day in (1, 2, 3, 4)], pa.timestamp("us"))
    schema = learn(berlin.cast(pa.timestamp("us", "Europe/Berlin")))
    assert schema.columns[0].zone == "Europe/Berlin"
    as_text = ["2024-07-02T00:30+02:00", "2024-07-02T22:30:00Z", "2024-07-04 02:30+0400", "2024-07-04T22:30:00.000Z"]
    expected = encoded(schema, berlin.cast(pa.timestamp("us", "Europe/Berlin")))
    for other in (as_text, berlin.cast(pa.timestamp("us", "America/New_York"))):
        found = encoded(schema, other)
        for name, inputs in expected.items():
            np.testing.assert_array_equal(found[name], inputs)


@pytest.mark.parametrize("text", [True, False])
def test_rows_with_and_without_a_zone_are_refused(text):
    stamps = [dt.datetime(2024, 1, day) for day in (1, 2, 3, 4)]
    plain, zoned = pa.array(stamps, pa.timestamp("us")), pa.array(stamps, pa.timestamp("us", "UTC"))
    if text:
        plain, zoned = (pa.array([f"2024-01-0{day}T00:00{end}" for day in (1, 2, 3, 4)]) for end in ("", "Z"))
    for learned, other, what in ((plain, zoned, "offset|zone"), (zoned, plain, "no offset|no zone")):
        with pytest.raises(UsageError, match=rf"here: .*'a'.*({what})"):
            encoded(learn(learned), other)


def test_a_column_of_text_mixes_no_offsets_with_none():
    with pytest.raises(UsageError, match=r"'2024-01-03' in the column 'a' of dates has no offset from UTC.* at row 3"):
        learn(["2024-01-01T00:00Z", "2024-01-02T00:00Z", "2024-01-03"], untyped=True)


@pytest.mark.parametrize(("unit", "value"), [("us", 2**62), ("ms", -(2**46)), ("s", 2**60)])
def test_a_date_beyond_the_calendar_is_refused(unit, value):
    with pytest.raises(UsageError, match=r"column 'a' has (a date beyond the years 1 to 9999 at row 2|.*too large)"):
        learn(pa.array([0, value], pa.timestamp(unit)))


def test_a_zone_that_is_not_known_is_named():
    with pytest.raises(UsageError, match=r"the time zone 'Mars/Base' of column 'a' is not known here.*tzdata"):
        learn(pa.array([0, 1], pa.timestamp("us", "Mars/Base")))


@pytest.mark.parametrize(
    ("stray", "message"),
    [
        ("soon", "'soon' in the column 'a' of dates at row 12.*Write 2024-01-31.*--categorical a or --ignore a"),
        ("2023-02-29", "'2023-02-29' in the column 'a' is not a day of the calendar at row 12"),
        ("2024-01-31 24:00", "'2024-01-31 24:00' in the column 'a' of dates at row 12"),
        ("2024-01-31T12", "'2024-01-31T12' in the column 'a' of dates at row 12"),
        ("0000-00-00", "'0000-00-00' in the column 'a' of dates at row 12"),
    ],
)
@pytest.mark.parametrize("untyped", [True, False])
def test_other_text_among_dates_is_named(stray, message, untyped):
    good = [f"2024-01-{day:02}" for day in range(10, 21)]
    with pytest.raises(UsageError, match=message):
        learn([*good, stray], untyped=untyped)
    schema = learn(good, untyped=untyped)
    with pytest.raises(UsageError, match="row 2"):
        encoded(schema, [good[0], stray])


@pytest.mark.parametrize(
    "texts",
    [
        ["31/01/2024", "01/02/2024"], ["1/31/24", "12/1/24"], ["31.01.2024", "1.2.2024"], ["2024/01/31", "2024/2/1"],
        ["2024-1-31", "2024-12-1"], ["31 Jan 2024", "1 February 2024"], ["Jan 31, 2024", "Wed, 31 Jan 2024 12:30 GMT"],
        ["31-Jan-24", "01-Feb-24"], ["2024-01-31 8:30", "2024-01-31 12:30 PM"], ["2024-01-31 12:30:00 +0100"] * 2,
        ["2024-01", "2024-02"], ["20240131T123000Z"] * 2,
    ],
)  # fmt: skip
def test_dates_in_another_notation_are_refused_with_the_fix(texts):
    with pytest.raises(UsageError, match=r"'a' holds dates that are not in ISO form, such as '.*' at row 1.*"
                                         r"Write them as 2024-01-31.*--categorical a"):  # fmt: skip
        learn(texts * 5, untyped=True)
    assert learn(texts * 5, untyped=True, categorical=["a"]).columns[0].kind == "category"


@pytest.mark.parametrize("texts", [["8:30", "12:00"], ["08:30 AM", "12:00 pm"], ["25:10:00", "1:00:00"]])
def test_times_in_another_notation_are_refused_with_the_fix(texts):
    with pytest.raises(UsageError, match=r"times that are not in ISO form.*as 08:30 and durations as PT8H30M"):
        learn(texts * 5, untyped=True)


@pytest.mark.parametrize("texts", [["1.2.10", "1.10.3"], ["10-20", "30-40"], ["2024-W05"], ["a 1", "b 2"], ["P", "PT"]])
def test_text_that_only_looks_like_a_date_is_text(texts):
    assert learn(texts * 5, untyped=True).columns[0].kind == "category"


# ---- times of day and durations -------------------------------------------------------------------------------------


def test_a_time_of_day_is_a_place_on_a_circle():
    values = ["00:00", "06:00:00", "18:00:00.000", None]
    schema = learn(values, untyped=True)
    found = encoded(schema, values)
    np.testing.assert_allclose(found["a.sin"], [0, 1, -1, 0], atol=1e-7)
    np.testing.assert_allclose(found["a.cos"], [1, 0, 0, 0], atol=1e-7)
    with pytest.raises(UsageError, match=r"'25:00' in the column 'a' of times of day at row 1.*Write 08:30"):
        encoded(schema, ["25:00"])


@given(st.lists(st.timedeltas(dt.timedelta(-99999), dt.timedelta(99999)), min_size=2, max_size=8))
@settings(deadline=None)
def test_every_spelling_of_a_duration_is_read_to_the_microsecond(durations):
    import pandas as pd

    expected = [each // dt.timedelta(microseconds=1) for each in durations]
    for texts in ([duration_text(us) for us in expected], [str(pd.Timedelta(each)) for each in durations]):
        times = durations_of("a", pa.chunked_array([texts]), where="here")
        assert times.us.tolist() == expected
        # As categories, they are the same text too.
        column = learn(texts, untyped=True, categorical=["a"]).columns[0]
        assert set(column.categories) <= set(texts)
        assert encoded(learn(pa.array(durations, pa.duration("us")), categorical=["a"]), texts).keys()


def test_a_duration_is_its_standardised_seconds():
    values = ["PT1H", "P1DT1H", "1 days 13:00:00", "-PT11H", None]
    schema = learn(values, untyped=True, standardize=False)
    assert encoded(schema, values)["a"].tolist() == [3600, 90000, 133200, -39600, 46800]
    np.testing.assert_allclose(encoded(learn(values, untyped=True), values)["a"].std() ** 2, 4 / 5, rtol=1e-6)
    with pytest.raises(UsageError, match=r"column 'a' holds int64, not durations\. Write durations as PT1H30M"):
        encoded(schema, [3600])


# ---- all of them ----------------------------------------------------------------------------------------------------

SOME = {
    "date": pa.array([dt.date(2024, 1, day) for day in (1, 2, 3, 4)]),
    "time": pa.array([dt.time(hour) for hour in (1, 2, 3, 4)]),
    "duration": pa.array([dt.timedelta(hours=hour) for hour in (1, 2, 3, 4)]),
}


@pytest.mark.parametrize("kind", SOME)
def test_a_declared_category_wins_and_numeric_is_refused(kind):
    assert learn(SOME[kind]).columns[0].kind == kind
    schema = learn(SOME[kind], categorical=["a"])
    assert (schema.columns[0].kind, schema.columns[0].width) == ("category", 4)
    assert np.array_equal(schema.encode(pa.table({"a": SOME[kind]}), where="here").features, np.eye(4))
    with pytest.raises(UsageError, match=r"'a' holds .*, which is not taken as numbers\. Leave a out of --numeric"):
        learn(SOME[kind], numeric=["a"])


@pytest.mark.parametrize("kind", SOME)
def test_a_column_of_another_type_or_of_nothing_is_refused(kind):
    schema = learn(SOME[kind])
    with pytest.raises(UsageError, match="column 'a' holds double, not"):
        encoded(schema, [1.5])
    with pytest.raises(UsageError, match="column 'a' is all missing"):
        learn(pa.nulls(4, SOME[kind].type))
    assert all(values.tolist() == [0] for values in encoded(schema, pa.nulls(1)).values())


def test_a_schema_of_all_kinds_survives_json_and_versions():
    table = pa.table({**SOME, "z": SOME["date"].cast(pa.timestamp("us", "Europe/Berlin")), "y": ["no", "yes"] * 2})
    schema = learn_schema(table, Wanted("y"), untyped=False).schema
    value = json.loads(json.dumps(schema.to_json()))
    assert Schema.from_json(value) == schema
    broken = [{**each, "days": {"mean": 0, "deviation": 0}} if each["kind"] == "date" else each
              for each in value["columns"]]  # fmt: skip
    for columns in (broken, [{**value["columns"][0], "cycles": ["month", "month"]}]):
        with pytest.raises(UsageError, match="schema: column 'date' has"):
            Schema.from_json({**value, "columns": columns})


def test_data_frames_give_what_files_give():
    import pandas as pd

    frame = pd.DataFrame({
        "stamp": pd.to_datetime(["2024-03-31 00:30", "2024-07-01 12:00", None]).tz_localize("Europe/Berlin"),
        "day": [dt.date(2024, 1, 31), dt.date(2023, 1, 31), None],
        "time": [dt.time(8), dt.time(9, 30), None],
        "took": pd.to_timedelta(["1h", "36h", None]),
        "count": pd.array([2**60 + 1, 2**60, None], dtype="Int64"),
        "sort": pd.Categorical(["x", "z", None]),
        "y": ["no", "yes", "no"],
    })  # fmt: skip
    table = as_table(frame, [])
    assert table.schema.field("count").type == pa.int64()
    schema = learn_schema(table, Wanted("y", categorical=["count"]), untyped=False).schema
    assert [column.kind for column in schema.columns] == ["date", "date", "time", "duration", "category", "category"]
    assert schema.columns[4].categories == (str(2**60), str(2**60 + 1))
    import io

    text = pd.read_csv(io.StringIO(frame.to_csv(index=False)), dtype=str)
    first, again = (schema.encode(as_table(each, []), where="here").features for each in (frame, text))
    np.testing.assert_array_equal(first, again)
