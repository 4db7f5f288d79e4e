"""The figures of a stored run as files: PNG, SVG or PDF, without its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from descents.errors import RunFolderError
from descents.pages import figures
from descents.pages.figures import Stored
from descents.pages.formats import as_file
from descents.pages.page import RunResult, finished, pictures_of
from descents.storage.files import write_new


def write_figures(
    run: Stored[RunResult], folder: Path, forms: Sequence[str]
) -> list[Path]:
    """Write each figure of a run into a folder; return the paths.

    Parameters
    ----------
    run : Stored
    folder : Path
        Created if it is absent.
    forms : sequence of {"png", "svg", "pdf"}

    Raises
    ------
    RunFolderError
        If the run is damaged or has no figures, or the folder cannot be written.
    """
    pictures, paths = pictures_of(run), []
    if forms and not pictures:
        raise RunFolderError(
            f"the page of 'descents {run.result.run.command}' has no figures; leave "
            "--figures out"
        )
    for name, picture in pictures.items():
        for form in dict.fromkeys(forms):
            try:
                with figures.style():
                    content = as_file(finished(picture, run), form)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise RunFolderError(
                    f"{folder} contains a damaged run, or files of different runs; run "
                    "the command again, with a new folder"
                ) from error
            path = folder / f"{name}.{form}"
            write_new(path, content)
            paths.append(path)
    return paths
