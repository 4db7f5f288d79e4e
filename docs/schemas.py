"""Write the JSON Schema of each result into this folder; `make schemas` runs it."""

from __future__ import annotations

from pathlib import Path

from descents.reproduction.result import ReproductionResult
from descents.runs.apply_result import AppliedResult, FilledRows, PredictedRows
from descents.runs.factorize_result import LowRankResult
from descents.runs.impute_result import ImputationResult
from descents.runs.train_result import ComparisonResult, NetworkResult
from descents.storage.results import Result, json_schema
from descents.storage.values import json_text

_APPLY = "result.json of descents apply, with a run of descents"
SCHEMAS: dict[str, tuple[type[Result], str]] = {
    "apply-factorize": (AppliedResult, f"{_APPLY} factorize"),
    "apply-impute": (FilledRows, f"{_APPLY} impute"),
    "apply-train": (PredictedRows, f"{_APPLY} train"),
    "compare": (ComparisonResult, "result.json of descents compare"),
    "factorize": (LowRankResult, "result.json of descents factorize"),
    "impute": (ImputationResult, "result.json of descents impute"),
    "result": (ReproductionResult, "result.json of descents reproduce"),
    "train": (NetworkResult, "result.json of descents train"),
}
"""The result and the title of each schema."""


def texts() -> dict[str, str]:
    """Return the text of each file."""
    return {
        f"{name}.schema.json": json_text(json_schema(kind, title))
        for name, (kind, title) in SCHEMAS.items()
    }


if __name__ == "__main__":
    for name, text in texts().items():
        (Path(__file__).parent / name).write_text(text, encoding="utf-8")
