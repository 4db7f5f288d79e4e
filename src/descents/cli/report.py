"""The command ``descents report``."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from descents.cli.options import Command, safe_csv_option
from descents.cli.printing import say_error
from descents.errors import InvalidValueError
from descents.validation import folder_path

FORMS = ("png", "svg", "pdf")


class _Forms(click.ParamType[tuple[str, ...]]):
    """Option type: one or several file formats of figures."""

    name = "formats"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the formats, or fail with a message."""
        forms = tuple(part.strip().lower() for part in str(value).split(","))
        unknown = [form for form in forms if form not in FORMS]
        if unknown:
            self.fail(
                f"{unknown[0]!r} is not a format of figures; give png, svg or pdf, or "
                "several, such as svg,pdf.",
                param,
                ctx,
            )
        return forms


@click.command("report", cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--figures", "forms", type=_Forms(), multiple=True, metavar="png|svg|pdf",
    help="Write each figure as a file of this format, and print the paths. Give several "
    "formats with commas, or repeat the option.",
)  # fmt: skip
@click.option(
    "--table", "form", type=click.Choice(["latex", "markdown", "csv"]),
    help="Print the main table of the run, with intervals and n. Without other options, "
    "nothing is drawn.",
)  # fmt: skip
@safe_csv_option
@click.option("--open", "opened", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--out", type=click.Path(path_type=Path),
    help="Folder for the page and the figures.  [default: RUN]",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print nothing but errors and the table.")
def report(
    run: Path,
    forms: tuple[tuple[str, ...], ...],
    form: str | None,
    safe_csv: bool,
    opened: bool,
    out: Path | None,
    quiet: bool,
) -> int:
    """Draw the figures and the page of a stored RUN again.

    RUN is the folder of a run of reproduce, factorize, impute, train, compare or apply.
    """
    from descents.storage.damage import undamaged
    from descents.storage.files import read_json
    from descents.storage.run_folders import RESULT

    if safe_csv and form != "csv":
        raise InvalidValueError(
            "--safe-csv is for --table csv; leave it out, or give --table csv"
        )
    run = folder_path(run)
    read_json(run / RESULT)  # report errors before the drawing library is loaded
    from descents.pages.figure_files import write_figures
    from descents.pages.page import PAGE, draw, read_run
    from descents.pages.tables import formatted, main_table
    from descents.storage.files import make_folder

    folder = run if out is None else folder_path(out)
    with undamaged(run):
        stored = read_run(run)
        kind = "safe csv" if safe_csv else form
        text = "" if kind is None else formatted(main_table(stored.result), kind)
    lines = []
    if forms or opened or out is not None or form is None:
        make_folder(folder)
        draw(folder, (stored.result, stored.rows, stored.tensors))
        wanted = [one for each in forms for one in each]
        lines = [f"The page: {folder / PAGE}"]
        with undamaged(run):
            lines += [str(path) for path in write_figures(stored, folder, wanted)]
    if form is not None:
        click.echo(text, nl=False)
    if not quiet:  # beside a table, the paths go to standard error
        for line in lines:
            click.echo(line, err=form is not None)
    if opened and not webbrowser.open((folder / PAGE).absolute().as_uri()):
        say_error(f"no browser was found; open {folder / PAGE} yourself.")
    return 0
