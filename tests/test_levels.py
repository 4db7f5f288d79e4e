"""Levels: found again however a table spells them, and ordered where that is certain."""

from __future__ import annotations

import datetime
import itertools
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from descents import LowRankModel
from descents.cells.columns import of_table
from descents.cells.encoding import encoded
from descents.errors import InvalidValueError
from descents.losses import NAMED
from descents.runs.request import level_lists
from descents.tables.files import read
from descents.tables.levels import KnownLevels, Places, coded, levels_of
from descents.tables.orders import order_of, ordered
from descents.tables.scales import PLACES, arranged
from descents.tables.spelling import listed, text_of
from descents.tables.tables import from_frame
from descents.tables.unseen import known_only

ORDINAL = sorted(name for name, loss in NAMED.items() if loss.kind == "levels")
ROWS = 24


def frame_of(cells: Any, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=len(cells))
    noise = 0.1 * generator.normal(size=len(cells))
    return pd.DataFrame({"x": x, "y": 2 * x + noise, "c": cells})


def repeated(*levels: Any) -> list[Any]:
    return [levels[i % len(levels)] for i in range(ROWS)]


def fitted(frame: Any, **settings: Any) -> LowRankModel:
    settings = {"held_out": 0, "max_iter": 300, **settings}
    return LowRankModel(1, random_state=0, **settings).fit(frame)


# Places


@pytest.mark.parametrize(
    ("levels", "value", "place"),
    [
        (["01", "02", "10", "48"], 10, 2),
        (["01", "02", "10", "48"], 48.0, 3),
        (["01", "02", "10", "48"], "1", 0),
        (["01", "1"], "1", 1),
        (["01", "1"], 1, 1),
        (["01", "001"], 1, None),
        ([1.0, 2.0], "2", 1),
        ([1, 2], 2.0, 1),
        ([1, 2], Decimal("2.00"), 1),
        ([1, 2], np.float64(1), 0),
        ([0.1, 0.2], np.float32(0.1), 0),
        (["1", "2", "x"], 2, 1),
        (["1.10"], "1.1", 0),
        ([2**60, 2**60 + 1], "1152921504606846977", 1),
        ([2**60, 2**60 + 1], 2**60 + 2, None),
        (["1152921504606846976"], 2**60 + 1, None),
        (["no", "yes"], True, 1),
        (["no", "yes"], "YES", 1),
        ([False, True], "false", 0),
        ([False, True], 1, 1),
        ([0, 1], True, 1),
        ([0, 1, 2], True, None),
        (["TRUE", "no", "yes"], True, 0),
        (["TRUE", "no", "yes"], "true", 0),
        (["TRUE", "no", "yes"], False, None),
        (["no", "yes"], 1, 1),
        (["no", "yes"], "0.0", 0),
        (["no", "yes"], 2, None),
        (["TRUE", "FALSE"], "1", 0),
        (["TRUE", "FALSE"], "t", 0),
        (["FALSE", "TRUE"], "Y", 1),
        (["F", "T"], True, 1),
        (["F", "T"], "no", 0),
        (["y", "n"], "N", 1),
        (["y", "n"], 1, 0),
        (["Y", "N"], "F", 1),
        ([False, True], "1.0", 1),
        ([False, True], "n", 0),
        ([0, 1], "yes", 1),
        ([1.0, 0.0], "F", 1),
        ([0, 1, 2], "yes", None),
        ([1, 2], "true", None),
        (["F", "M"], False, None),
        (["F", "M"], "f", None),
        (["F", "M"], 0, None),
        (["N", "T"], "yes", None),
        (["n", "y", "u"], 1, None),
        (["2021-01-01", "n/a"], datetime.date(2021, 1, 1), 0),
        (["2021-01-01", "n/a"], datetime.datetime(2021, 1, 1), 0),
        (["2021-01-01", "n/a"], datetime.datetime(2021, 1, 1, 5), None),
        (["2021-01-01 10:00"], datetime.datetime(2021, 1, 1, 10), 0),
        (["a", "b"], "A", None),
        (["nan", "inf"], float("inf"), 1),
    ],
)
def test_a_level_is_found_however_it_is_spelled(levels, value, place) -> None:
    assert Places(levels).of(value) == place


def test_case_and_spaces_count_unless_they_do_not() -> None:
    assert Places(["Low", "High"]).of("low") is None
    assert Places(["Low", "High"], loose=True).of(" low") == 0
    assert Places(["Low", "low"], loose=True).of("LOW") is None


@pytest.mark.parametrize("maker", [lambda x: x, pl.from_pandas, pa.Table.from_pandas])
@pytest.mark.parametrize(
    ("fit", "new", "same"),
    [
        (repeated("01", "02", "10", "48"), [10, 48, 1], ["10", "48", "01"]),
        (repeated("1", "2", "x"), [1, 2], ["1", "2"]),
        (repeated(1, 2, 3), ["1", "03"], [1, 3]),
        (repeated(1, 2, 3), [1.0, 3.0], [1, 3]),
        (repeated(1.0, 2.0, 3.0), [1, 3], [1.0, 3.0]),
        (repeated(False, True), ["True", "false"], [True, False]),
        (repeated("no", "yes"), [True, False], ["yes", "no"]),
        (repeated("yes", "no", "TRUE"), [True, True], ["TRUE", "TRUE"]),
        (
            repeated("2021-01-01", "2021-01-02", "n/a"),
            [datetime.date(2021, 1, 2), datetime.date(2021, 1, 1)],
            ["2021-01-02", "2021-01-01"],
        ),
        (repeated(2**60, 2**60 + 1), [str(2**60 + 1)], [2**60 + 1]),
    ],
)
@pytest.mark.sampled(12)
def test_new_rows_may_have_another_type(maker, fit, new, same) -> None:
    loss = {"c": "categorical"}
    model = fitted(maker(frame_of(fit)), loss=loss)
    rows, as_fitted = frame_of(new, seed=1), frame_of(same, seed=1)
    expected = model.transform(maker(as_fitted))
    np.testing.assert_array_equal(model.transform(maker(rows)), expected)
    # A cell that is filled gets a level of the model, in the type of the new column.
    codes, unseen = coded(from_frame(maker(rows)).column("c"), model.columns_[2].known)
    assert not unseen
    assert [model.columns_[2].levels[int(code)] for code in codes] == same


@pytest.mark.filterwarnings("ignore:.*outside")  # rows of other numbers
def test_numbers_may_come_as_text_and_text_may_not_come_as_numbers() -> None:
    numbers = repeated(3, 5, 8)
    model = fitted(frame_of(numbers), loss={"c": "squared"})
    text = frame_of(["05", "3", None], seed=1)
    expected = model.transform(frame_of([5, 3, np.nan], seed=1))
    np.testing.assert_array_equal(model.transform(text), expected)
    filled = model.impute(text)["c"].tolist()
    assert filled[:2] == ["05", "3"]
    assert 3 <= int(filled[2]) <= 8
    for cells in (["5", "x"], pd.to_datetime(["2021-01-01", "2021-01-02"])):
        with pytest.raises(InvalidValueError, match="the model has numbers there"):
            model.transform(frame_of(cells))


@pytest.mark.slow
def test_days_are_levels_by_their_text() -> None:
    days = [datetime.date(2021, 1, day) for day in (10, 9, 11)]
    for maker in (lambda x: x, pl.from_pandas, pa.Table.from_pandas):
        model = fitted(maker(frame_of(repeated(*days))), loss={"c": "ordinal"})
        levels = ("2021-01-09", "2021-01-10", "2021-01-11")
        assert model.columns_[2].levels == levels
        assert model.columns_[2].loss.name == "ordinal"
        holes = maker(frame_of([*repeated(*days), None]))
        filled = model.impute(holes)
        column = (
            filled["c"].to_pylist() if isinstance(filled, pa.Table) else filled["c"]
        )
        assert text_of(list(column)[-1]) in levels
        assert text_of(next(iter(column))) == "2021-01-10"


def test_narrow_floats_are_levels_by_their_text() -> None:
    for kind in (np.float32, np.float16):
        cells = np.array(repeated(0.1, 0.2, 0.7)).astype(kind)
        table = from_frame(frame_of(cells))
        model = of_table(table, {"c": "ordinal"})[2]
        assert model.levels == (0.1, 0.2, 0.7)
        codes = encoded(model, table.column("c"))
        np.testing.assert_array_equal(codes, repeated(0, 1, 2))
    array = np.array([repeated(0.1, 0.2, 0.7)] * 2, dtype=np.float32).T
    model = fitted(array, loss="categorical")
    assert model.columns_[0].levels == (0.1, 0.2, 0.7)
    expected = model.transform(array[:3])
    np.testing.assert_array_equal(
        model.transform([[0.1] * 2, [0.2] * 2, [0.7] * 2]), expected
    )


# Whole numbers beyond 2**53


def test_long_whole_numbers_stay_apart() -> None:
    big = [10**18 + i for i in (5, 0, 7)]
    for cells in (big, [Decimal(x) for x in big], [str(x) for x in big]):
        column = from_frame(pa.table({"c": cells})).column("c")
        assert [int(x) for x in levels_of(column)] == sorted(big)
    series = pd.array(repeated(*big), dtype="Int64")
    series[4] = None
    model = fitted(frame_of(series), loss={"c": "categorical"})
    assert model.columns_[2].levels == tuple(sorted(big))
    filled = model.impute(frame_of(series))["c"]
    assert filled[4] in big
    assert filled.drop(4).tolist() == [x for i, x in enumerate(series) if i != 4]
    assert set(model.inverse_transform(model.embedding_)[:, 2]) <= set(big)
    with pytest.raises(InvalidValueError, match="beyond 2\\*\\*53"):
        fitted(np.array(big)[:, None] + np.arange(2), loss="categorical")


# Levels that the model does not know


def test_unseen_levels_are_an_error_or_missing() -> None:
    frame = frame_of(repeated("a", "b", "c"))
    new = frame_of(["a", "z", None, "q", "z"], seed=1)
    blank = new.assign(c=["a", None, None, None, None])
    model = fitted(frame)
    with pytest.raises(
        InvalidValueError, match=r"holds .*'z'.* in 3 cells.*unseen='missing'"
    ):
        model.transform(new)
    lenient = fitted(frame, unseen="missing")
    for method in ("transform", "score", "impute"):
        with pytest.warns(UserWarning, match=r"'c' holds .*'z'.* in 3 cells.*missing"):
            found = getattr(lenient, method)(new)
        expected = getattr(model, method)(blank)
        if method == "impute":
            pd.testing.assert_frame_equal(found, expected)
        else:
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(InvalidValueError, match="unseen is 'ignore'"):
        fitted(frame, unseen="ignore")


def test_unseen_levels_of_an_array() -> None:
    table = np.tile([[0.0, 1], [1, 2], [2, 3], [1, 1]], (4, 1))
    model = fitted(table, loss="categorical", unseen="missing")
    strict = fitted(table, loss="categorical")
    with pytest.warns(
        UserWarning, match=r"'x1' holds 7, .*it knows 1, 2, 3\).*missing"
    ):
        found = model.impute([[0.0, 7.0], [np.nan, 1.0]])
    expected = strict.impute([[0.0, np.nan], [np.nan, 1.0]])
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(InvalidValueError) as caught:
        strict.transform([[0.0, 7.0]])
    assert "np.float64" not in str(caught.value)


def test_a_table_without_unseen_levels_is_itself() -> None:
    table = from_frame(frame_of(repeated("a", "b")))
    same, unseen = known_only(
        table, {"c": KnownLevels(("a", "b")), "no": KnownLevels(("x",))}, None
    )
    assert same is table
    assert unseen == ()
    with pytest.raises(InvalidValueError, match="'c' holds 'a' in 12 cells.*; stop"):
        known_only(table, {"c": KnownLevels(("b",))}, "stop")


def test_levels_in_a_message_are_short() -> None:
    assert listed([np.float64(10.0), 2.5, "x", True]) == "10, 2.5, 'x', True"
    assert listed(range(12)).endswith("9 and 2 more")


# Orders


AGREE = ["strongly disagree", "disagree", "neutral", "agree", "strongly agree"]


@pytest.mark.parametrize(
    "scale",
    [
        AGREE,
        ["Strongly disagree", "Somewhat disagree", "Somewhat agree", "Strongly agree"],
        ["disagree", "neither agree nor disagree", "agree"],
        ["never", "rarely", "sometimes", "often", "always"],
        ["Never", "Almost never", "Sometimes", "Almost always", "Always"],
        ["very unlikely", "unlikely", "neutral", "likely", "very likely"],
        ["very dissatisfied", "dissatisfied", "satisfied", "very satisfied"],
        ["poor", "fair", "good", "very good", "excellent"],
        ["low", "medium", "high"],
        ["Low", "Med", "High", "V. high"],
        ["small", "medium", "large", "extra large"],
        ["XS", "S", "M", "L", "XL", "XXL"],
        ["none", "mild", "moderate", "severe"],
        ["not at all important", "somewhat important", "very important"],
        ["not at all", "a little bit", "somewhat", "quite a bit", "very much"],
        ["January", "February", "September", "December"],
        ["jan", "mar", "sept"],
        ["Mon", "Tue", "Wed", "Thu", "Fri"],
        ["Q1", "Q2", "Q3", "Q4"],
        ["1 - never", "2 - sometimes", "10 - always"],
        ["(1) low", "(2) lower", "(3) lowest"],
        ["under 18", "18-24", "25-34", "35+"],
        ["< 1 year", "1 to 5 years", "6 to 10 years", "more than 10 years"],
        ["$0 - $9,999", "$10,000 - $49,999", "$50,000+"],
        ["<10k", "10k-50k", ">50k"],
        ["(0, 18]", "(18, 65]", "(65, 100]"],
        ["1 star", "2 stars", "5 stars"],
        ["2", "3", "4", "5more"],
        ["grade 9", "grade 10", "grade 11"],
        ["1", "02", "10"],
        ["first", "second", "third"],
    ],
)
def test_known_orders(scale) -> None:
    """However the levels are written and listed, the order is the one above."""
    generator = np.random.default_rng(0)
    for change in (str, str.upper, str.title, lambda text: f" {text.lower()}  "):
        levels = [change(level) for level in scale]
        cells = list(generator.permutation(levels * 3))
        order = order_of(from_frame(pd.DataFrame({"c": cells})).column("c"))
        assert order is not None
        assert [x.strip() for x in order.levels] == [x.strip() for x in levels]


@pytest.mark.parametrize(
    "levels",
    [
        ["red", "green", "blue"],
        ["agree", "disagree", "don't know"],
        ["sun", "mon", "tue"],
        ["sometimes", "occasionally", "never"],
        ["1 - low", "2 - high", "9 - don't know"],
        ["zone 1", "zone 2", "zone 3"],
        ["18-24", "20-30", "35+"],
        ["10 mg", "5 kg", "2 g"],
        ["A1", "A2", "B1"],
        ["192.168.0.1", "10.0.0.1", "127.0.0.1"],
        ["01", "1", "2"],
        ["yes", "no", "maybe"],
        ["low", "high", "other"],
        ["north", "south", "east"],
    ],
)
def test_orders_that_are_not_certain(levels) -> None:
    for each in itertools.permutations(levels):
        column = from_frame(pd.DataFrame({"c": list(each) * 2})).column("c")
        assert order_of(column) is None


def test_names_of_scales_are_as_they_are_looked_for() -> None:
    for scale in PLACES:
        for name in scale:
            assert name == " ".join(name.lower().split())
            assert arranged([name.upper()]) is not None
    assert not {"yes", "other", "unknown", "red"} & {n for s in PLACES for n in s}


def test_levels_that_differ_in_case_alone_are_one() -> None:
    cells = ["low", "Low", "low", "HIGH", "medium", "high", "high"]
    order = order_of(from_frame(pd.DataFrame({"c": cells})).column("c"))
    assert order is not None
    assert order.levels == ("low", "medium", "high")  # the commonest of each
    model = fitted(frame_of([*cells, *cells]), loss={"c": "ordinal"})
    codes = coded(from_frame(frame_of(cells)).column("c"), model.columns_[2].known)[0]
    assert codes.tolist() == [0, 0, 0, 2, 1, 2, 2]


@pytest.mark.parametrize("loss", ORDINAL)
@pytest.mark.parametrize("maker", [lambda x: x, pl.from_pandas, pa.Table.from_pandas])
def test_text_without_an_order_is_refused_by_every_ordinal_loss(loss, maker) -> None:
    frame = frame_of(repeated("red", "green", "blue"))
    for given in ({"c": loss}, loss, ["squared", "squared", loss]):
        with pytest.raises(
            InvalidValueError, match="'c' has 3 levels.*ordered category"
        ):
            LowRankModel(1, loss=given).fit(maker(frame))


@pytest.mark.parametrize("loss", ORDINAL)
def test_a_known_scale_is_the_same_as_its_numbers(loss) -> None:
    cells = repeated(*AGREE)
    numbers = [AGREE.index(cell) for cell in cells]
    for text in (
        cells,
        pd.Categorical(cells),
        pd.Categorical(cells, AGREE, ordered=True),
    ):
        table = from_frame(frame_of(text))
        model = of_table(table, {"c": loss})[2]
        assert model.levels == tuple(AGREE)
        assert encoded(model, table.column("c")).tolist() == numbers
    model = of_table(from_frame(frame_of(cells)), loss)[2]
    assert "a known scale: strongly disagree < disagree" in model.why


@pytest.mark.slow
def test_a_fit_to_a_known_scale_is_that_to_its_numbers() -> None:
    cells = repeated(*AGREE)
    text = fitted(frame_of(cells), loss={"c": "ordinal"})
    numbers = fitted(frame_of([AGREE.index(c) for c in cells]), loss={"c": "ordinal"})
    assert text.loss_ == numbers.loss_


def test_the_alphabet_is_no_order_and_auto_says_so() -> None:
    model = of_table(from_frame(frame_of(repeated(*AGREE))), "auto")[2]
    assert model.loss.name == "categorical"
    assert "from strongly disagree to strongly agree" in model.why
    model = of_table(from_frame(frame_of(repeated("red", "green", "blue"))), "auto")[2]
    assert model.why == "3 levels without an order"


def test_two_levels_need_no_order() -> None:
    cells = repeated("b", "a", "b", "b")
    one = fitted(frame_of(cells), loss={"c": "ordinal"})
    other = fitted(frame_of([int(c == "a") for c in cells]), loss={"c": "ordinal"})
    assert one.loss_ == pytest.approx(other.loss_, rel=1e-6)


def test_a_given_order() -> None:
    frame = pd.DataFrame({"c": ["b", " A", None, "a", "c"], "n": [3, 1, 2, 1, 3]})
    table = ordered(
        from_frame(frame), {"c": ["c", "a", "b", "d"], "n": ["3", "1", "2"]}
    )
    assert table.column("c").levels == ("c", "a", "b", "d")
    assert table.column("c").kind == "order"
    np.testing.assert_array_equal(table.column("c").values, [2, 1, np.nan, 1, 0])
    np.testing.assert_array_equal(table.column("n").values, [0, 1, 2, 1, 0])
    with pytest.raises(InvalidValueError) as caught:
        ordered(from_frame(frame), {"c": ["a", "A "], "n": ["1", "2"], "m": ["1"]})
    message = str(caught.value)
    for words in ("'a' twice", "column 'n' holds 3 in 2 cells", "no column 'm'"):
        assert words in message


def test_how_levels_are_listed() -> None:
    given = ['a,b=x, y,"1, 2"', "c=d=p=q,r", '"e, f"=1,2']
    names = ["a", "b", "c=d", "e, f"]
    assert level_lists(given, names) == {
        "a": ("x", "y", "1, 2"),
        "b": ("x", "y", "1, 2"),
        "c=d": ("p=q", "r"),
        "e, f": ("1", "2"),
    }
    for wrong in ("a", "=x,y", "a=", "a=x,,y"):
        with pytest.raises(InvalidValueError, match="give COLUMN=LOWEST"):
            level_lists([wrong], names)
    with pytest.raises(InvalidValueError, match="names 'a' twice"):
        level_lists(["a=x,y", "b,a=x,y"], names)


def test_a_level_that_is_a_mark_of_missing_cells(tmp_path) -> None:
    from descents.tables import files

    path = tmp_path / "pain.csv"
    path.write_text("a,pain\n1,None\n2,Mild\n3,\n4,Severe\n5,NA\n")
    table = files.read(path)
    assert np.isnan(table.column("pain").values).tolist() == [1, 0, 1, 0, 1]
    model = of_table(table, {"pain": "ordinal"})[1]
    assert "with 'None' read as missing (--levels" in model.why
    found = ordered(table, {"pain": ["None", "Mild", "Severe"]})
    np.testing.assert_array_equal(
        found.column("pain").values, [0, 1, np.nan, 2, np.nan]
    )
    filled = found.filled({"pain": np.full(5, 2.0)})
    assert filled.split("\n")[1:6] == [
        "1,None",
        "2,Mild",
        "3,Severe",
        "4,Severe",
        "5,Severe",
    ]


def test_no_warning_where_all_levels_are_known() -> None:
    model = fitted(frame_of(repeated("a", "b", "c")), unseen="missing")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.transform(frame_of(["a", None]))


@pytest.mark.parametrize(
    "levels",
    [
        "0,25/0,5/1/2+",
        "2,5%/5%/10%",
        "0,25 mg/0,5 mg/1 mg",
        "1,5/2,25/3",
        "<0,25/0,5/1/2,5",
        "1,5 stars/2 star/2,25 stars",
        "1,250/1,5/2",
        "0,5-1/1,5-2/2,5+",
        "500/1,000/2,500",
        "1.250 kg/2 kg/3.125 kg",
        "100/5,00,000/10,00,000",
    ],
)
def test_commas_in_levels_are_read_in_the_one_way_that_fits(levels: str) -> None:
    rising = levels.split("/")
    assert arranged(rising[::-1]) == (tuple(rising), "its numbers")


@pytest.mark.parametrize(
    "levels", ["1,000/2,500/3", "1,5/2/1,000,000", "500 kg/1.000 kg"]
)
def test_levels_with_ambiguous_marks_have_no_order(levels: str) -> None:
    assert arranged(levels.split("/")) is None


def test_decimal_commas_of_levels_in_a_frame_are_decimal() -> None:
    frame = pd.DataFrame({"d": ["2,5%", "5%", "10%"] * 2})
    assert order_of(from_frame(frame).columns[0]).levels == ("2,5%", "5%", "10%")
    table = from_frame(pd.DataFrame({"d": ["1,000", "2,500", "3"] * 2}))
    with pytest.raises(InvalidValueError, match="order is not known"):
        of_table(table, {"d": "ordinal"})


@pytest.mark.parametrize(
    ("decimal", "expected"),
    [
        (None, None),  # 1,500 may be 1.5 or 1500
        (",", ["up to 1,500", "2 to 3", "over 3"]),
        (".", ["2 to 3", "over 3", "up to 1,500"]),
    ],
)
def test_the_decimal_mark_that_is_requested_orders_levels(
    decimal: str | None, expected: list[str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    cells = ["over 3", "up to 1,500", "2 to 3"] * 3
    path.write_text("\n".join(["q;x", *(f"{x};{k}" for k, x in enumerate(cells))]))
    order = order_of(read(path, decimal=decimal).column("q"))
    assert (order and list(order.levels)) == expected


def test_levels_that_do_not_fit_the_requested_mark_are_read_as_without_it() -> None:
    levels = ["25.5 to 30", "under 18.5", "18.5 to 25"]
    assert arranged(levels, ",") == arranged(levels)
    assert arranged(levels, ",")[0] == ("under 18.5", "18.5 to 25", "25.5 to 30")
