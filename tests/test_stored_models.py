"""Low-rank models that are stored and opened again, and damaged files."""

from __future__ import annotations

import json
import pickle
import struct

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from conftest import slow, some
from descents import LowRankModel
from descents.errors import InvalidValueError, RunFolderError
from lowrank_tables import (
    IRIS,
    PLANTED,
    SOME_LOSSES,
    UNFINISHED,
    frame_with_holes,
    own_squared,
    settings_for,
    two_by_two,
    with_holes,
)


@pytest.mark.parametrize("loss", SOME_LOSSES)
@UNFINISHED
@pytest.mark.parametrize("holes", [slow(False), True])
def test_a_stored_model_is_the_same_to_the_bit(loss, holes, tmp_path) -> None:
    table = two_by_two(loss)
    table = table if holes else np.nan_to_num(table)
    model = LowRankModel(2, **(settings_for(loss) | {"max_iter": 20, "tol": 1e-6}))
    model.fit(table).save(tmp_path / "model.safetensors")
    other = LowRankModel.load(tmp_path / "model.safetensors")
    same = np.testing.assert_array_equal
    same(other.components_, model.components_)
    same(other.embedding_, model.embedding_)
    same(other.offsets_, model.offsets_)
    same(other.transform(table), model.transform(table))
    same(other.impute(table), model.impute(table))
    scores = model.transform(table)
    same(other.inverse_transform(scores), model.inverse_transform(scores))
    assert other.score(table) == model.score(table)
    assert other.loss_ == model.loss_
    np.testing.assert_equal(other.gap_, model.gap_)
    assert other.reference_ == model.reference_
    assert other.columns_ == model.columns_
    assert other.n_iter_ == model.n_iter_
    assert other.solver_ == model.solver_
    assert other.get_params() == model.get_params()
    other.save(tmp_path / "again.safetensors")
    first = (tmp_path / "model.safetensors").read_bytes()
    assert first == (tmp_path / "again.safetensors").read_bytes()


@pytest.mark.parametrize(
    "settings",
    some(
        [
            {"combine": "mean", "n_starts": 3},
            {"offsets": "both", "penalty": {"l2": 0.1, "l2_biases": 0.2}},
            {"offsets": "rows"},
            {"constraint": (None, "nonnegative"), "penalty": {"l1_rows": 0.1}},
            {"scales": True},
            {"random_state": np.random.RandomState(0)},
            {"loss": ["squared", "huber", "squared", "absolute"]},
            {"initialization": (np.ones((1, 150, 2)), np.eye(4)[None, :, :2])},
        ],
        4,
    ),
)
@UNFINISHED
def test_stored_with_other_settings(settings, tmp_path) -> None:
    table = with_holes(IRIS)
    model = LowRankModel(
        2, **({"random_state": 0, "max_iter": 10, "held_out": 0} | settings)
    )
    model.fit(table).save(tmp_path / "model")
    other = LowRankModel.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(other.impute(table), model.impute(table))
    np.testing.assert_array_equal(other.transform(table), model.transform(table))
    assert other.score(table) == model.score(table)


def test_a_stored_model_of_a_frame(tmp_path) -> None:
    frame, _ = frame_with_holes()
    mixed = LowRankModel(2, random_state=0).fit(frame)
    mixed.save(tmp_path / "model")
    other = LowRankModel.load(tmp_path / "model")
    pd.testing.assert_frame_equal(other.impute(frame), mixed.impute(frame))
    assert other.columns_ == mixed.columns_
    assert list(other.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        other.transform(frame.rename(columns={"height": "width"}))


@pytest.mark.filterwarnings("ignore:.*far outside")
def test_a_stored_float32_model(tmp_path) -> None:
    table = with_holes(IRIS).astype(np.float32)
    model = LowRankModel(2, random_state=0).fit(table)
    model.save(tmp_path / "model")
    other = LowRankModel.load(tmp_path / "model")
    assert other.components_.dtype == np.float32
    np.testing.assert_array_equal(other.impute(table), model.impute(table))


def test_a_stored_sparse_model(tmp_path) -> None:
    table = scipy.sparse.csr_array(np.nan_to_num(with_holes(PLANTED)))
    model = LowRankModel(2, penalty=0.5, random_state=0).fit(table)
    model.save(tmp_path / "model")
    other = LowRankModel.load(tmp_path / "model")
    np.testing.assert_array_equal(other.transform(table), model.transform(table))
    assert other.score(table) == model.score(table)
    i, j = np.indices(table.shape).reshape(2, -1)
    np.testing.assert_array_equal(other.predict_cells(i, j), model.predict_cells(i, j))


def test_a_function_cannot_be_stored(tmp_path) -> None:
    frame = pd.DataFrame(IRIS[:30], columns=list("abcd"))
    model = LowRankModel(2, penalty=1, loss={"c": own_squared}, random_state=0).fit(
        frame
    )
    with pytest.raises(InvalidValueError, match="column 'c' has a loss of your own"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_damaged_or_foreign_file_is_one_sentence(tmp_path) -> None:
    model = LowRankModel(2, random_state=0).fit(IRIS)
    path = tmp_path / "model"
    model.save(path)
    content = path.read_bytes()
    assert b"pickle" not in content
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    facts = json.loads(header["__metadata__"]["facts"])
    assert facts["model"] == "LowRankModel"

    def with_facts(facts: object) -> bytes:
        head = header | {"__metadata__": {"facts": json.dumps(facts)}}
        text = json.dumps(head).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + size :]

    model.runs_.save(tmp_path / "runs")
    damaged = {
        "empty": b"",
        "cut": content[:-20],
        "cut in the header": content[:100],
        "text": b"a,b\n1,2\n",
        "pickle": pickle.dumps([1, 2]),
        "runs": (tmp_path / "runs").read_bytes(),
        "no facts": with_facts({}),
        "a list": with_facts([1]),
        "a number": with_facts(3),
        "without columns": with_facts(
            {k: v for k, v in facts.items() if k != "columns"}
        ),
        "unknown setting": with_facts(facts | {"settings": {"colour": 3}}),
        "unknown loss": with_facts(
            facts | {"columns": [facts["columns"][0] | {"loss": "cubic"}] * 4}
        ),
        "fewer columns": with_facts(facts | {"columns": facts["columns"][:2]}),
        "other format": with_facts(facts | {"format": 99}),
        "another model": with_facts(facts | {"model": "Other"}),
    }
    assert LowRankModel.load(path).loss_ == model.loss_
    for name, wrong in damaged.items():
        path.write_bytes(wrong)
        with pytest.raises(RunFolderError) as caught:
            LowRankModel.load(path)
        assert str(path) in str(caught.value), name
    with pytest.raises(RunFolderError, match="absent"):
        LowRankModel.load(tmp_path / "absent")
    with pytest.raises(RunFolderError):
        model.save(tmp_path / "no" / "model")
