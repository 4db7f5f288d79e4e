"""`descents reproduce`: re-run the published report on its data, and judge its claims."""

from __future__ import annotations

import platform
import time
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import torch

from descents.devices import processor, torch_device
from descents.diagnosis.diagnosis import diagnose
from descents.diagnosis.verdicts import Diagnosis
from descents.errors import Complaints
from descents.kernels.compiled import available
from descents.optim.executors import Workers
from descents.optim.first_order import GradientDescent
from descents.reproduction import claims, evidence, rows, summaries
from descents.reproduction.experiments import (
    LEARNING_RATE,
    Parts,
    Progress,
    TrainingPart,
    factorization_part,
    training_part,
)
from descents.reproduction.result import (
    ReproductionEnvironment,
    ReproductionResult,
    identity,
)
from descents.reproduction.ten_starts import ten_starts_part
from descents.reproduction.ten_starts_summary import ten_starts
from descents.storage.run_folders import RESULT, ROWS, TENSORS, RunFolder
from descents.validation import real_number, seed_number, whole_number


@dataclass
class Reproduction:
    """The result of a re-run of the report, as a run stores it.

    Attributes
    ----------
    result : ReproductionResult
        The contents of ``result.json``.
    rows : dict of ndarray
        The columns of ``starts.parquet``: one row per (part, setting, split, start).
    tensors : dict of ndarray
        The data of the figures.
    """

    result: ReproductionResult
    rows: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray] = field(repr=False)

    def write(self, folder: RunFolder) -> None:
        """Write the stored run: the result, a row per start, the tensors."""
        folder.write_table(ROWS, self.rows)
        folder.write_tensors(TENSORS, self.tensors, {"command": "reproduce"})
        folder.write_json(RESULT, self.result)


def reproduce(
    starts: int = 1000,
    seed: int = 0,
    *,
    device: str = "cpu",
    threads: int = 1,
    workers: Workers = 1,
    max_seconds: float | None = None,
    folder: RunFolder | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Re-run the published report on its data and judge its claims.

    Parameters
    ----------
    starts : int
        The number of starts of the factorization, of each network setting (at least 5 on
        each of 20 shuffles) and of the most likely setting.
    seed : int
        The seed of our own streams; the report's two runs use torch's, seeded 0.
    device : str
        The device of our starts; the report's two runs use the CPU.
    threads : int
    workers : int or Executor
        How many chunks of starts run in parallel, in threads or in processes; the result
        is the same. The diagnosis stays in this process.
    max_seconds : float, optional
        A limit of wall time.
    folder : RunFolder, optional
        Stores finished parts, which a resumed run does not compute again.
    progress : callable, optional
        ``progress(part, share)``: the current part, and the finished share of the work.

    Returns
    -------
    Reproduction

    Raises
    ------
    InvalidValueError
        If an argument is invalid.
    InterruptedRunError
        If the time limit was reached, or the user interrupted; finished parts are stored.
    LostProcessError
        If a worker process was killed; finished parts are stored.

    Examples
    --------
    >>> reproduction = reproduce(starts=5)
    >>> claim = reproduction.result.claims[1]  # is U-hat U_t, rotated and scaled?
    >>> claim.verdict
    'supported with a correction'
    """
    complaints = Complaints()
    starts = complaints.attempt(whole_number, "starts", starts, 1)
    seed = complaints.attempt(seed_number, seed)
    complaints.attempt(torch_device, device)
    complaints.attempt(whole_number, "threads", threads, 1)
    if not isinstance(workers, Executor):
        complaints.attempt(whole_number, "workers", workers, 1)
    if max_seconds is not None:
        complaints.attempt(real_number, "max_seconds", max_seconds, 0)
    complaints.raise_any()
    begun = time.perf_counter()
    parts = Parts(folder, max_seconds, progress, threads, workers)
    factorization = factorization_part(parts, starts, seed, device)
    training = training_part(parts, starts, seed, device)
    ten = ten_starts_part(parts, starts, seed)
    diagnosis = _diagnosis(parts, training, seed)
    trained = summaries.training(training, ten_starts(ten, seed))
    result = ReproductionResult(
        run=identity(starts, seed, device),
        report=claims.REPORT,
        assumptions=list(claims.ASSUMPTIONS),
        factorization=summaries.factorization(factorization),
        subspace=summaries.subspace(factorization),
        training=trained,
        diagnosis=summaries.diagnosis(diagnosis, training),
        claims=evidence.judged(factorization, training, diagnosis, trained),
        checks=evidence.checks(factorization, training, trained),
        environment=_environment(seed, device, threads),
        seconds=time.perf_counter() - begun,
    )
    return Reproduction(
        result,
        rows.rows(factorization, training, ten, diagnosis),
        rows.tensors(factorization, training, ten, diagnosis),
    )


def _diagnosis(parts: Parts, training: TrainingPart, seed: int) -> Diagnosis:
    parts.tell("diagnosis")
    return diagnose(
        training.problem,
        training.table,
        training.table.starts[training.failed],
        steps=GradientDescent(LEARNING_RATE),
        threshold=claims.FAILED_BELOW,
        max_seconds=parts.seconds_left(),
        threads=parts.threads,
    )


def _environment(seed: int, device: str, threads: int) -> ReproductionEnvironment:
    """Return the versions of the libraries, and the machine."""
    import scipy
    import sklearn

    from descents import __version__

    return ReproductionEnvironment(
        versions={
            "descents": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
        },
        dtype="float32",
        evaluation_dtype="float64",
        device=device,
        threads=threads,
        torch_threads=torch.get_num_threads(),
        machine=platform.machine(),
        seed=seed,
        processor=processor(),
        compiled=available(),
    )
