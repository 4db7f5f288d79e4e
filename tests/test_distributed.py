"""One factorization over several processes: the answer, the traffic and the checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from conftest import slow
from descents import Factorization, TableOnDisk, rng
from descents.cells import streamed
from descents.cells.distributed import Distributed, SharedTable
from descents.errors import InvalidValueError
from descents.factorization.alternating import Alternating
from descents.lowrank.fitted import Fitted
from descents.lowrank.fitting import fit
from descents.lowrank.gathering import gathered
from descents.lowrank.settings import RunControl, Settings
from descents.optim.collective import parts
from descents.optim.curvature import curvature_along, first_length
from descents.optim.first_order import Momentum
from descents.optim.rules import UpdateRule
from descents.optim.runs import Status
from descents.optim.stacked import flat
from descents.rng import stream
from descents.runs.block_tables import Seen, look
from descents.runs.kept_descents import KeptDescents
from descents.storage.run_folders import RunFolder
from processes import Thread, fit_together, in_processes

ROWS, COLUMNS, RANK = 151, 8, 2
QUIET = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:.*no observed cell",
    "ignore:the loss with its penalty",
)


def table_of(holes: float = 0.0, rows: int = ROWS) -> np.ndarray:
    generator = np.random.default_rng(0)
    product = generator.normal(size=(rows, RANK)) @ generator.normal(
        size=(RANK, COLUMNS)
    )
    table = product + 0.3 * generator.normal(size=(rows, COLUMNS)) + 2.0
    table[generator.random(table.shape) < holes] = np.nan
    if holes:
        table[[3, rows - 2]] = np.nan  # blank rows of the first and the last process
    return table


def write(folder: Path, table: np.ndarray, kind: str = "npy") -> Path:
    path = folder / f"table.{kind}"
    if kind == "npy":
        np.save(path, table)
    else:
        columns = {f"c{j}": pyarrow.array(c) for j, c in enumerate(table.T)}
        pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=40)
    return path


# Rows that are drawn in blocks


def test_tables_of_one_block_have_the_numbers_of_one_generator() -> None:
    table = np.random.default_rng(0).normal(size=(50, 4))
    points = Factorization(table, 3).points([4], seed=9)
    generator = stream(9, "start", 4)
    U, V = generator.random((50, 3)), generator.random((4, 3))
    assert np.array_equal(points["U"][0], torch.as_tensor(U))
    assert np.array_equal(points["V"][0], torch.as_tensor(V))


def test_blocks_of_rows_depend_on_their_number_alone() -> None:
    size = rng.BLOCK_ROWS
    few, many = (
        Factorization(np.zeros((rows, 1)), 1).points([1], seed=2)
        for rows in (size + 5, 2 * size + 9)
    )
    assert torch.equal(few["U"][0], many["U"][0, : size + 5])
    assert torch.equal(few["V"], many["V"])
    ahead = np.random.Generator(stream(2, "start", 1).bit_generator.jumped(1))  # type: ignore[attr-defined]
    drawn = ahead.random((size, 1))
    assert np.array_equal(many["U"][0, size : 2 * size], torch.as_tensor(drawn))


@pytest.mark.parametrize("name", ["uniform", "normal", "spectral", "nndsvd"])
@pytest.mark.parametrize("start", [0, 1])
def test_processes_draw_the_rows_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, start: int
) -> None:
    monkeypatch.setattr(rng, "BLOCK_ROWS", 16)
    table = table_of()
    constraint = "nonnegative" if name == "nndsvd" else None
    given: dict[str, Any] = {"initialization": name, "constraint": constraint}
    whole = Factorization(table, RANK, **given).points([start], 3)
    path = write(tmp_path, table)

    def drawn(together: Thread) -> dict[str, torch.Tensor]:
        cells = Distributed(SharedTable(path, together), RANK)
        return Factorization(cells, RANK, **given).points([start], 3)

    every = in_processes(3, drawn)
    joined = torch.cat([one["U"] for one in every], 1)
    torch.testing.assert_close(joined, whole["U"], rtol=1e-9, atol=1e-9)
    for one in every:
        torch.testing.assert_close(one["V"], whole["V"], rtol=1e-9, atol=1e-9)


# Rows that are read by each process


@pytest.mark.parametrize("order", ["C", "F", "parquet"])
@pytest.mark.parametrize("place", [slice(0, 40), slice(40, 81), slice(13, 151)])
@pytest.mark.parametrize("rows", [7, 1000])
def test_some_rows_of_a_file(
    tmp_path: Path, order: Any, place: slice, rows: int
) -> None:
    table = table_of(0.2)
    if order == "parquet":
        path = write(tmp_path, table, "parquet")
    else:
        path = write(tmp_path, np.asarray(table, order=order))
    part = TableOnDisk(path, "10MB").of_rows(place)
    places, blocks = zip(*part.blocks(rows), strict=True)
    assert np.array_equal(np.concatenate(blocks), table[place], equal_nan=True)
    assert places[0].start == 0
    assert places[-1].stop == part.shape[0] == place.stop - place.start


def test_only_row_groups_with_own_rows_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = TableOnDisk(write(tmp_path, table_of(), "parquet"), "10MB")
    read: list[int] = []
    reader = pyarrow.parquet.ParquetFile.read_row_groups

    def counted(self: Any, groups: list[int], **options: Any) -> Any:
        read.extend(groups)
        return reader(self, groups, **options)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_groups", counted)
    assert table.edges == [0, 40, 80, 120]
    list(table.of_rows(slice(40, 81)).blocks(1000))
    assert sorted(set(read)) == [1, 2]


def test_parts_cover_all_rows() -> None:
    for rows, size in ((10, 3), (3, 3), (1000, 7)):
        places = parts(rows, size, list(range(0, rows, 4)))
        covered = [row for place in places for row in range(place.start, place.stop)]
        assert covered == list(range(rows))
        assert min(place.stop - place.start for place in places) > 0


# The same answer


SETTINGS: list[dict[str, Any]] = [
    {},
    {
        "offsets": "both",
        "penalty": {"l2": 0.5, "l2_biases": 0.3},
        "n_starts": 3,
        "max_iter": 40,
    },
    {"constraint": "nonnegative"},
    {"penalty": {"l1": 0.3, "count_power": 0.5}, "max_iter": 40},
    {"solver": "adam", "max_iter": 30},
    {"solver": "gd", "learning_rate": 1e-3, "max_iter": 30},
    {"solver": "gd", "tol": 1e-6},
    {"solver": "lbfgs", "tol": 1e-6},
    {"solver": Momentum(1e-4), "max_iter": 30, "penalty": 1.0},
]


def compare(one: Fitted, other: Fitted, tolerance: float = 1e-6) -> None:
    """Assert that a fit of several processes is that of one."""
    np.testing.assert_allclose(other.runs.losses, one.runs.losses, rtol=tolerance)
    assert other.reference.kind == one.reference.kind
    assert other.reference.value == pytest.approx(one.reference.value, rel=tolerance)
    assert other.constants_loss == pytest.approx(one.constants_loss, rel=1e-12)
    assert other.penalty == pytest.approx(one.penalty, rel=1e-9)
    ended = {"rtol": 1e-3, "atol": 1e-3}
    np.testing.assert_allclose(other.components, one.components, **ended)
    np.testing.assert_allclose(other.scores, one.scores, **ended)
    np.testing.assert_allclose(other.offsets, one.offsets, **ended)
    np.testing.assert_array_equal(other.known.blank_rows, one.known.blank_rows)


@QUIET
@pytest.mark.parametrize("holes", [0.0, 0.2])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("count", [2, slow(3)])
def test_several_processes_reach_what_one_does(
    tmp_path: Path, holes: float, settings: dict[str, Any], count: int
) -> None:
    given = {"n_components": RANK, "random_state": 1, "held_out": 0, **settings}
    table = table_of(holes)
    one = fit(table, Settings(**given))
    other = fit_together(write(tmp_path, table), count, **given)
    compare(one, other)
    if "solver" in settings and "max_iter" not in settings:
        return  # line searches amplify rounding: other paths to the same minimum
    np.testing.assert_array_equal(other.runs.steps_taken, one.runs.steps_taken)
    np.testing.assert_allclose(
        other.runs.initial_gradient_norms, one.runs.initial_gradient_norms, rtol=1e-6
    )


@QUIET
@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_what_the_page_shows_is_that_of_one_process(tmp_path: Path, kind: str) -> None:
    table = table_of(0.2)
    path = write(tmp_path, table, kind)
    given: dict[str, Any] = {"n_components": RANK, "random_state": 0}
    picked = np.arange(0, 700, 7)

    def seen(together: Thread) -> tuple[Seen, Fitted | None]:
        fitted = fit(SharedTable(path, together), Settings(**given))
        return look(fitted, picked, 5, 9), gathered(fitted)

    found, whole = in_processes(3, seen)[0]
    alone = look(fit(TableOnDisk(path, "10MB"), Settings(**given)), picked, 5, 9)
    for name, value in vars(alone).items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-7, atol=1e-7)
    assert whole is not None
    # By another route: the residuals of the best start, cell by cell.
    residuals = np.square(table - whole.predictions(whole.points[:1])[0])
    np.testing.assert_allclose(found.losses, np.nansum(residuals, 0))
    worst = np.sort(residuals[~np.isnan(residuals)])[::-1][:5]
    cells = [residuals[i, j] for i, j, _ in found.cells]
    np.testing.assert_allclose(cells, worst)


@QUIET
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"offsets": "both"},
        {"offsets": "none", "penalty": 3.0, "constraint": None},
        {"constraint": "nonnegative", "offsets": "none"},
    ],
)
def test_wide_tables_have_the_same_reference_and_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    given = {"n_components": RANK, "random_state": 1, **settings}
    table = table_of()
    one = fit(table, Settings(**given))
    monkeypatch.setattr(streamed, "WIDEST", COLUMNS - 1)
    compare(one, fit_together(write(tmp_path, table), 3, **given))


def test_curvature_and_first_length_are_those_of_all_rows(tmp_path: Path) -> None:
    table, options = table_of(0.3), {"offsets": "columns", "penalty": 0.7}
    path = write(tmp_path, table)
    whole = Factorization(table, RANK, **options)
    bound = whole.bind(torch.arange(2))
    point = whole.points([0, 1], 0)
    losses, slopes = bound.losses_and_gradients(point, 0)
    bent = curvature_along(bound, point, flat(slopes), 0)
    length = first_length(bound, point, flat(slopes), 0)

    def work(together: Thread) -> dict[str, torch.Tensor]:
        cells = Distributed(SharedTable(path, together), RANK)
        problem = Factorization(cells, RANK, **options)
        here = problem.bind(torch.arange(2))
        own = problem.points([0, 1], 0)
        found, gradients = here.losses_and_gradients(own, 0)
        along = flat(gradients)
        return {
            "loss": found,
            "bent": curvature_along(here, own, along, 0),
            "length": first_length(here, own, along, 0),
            "norm": here.inner.norm(along, own),
            "V": gradients["V"],
        }

    for found in in_processes(3, work):
        for name, expected in (
            ("loss", losses),
            ("bent", bent),
            ("length", length),
            ("norm", flat(slopes).norm(dim=1)),
            ("V", slopes["V"]),
        ):
            torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-9)


# Traffic


def traffic(path: Path, rule: UpdateRule, steps: int) -> list[int]:
    """Return the sizes of the sums that a process sends for some steps, in bytes."""

    def work(together: Thread) -> list[int]:
        cells = Distributed(SharedTable(path, together), RANK)
        problem = Factorization(cells, RANK, offsets="columns", penalty=0.1)
        bound = problem.bind(torch.arange(1))
        point = problem.points([0], 0)
        state = rule.init(bound, point)
        together.sizes.clear()
        for step in range(steps):
            point, state, *_ = rule.update(bound, point, state, step)
        return together.sizes

    first, second = in_processes(2, work)
    assert first == second
    return first


@pytest.mark.parametrize(
    "rule", [Alternating(), Momentum(1e-4)], ids=lambda rule: rule.kind
)
@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_traffic_does_not_grow_with_rows(
    tmp_path: Path, rule: UpdateRule, holes: float
) -> None:
    few, many = (
        traffic(write(tmp_path, table_of(holes, rows)), rule, 3) for rows in (40, 4000)
    )
    assert few == many
    assert max(few) <= 8 * COLUMNS * (RANK + 2) ** 2 * 2


def test_the_bytes_of_an_alternating_step_are_those_of_the_note(tmp_path: Path) -> None:
    # Two numbers, and G, w and U'U of q = rank + 1 coordinates (docs/scale.md); then the
    # l2 penalty of U, the mean of its rows, and its Gram matrix.
    q = RANK + 1
    rest = [8, 8 * (1 + RANK), 8 * RANK**2]
    sent = traffic(write(tmp_path, table_of()), Alternating(), 3)
    assert sent[-4:] == [8 * (2 + 2 * q * q + COLUMNS * q), *rest]
    # With missing cells, each column has a G of its own.
    sent = traffic(write(tmp_path, table_of(0.2)), Alternating(), 3)
    assert sent[-4:] == [8 * (2 + (1 + COLUMNS) * q * q + COLUMNS * q), *rest]


# What is refused


@dataclass(frozen=True)
class OwnRule(UpdateRule):
    """A rule of a user, of which it is not known what it sums over."""

    def update(self, bound: Any, parameters: Any, state: Any, step: int) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"loss": "huber"}, "loss is 'huber', but several processes"),
        ({"solver": OwnRule()}, "solver is OwnRule"),
        ({"n_components": "auto"}, "several processes share has no cells to hold out"),
        ({"constraint": "simplex"}, "a constraint set .* but several processes"),
        (
            {"penalty": {"smooth_rows": 1.0}},
            "smoothness penalty was given, but several",
        ),
        ({"initialization": "centers"}, "'centers', which compares all rows"),
        ({"scales": True}, "scales is True, but several processes"),
        ({"n_components": COLUMNS + 1}, f"whole number from 1 to {COLUMNS}"),
    ],
)
def test_what_several_processes_do_not_fit(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    path = write(tmp_path, table_of(0.2))
    with pytest.raises(InvalidValueError, match=says):
        fit_together(path, 2, **settings)


def test_columns_that_one_process_would_scale(tmp_path: Path) -> None:
    table = table_of(0.2)
    table[:, 1] *= 1000
    path = write(tmp_path, table)
    with pytest.raises(
        InvalidValueError, match=r"differ by a factor of .*scales=False"
    ):
        fit_together(path, 2)


@pytest.mark.parametrize("row", [5, ROWS - 5])
def test_all_processes_name_the_infinite_cell_of_one(tmp_path: Path, row: int) -> None:
    table = table_of()
    table[row, 2] = np.inf
    path = write(tmp_path, table)

    def refusal(together: Thread) -> str:
        with pytest.raises(InvalidValueError) as error:
            Distributed(SharedTable(path, together))
        return str(error.value)

    for says in in_processes(3, refusal):
        assert f"inf in row {row + 1} (1-based) of column '2'" in says


def test_each_process_needs_a_row(tmp_path: Path) -> None:
    path = write(tmp_path, np.ones((2, 3)))
    with pytest.raises(InvalidValueError, match="2 rows, which 3 processes cannot"):
        fit_together(path, 3)


# Limits of time, and checkpoints


@QUIET
def test_the_time_is_up_for_all_processes_at_once(tmp_path: Path) -> None:
    path, control = write(tmp_path, table_of()), RunControl(seconds=1e-9)
    found = fit_together(path, 3, control, n_components=RANK, n_starts=2)
    assert set(found.runs.statuses) == {Status.INTERRUPTED}


def kept_fit(
    folder: RunFolder, path: Path, count: int, **settings: Any
) -> tuple[Fitted, int]:
    """Return a fit that keeps its state every ten steps, and how often it did."""
    kept = 0

    def work(together: Thread) -> Fitted | None:
        nonlocal kept
        own = folder if together.rank == 0 else None
        store = KeptDescents(own, together, 0.0)
        keep = store.keep

        def counting(*given: Any) -> None:
            nonlocal kept
            kept += together.rank == 0
            keep(*given)
            store._next = 0.0

        store.keep = counting  # type: ignore[method-assign]
        control = RunControl(record=range(0, 40, 7), store=store)
        table = SharedTable(path, together)
        if together.size == 1:  # in memory, as the command does
            return fit(np.load(path), Settings(**settings), control)
        return gathered(fit(table, Settings(**settings), control))

    first = in_processes(count, work)[0]
    assert first is not None
    return first, kept


@QUIET
@pytest.mark.parametrize("solver", ["alternating", "adam", "lbfgs", "gd"])
@pytest.mark.parametrize("counts", [(3, 2), slow((2, 1)), slow((1, 3))])
@pytest.mark.parametrize("holes", [0.2, slow(0.0)])
def test_a_descent_goes_on_with_another_number_of_processes(
    tmp_path: Path, solver: str, counts: tuple[int, int], holes: float
) -> None:
    path, (before, after) = write(tmp_path, table_of(holes)), counts
    given: dict[str, Any] = {
        "n_components": RANK,
        "solver": solver,
        "max_iter": 40,
        "tol": 0,
        "random_state": 0,
        "held_out": 0,
    }
    whole = fit_together(path, 2, RunControl(record=range(0, 40, 7)), **given)
    with RunFolder(tmp_path / "run", {"command": "test"}) as folder:
        _, kept = kept_fit(folder, path, before, **given)
        assert kept >= 2  # the last state is that of the last tenth step
        assert folder.stages == 1 + (
            before == 1
        )  # one process keeps finished starts too
        found, kept = kept_fit(folder, path, after, **given)
        assert kept <= 1
        compare(whole, found)
        np.testing.assert_allclose(
            found.runs.histories["loss"], whole.runs.histories["loss"], rtol=1e-6
        )
        assert found.runs.steps_taken.tolist() == whole.runs.steps_taken.tolist()


@QUIET
def test_a_state_of_another_table_is_not_used(tmp_path: Path) -> None:
    given: dict[str, Any] = {"n_components": RANK, "random_state": 0, "max_iter": 25}
    given |= {"tol": 0, "solver": "adam"}
    path = write(tmp_path, table_of())
    with RunFolder(tmp_path / "run", {"command": "test"}) as folder:
        kept_fit(folder, path, 2, **given)
        path = write(tmp_path, table_of(rows=90))
        found, kept = kept_fit(folder, path, 2, **given)
        assert kept == 3
        compare(fit_together(path, 2, **given), found)
        stage = folder.stage("descent-0-1.safetensors")
        stage.write_bytes(stage.read_bytes()[:99])  # damaged
        assert kept_fit(folder, path, 3, **given)[1] == 3


# Cells that no fit has seen


@QUIET
@pytest.mark.parametrize("count", [2, slow(3)])
@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_processes_judge_their_fit_by_cells_that_another_has_not_seen(
    tmp_path: Path, count: int, kind: str
) -> None:
    table = table_of(0.2, rows=400)
    path = write(tmp_path, table, kind)
    given: dict[str, Any] = {"n_components": RANK, "random_state": 1, "max_iter": 500}
    found = fit_together(path, count, **given)
    assert found.unseen is not None
    assert found.judged is not None
    held, rows = found.unseen.predicted, found.unseen.rows
    assert np.array_equal(held.truth, table[rows, held.columns])
    fold = found.unseen.folds == 0
    assert int(fold.sum()) == round(0.1 * (~np.isnan(table)).sum())
    shown = table.copy()
    shown[rows[fold], held.columns[fold]] = np.nan
    other = fit(shown, Settings(**given, held_out=0))
    (numbers, _) = other.predictions([other.points[0]])
    expected = numbers[rows[fold], held.columns[fold]]
    np.testing.assert_allclose(held.values[fold], expected, rtol=1e-5, atol=1e-5)
    means = np.nanmean(shown, axis=0)[held.columns[fold]]
    np.testing.assert_allclose(held.constants[fold], means, rtol=1e-9)
    errors = [
        [
            np.sqrt(np.square((one - held.truth)[held.columns == j]).mean())
            for j in range(COLUMNS)
        ]
        for one in (held.values, held.constants)
    ]
    ratio = np.mean(errors[0] / np.std(table, axis=0, where=~np.isnan(table)))
    ratio /= np.mean(errors[1] / np.std(table, axis=0, where=~np.isnan(table)))
    assert found.judged.relative_error == pytest.approx(ratio, rel=0.02)
    assert found.judged.relative_error < 0.5


@QUIET
def test_no_cells_are_hidden_where_none_is_missing(tmp_path: Path) -> None:
    found = fit_together(write(tmp_path, table_of()), 2, n_components=1)
    assert found.judged is None


@QUIET
def test_processes_without_a_seed_draw_the_same_starts(tmp_path: Path) -> None:
    path = write(tmp_path, table_of())

    def work(together: Thread) -> np.ndarray:
        settings = Settings(n_components=RANK, n_starts=2, max_iter=3)
        return fit(SharedTable(path, together), settings).runs.parameters["V"]

    first, second = in_processes(2, work)
    assert np.array_equal(first, second)
