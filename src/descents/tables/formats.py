"""Names of files of other programs, which are neither read nor written."""

from __future__ import annotations

from pathlib import Path

SPREADSHEETS = {".xls", ".xlsx", ".xlsm", ".xlsb", ".xltx", ".ods", ".fods", ".numbers"}
OF_STATISTICS = {
    ".dta",
    ".sav",
    ".sas7bdat",
    ".xpt",
    ".rds",
    ".rdata",
    ".feather",
    ".orc",
}
OTHER_PROGRAMS = SPREADSHEETS | OF_STATISTICS
"""Spreadsheets, and tables of statistical programs. Text under such a name would mislead
the programs that open it."""


def refusal(path: str | Path) -> str:
    """Return why a file is neither read nor written, after a noun for it.

    Examples
    --------
    >>> refusal("sales.xlsx")
    'is sales.xlsx, a name of a .xlsx file, which descents cannot read or write; export the table as CSV or Parquet, and give a name that ends in .csv or .parquet'
    """
    kind = Path(path).suffix.lower()
    return (
        f"is {path}, a name of a {kind} file, which descents cannot read or write; export "
        "the table as CSV or Parquet, and give a name that ends in .csv or .parquet"
    )
