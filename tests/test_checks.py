"""Conversions at the door: what passes, and what the messages say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from descents import devices, errors, validation
from descents.errors import DescentsError, InvalidValueError


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: validation.whole_number("rank", 0, 1),
            "rank is 0; give a whole number",
        ),
        (lambda: validation.whole_number("rank", 2.0, 1), "rank is 2.0; give a whole"),
        (
            lambda: validation.whole_number("rank", True, 1),
            "rank is True; give a whole",
        ),
        (lambda: validation.whole_number("rank", 9, 1, 4), "whole number from 1 to 4"),
        (lambda: validation.real_number("lr", "x"), "lr is 'x'; give a finite number"),
        (
            lambda: validation.real_number("lr", 0, 0, strict=True),
            "finite number above 0",
        ),
        (
            lambda: validation.real_number("lr", float("nan")),
            "lr is nan; give a finite",
        ),
        (lambda: validation.one_of("loss", "max", ["sum"]), "'max'; give one of 'sum'"),
        (lambda: validation.seed_number(-1), "seed is -1; give a whole number"),
        (lambda: validation.start_numbers(0), "starts is 0; give a whole number"),
        (lambda: validation.start_numbers([]), "starts is empty"),
        (lambda: validation.start_numbers([1, 1]), "names a start twice"),
        (lambda: validation.start_numbers("3"), "starts is '3'"),
        (lambda: validation.finite_matrix("table", [1.0]), r"table has shape \(1,\)"),
        (lambda: validation.finite_matrix("table", [["a"]]), "only real numbers"),
        (lambda: validation.finite_matrix("table", [[1j]]), "complex numbers"),
        (
            lambda: validation.finite_matrix("table", [[1.0, np.nan]]),
            "1 NaN or infinite cell.* row 0, column 1",
        ),
        (
            lambda: validation.class_labels("y", [0, 1], 3),
            "one class for each of the 3",
        ),
        (lambda: validation.class_labels("y", [0.5, 1], 2), "class numbers 0, 1, 2"),
        (lambda: validation.class_labels("y", [0, 0], 2), "only one class"),
        (lambda: devices.torch_device("nowhere"), "'nowhere', which is not usable"),
        (lambda: devices.torch_device("meta"), "'meta', which is not usable"),
        (
            lambda: validation.start_numbers(10**20),
            "starts is 1000+; give a whole number",
        ),
        (lambda: validation.start_numbers([2**63]), "a start is 9223372036854775808"),
        (lambda: validation.folder_path("~nosuchuser/x"), "is not a path"),
    ],
)
def test_a_message_says_what_was_given_and_what_to_do(call, message) -> None:
    with pytest.raises(InvalidValueError, match=message) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, DescentsError)


def test_all_problems_of_a_call_are_told_together() -> None:
    complaints = errors.Complaints()
    complaints.attempt(validation.whole_number, "rank", 0, 1)
    complaints.require(False, "second")
    with pytest.raises(InvalidValueError, match="rank is 0.*; second"):
        complaints.raise_any()


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int32, np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_a_table_is_returned_clean_or_refused(array) -> None:
    try:
        table = validation.finite_matrix("table", array)
    except InvalidValueError:
        assert array.ndim != 2 or array.size == 0 or not np.isfinite(array).all()
    else:
        assert table.dtype == (np.float32 if array.dtype == np.float32 else np.float64)
        np.testing.assert_array_equal(table, array)


@given(st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()))
def test_a_whole_number_is_exact_or_refused(value) -> None:
    try:
        number = validation.whole_number("n", value, 1)
    except InvalidValueError:
        assert not (isinstance(value, int) and value >= 1) or isinstance(value, bool)
    else:
        assert number == value
        assert type(number) is int
