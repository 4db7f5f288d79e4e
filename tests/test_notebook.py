"""What a notebook and a prompt show of results: one line, an answer, a picture, five rows."""

from __future__ import annotations

import base64
import html
import re
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conftest import run_python
from descents import (
    HoldOut,
    LowRankImputer,
    LowRankModel,
    MLPStartsClassifier,
    MLPStartsRegressor,
    sweep,
)
from descents.networks.shown import block_of_starts
from descents.plots import notebook
from descents.tables import data_frames
from descents.tables.datasets import planted_table

WILD = "<script>alert(1)</script> & \x1b[2J$x$"
"""A name of a column that would be executed, or would stop a drawing."""


def lacking(rows: int = 60) -> pd.DataFrame:
    """Return a table of rank 1 with missing cells and a wild name."""
    table = planted_table(rows, 7, 1, noise=0.1)[0]
    table[np.random.default_rng(0).random(table.shape) < 0.1] = np.nan
    return pd.DataFrame(table, columns=[WILD, *"bcdefg"])


pytestmark = pytest.mark.filterwarnings("ignore:no start of", "ignore:every start")
"""Networks are trained for too short a time to learn anything."""


@pytest.fixture(scope="module")
def shown() -> dict[str, object]:
    """Return fitted objects of every kind."""
    warnings.simplefilter("ignore")
    X, y = load_iris(return_X_y=True)
    network = MLPStartsClassifier(4, n_starts=8, max_epochs=5, random_state=0)
    validated = clone(network).set_params(validation=HoldOut(0.33, 2))
    model = LowRankModel(1, n_starts=7, random_state=0).fit(lacking())
    regressor = MLPStartsRegressor(4, n_starts=3, max_epochs=3, random_state=0)
    return {
        "model": model,
        "runs": model.runs_,
        "imputer": LowRankImputer(random_state=0).fit(lacking()),
        "classifier": validated.fit(X, y),
        "seen": clone(network).set_params(validation=None).fit(X, y),
        "regressor": regressor.fit(*load_diabetes(return_X_y=True)),
        "sweep": sweep(validated, {"learning_rate": [0.001, 0.1]}, X, y),
    }


KINDS = ("model", "runs", "imputer", "classifier", "seen", "regressor", "sweep")


def block(found: object) -> str:
    """Return the HTML of a result that is ours."""
    text = found._repr_html_()  # type: ignore[attr-defined]
    return str(text[text.index('<div class="descents">') :])


def sentence(found: object) -> str:
    """Return the sentence of a result."""
    match = re.search(r"<p>(.*?)</p>", block(found))
    assert match is not None
    return html.unescape(match[1])


@pytest.mark.parametrize("kind", KINDS)
def test_html_is_a_sentence_a_picture_and_five_rows(kind, shown) -> None:
    text = block(shown[kind])
    root = ElementTree.fromstring(re.sub(r"(<img [^>]*)>", r"\1/>", text))
    assert [child.tag for child in root][:3] == ["p", "img", "table"]
    assert 1 <= len(root.findall("table/tbody/tr")) <= 5
    assert root.find("img").get("alt") == root.find("p").text
    assert "<script" not in text
    assert "\x1b" not in text
    data = root.find("img").get("src")
    begin = "data:image/svg+xml;base64,"
    assert data.startswith(begin)
    drawing = ElementTree.fromstring(base64.b64decode(data.removeprefix(begin)))
    assert drawing.tag.endswith("svg")
    assert len(text) < 60_000


@pytest.mark.parametrize("kind", KINDS)
def test_repr_is_one_line(kind, shown) -> None:
    found = shown[kind]
    assert "\n" not in repr(found)
    for name in ("fitted_", "runs_", "selection_", "judged_", "held_out_"):
        part = repr(getattr(found, name, None))
        assert "\n" not in part
        assert len(part) <= 250


def test_long_parameters_stay_on_one_line_and_make_the_same_estimator() -> None:
    model = MLPStartsRegressor(
        (10, 20, 30), n_starts=100, validation=HoldOut(0.33, 5), max_epochs=1000,
        batch_size=17, activation="tanh", random_state=5,
    )  # fmt: skip
    assert "\n" not in repr(model)
    again = eval(repr(model))
    assert again.get_params() == model.get_params()


def test_a_sentence_says_whether_the_rows_were_seen(shown) -> None:
    assert "which the starts have not seen" in sentence(shown["classifier"])
    assert "that the starts have seen" in sentence(shown["seen"])
    assert re.search(r"On \d+ cells that a fit had not seen", sentence(shown["model"]))
    assert "cells that a fit had not seen" in sentence(shown["imputer"])
    assert "data that the starts have seen" in sentence(shown["runs"])
    complete = LowRankModel(1).fit(planted_table(9, 3, 1)[0])
    assert "of cells that the fit has seen" in sentence(complete)
    unjudged = LowRankImputer(held_out=0).fit(lacking())
    assert "No cells were held out" in sentence(unjudged)


def test_the_numbers_of_a_sentence_are_those_of_the_result(shown) -> None:
    model = shown["classifier"]
    summary = model.interval()
    assert f"of 8 starts is {summary.mean:.4g} (" in sentence(model)
    assert f"({summary.low:.4g} to {summary.high:.4g})" in sentence(model)
    study = shown["sweep"]
    assert sentence(study).startswith(
        f"{study.names[study.best]} has the best validation"
    )
    assert shown["model"].judged_.overall()["says"] in sentence(shown["model"])
    best = shown["runs"].losses.min()
    assert f"the least loss is {best:.6g}" in sentence(shown["runs"])


def test_names_of_the_user_are_escaped(shown) -> None:
    for kind in ("model", "imputer"):
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; \\x1b[2J" in block(
            shown[kind]
        )
    text = notebook.block("<&>", {"<i>": ["<b>"]}, note="<u>")
    assert not re.findall(r"<[ibu]>|<&>", text)


def test_the_html_of_scikit_learn_is_kept() -> None:
    model = LowRankImputer(random_state=0)
    before = model._repr_html_()
    assert "sk-top-container" in before
    assert 'class="descents"' not in before
    model.fit(lacking())
    assert "sk-top-container" in model._repr_html_()
    bundle = model._repr_mimebundle_()
    assert bundle["text/plain"] == repr(model)
    assert 'class="descents"' in bundle["text/html"]
    with config_context(display="text"):
        assert not hasattr(model, "_repr_html_")
        assert set(model._repr_mimebundle_()) == {"text/plain"}
    pipeline = make_pipeline(StandardScaler(), LowRankModel(1)).fit(np.eye(4))
    assert "LowRankModel" in pipeline._repr_html_()


def test_tables_are_data_frames_where_pandas_is_installed(shown, monkeypatch) -> None:
    for kind in ("runs", "classifier", "sweep"):
        found = shown[kind]
        table = found.table()
        assert isinstance(table, pd.DataFrame)
        assert len(table) == {"runs": 7, "classifier": 16, "sweep": 32}[kind]
    np.testing.assert_array_equal(shown["runs"].table()["loss"], shown["runs"].losses)
    monkeypatch.setattr(data_frames.importlib.util, "find_spec", lambda name: None)
    columns = shown["runs"].table()
    assert isinstance(columns, dict)
    assert list(columns) == list(shown["runs"].columns())


def test_a_result_of_failed_starts_is_shown_too(shown) -> None:
    fitted = shown["classifier"].fitted_
    lost = replace(fitted.runs, losses=np.full(len(fitted.runs), np.nan))
    text = html.unescape(block_of_starts(replace(fitted, runs=lost)))
    assert "of 0 starts is not defined" in text
    assert "; 8 of 8 failed." in text
    assert "no loss is finite" in sentence(lost)
    assert "no loss is finite" in repr(lost)


def test_nothing_is_drawn_before_it_is_shown() -> None:
    code = (
        "import sys, numpy as np\nfrom descents import LowRankModel\n"
        "model = LowRankModel(1).fit(np.eye(4)); repr(model); repr(model.runs_)\n"
        "print('matplotlib' in sys.modules)"
    )
    assert run_python(code).stdout.split() == ["False"]
