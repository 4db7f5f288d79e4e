"""The command as a user meets it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import descents
from conftest import FEW, run_descents, run_python
from descents.cli.main import main
from descents.devices import processors
from descents.storage.files import read_json


def loaded_modules(*arguments: str) -> set[str]:
    """Return which modules a command loads."""
    code = (
        "import sys\nfrom descents.cli.main import main\n"
        f"code = main({list(arguments)!r})\n"
        "print('LOADED', *sorted(sys.modules), file=sys.stderr)\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split("LOADED")[1].split())


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        (["--help"], 0),
        (["reproduce", "--strict", "--starts", "0"], 0),
        (["factorize", "{table}", "--rank", "1", "--out", "{out}"], 10),
        pytest.param(
            ["factorize", "{table}", "--rank", "1", "--json", "--out", "{out}"],
            0,
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.sampled(3)
def test_a_closed_output_ends_quietly(arguments, read, tmp_path) -> None:
    """As other tools do in ``... | head -1``: with the code of the signal of a pipe."""
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n3,4\n5,7\n2,2\n")
    given = [a.format(table=table, out=tmp_path / "run") for a in arguments]
    errors = tmp_path / "errors.txt"
    wrong = "0" in arguments  # said on standard error, which is closed too
    with errors.open("w") as kept:
        process = subprocess.Popen(
            [sys.executable, "-m", "descents", *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if wrong else kept,
        )
        assert process.stdout is not None
        process.stdout.read(read)
        process.stdout.close()
        assert process.wait(120) == 141
    left = re.sub(r"^\d+% .* left\n", "", errors.read_text(), flags=re.MULTILINE)
    assert left == ""  # besides progress


def test_an_interrupt_while_the_command_is_loaded() -> None:
    code = (
        "import sys\nfrom descents.__main__ import main\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'numpy': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.exit(main())"
    )
    done = run_python(code)
    assert (done.returncode, done.stdout) == (130, "")
    says = "interrupted; nothing was kept yet, and the same command starts again"
    assert done.stderr == f"descents: {says}.\n"


def test_an_interrupt_after_the_run_is_complete(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """Nothing is lost then, and a run of apply, which has no --resume, says so too."""
    table, run, out = (str(tmp_path / name) for name in ("t.csv", "run", "out"))
    Path(table).write_text("a,b\n1,2\n3,4\n5,7\n2,2\n")
    words = ["--rank", "1", "--out", run]
    assert main(["factorize", table, *words, "--quiet"]) == 0

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("descents.cli.apply._show_applied", interrupted)
    assert main(["apply", run, table, "--out", out]) == 130
    says = capsys.readouterr().err
    assert says.endswith(f"descents: interrupted; the run in {out} is complete.\n")


def test_a_lone_setting_is_not_named_by_its_options(tmp_path: Path, capsys) -> None:
    """A name such as "kaiming" tells settings apart; of one, it would be a riddle."""
    table = tmp_path / "t.csv"
    table.write_text("a,b\n" + "".join(f"{k},{'xy'[k % 3 > 0]}\n" for k in range(30)))
    words = ["train", str(table), "--target", "b", "--starts", "3", "--epochs", "2"]
    for count, more in ((1, []), (2, ["--init", "kaiming", "--init", "zero"])):
        out = tmp_path / str(count)
        assert main([*words, *more, "--out", str(out)]) == 0
        page = (out / "report.html").read_text()
        shown = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
        for text in (capsys.readouterr().out, shown):
            assert ("kaiming" in text) == (count > 1)
            assert ("the network" in text) == (count == 1)


def test_an_interrupt_before_a_part_is_finished(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("descents.runs.train.fit_all", interrupted)
    table, out = tmp_path / "t.csv", tmp_path / "run"
    table.write_text("a,b\n1,x\n3,y\n5,x\n2,y\n")
    words = ["train", str(table), "--target", "b", "--starts", "1", "--out", str(out)]
    assert main(words) == 130
    says = capsys.readouterr().err
    assert "Interrupted; no part was finished yet: continue with --resume" in says
    monkeypatch.undo()
    assert main([*words, "--resume", "--quiet"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["reproduce", "--help"],
        ["reproduce", "--starts", "0"],
        ["reproduce", "--wrong"],
        ["wrong"],
        ["report", "nowhere"],
    ],
)
def test_help_and_wrong_options_load_nothing_heavy(arguments) -> None:
    heavy = {"torch", "sklearn", "scipy", "matplotlib", "pyarrow"}
    assert not loaded_modules(*arguments) & heavy


@pytest.mark.parametrize(
    ("text", "scipy"),
    [
        ("a,b,c\n1,x,2.5\n3,y,0.5\n5,x,\n2,y,1.5\n", "scipy.stats"),
        ("a,b,c\n1,2,2.5\n3,1,0.5\n5,2,7\n2,1,1.5\n", "scipy"),  # squared loss
    ],
)
def test_a_fit_loads_no_library_that_it_can_do_without(text, scipy, tmp_path) -> None:
    """scikit-learn alone takes as long to load as torch; another process draws."""
    table = tmp_path / "table.csv"
    table.write_text(text)
    loaded = loaded_modules(
        "factorize",
        str(table),
        "--rank",
        "1",
        "--quiet",
        "--out",
        str(tmp_path / "run"),
    )
    assert "torch" in loaded
    heavy = {"sklearn", "pandas", scipy, "rich", "joblib"}
    if processors() > 1:
        heavy.add("matplotlib")
    assert not loaded & heavy
    assert (tmp_path / "run" / "report.html").exists()


def test_collections_leave_the_objects_of_torch_alone() -> None:
    code = (
        "import gc, sys\nfrom descents.cli.options import load_torch\n"
        "load_torch()\n"
        "print('torch' in sys.modules, gc.isenabled(), gc.get_freeze_count() > 10**5)"
    )
    assert run_python(code).stdout.split() == ["True", "True", "True"]


def test_import_of_the_package_loads_nothing_heavy() -> None:
    code = "import sys, descents; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = run_python(code)
    assert done.stdout.split() == ["False", "False"]
    for name in descents.__all__:
        assert getattr(descents, name) is not None
    assert set(descents.__all__) <= set(dir(descents))
    with pytest.raises(AttributeError, match="no attribute 'wrong'"):
        _ = descents.wrong


def test_version_and_help() -> None:
    assert run_descents("--version").stdout == f"descents {descents.__version__}\n"
    done = run_descents("--help")
    assert done.returncode == 0
    assert "reproduce" in done.stdout
    assert run_descents().returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--starts", "0"],
            "Invalid value for '--starts': 0 is not in the range",
        ),
        (["--starts", "-3"], "-3 is not in the range"),
        (["--starts", "many"], "'many' is not a valid integer"),
        (["--starts", "100000000000000000000"], "is not in the range"),
        (["--out=~nosuchuser/x"], "~nosuchuser/x is not a path"),
        pytest.param(
            ["--device", "meta"],
            "device is 'meta', which is not usable here",
            marks=pytest.mark.slow,
        ),
        (["--seed", "-1"], "-1 is not in the range x>=0"),
        (["--max-seconds", "0"], "'0' is not a number of seconds above 0"),
        (["--strct"], "No such option"),
        (["extra"], "Got unexpected extra argument"),
        (["--resume"], "--resume needs --out"),
        (["--device", "nowhere"], "device is 'nowhere', which is not usable here"),
        pytest.param(
            ["--device", "cuda:77"],
            "give 'cpu' or a device that this machine has",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_bad_options_are_one_sentence_and_exit_2(arguments, sentence, tmp_path) -> None:
    done = run_descents("reproduce", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("descents: ")
    assert list(tmp_path.iterdir()) == []


def test_bad_folders_are_one_sentence_and_exit_2(tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    full = tmp_path / "full"
    full.mkdir()
    (full / "result.json").write_text('{"run": {"command": "other"}}')
    for out, sentence in (
        (file, "is a file; give --out a folder"),
        (file / "below", "cannot be written: Not a directory"),
        (full, "is not empty (it contains result.json); give --out a new folder"),
        (Path("/proc/run"), "cannot be written"),
    ):
        done = run_descents("reproduce", "--out", str(out))
        assert done.returncode == 2
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
    done = run_descents("reproduce", "--resume", "--out", str(full))
    assert "contains another run (command 'other', not 'reproduce'" in done.stderr
    assert file.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full"]


def test_a_read_only_directory_is_refused(tmp_path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    # Root may write everywhere, so it becomes nobody once the command is loaded; the
    # folders above are opened to everybody for that.
    for parent in [tmp_path, *list(tmp_path.parents)[:2]]:
        parent.chmod(0o755)
    code = (
        "import os, sys\nfrom descents.cli import main as cli\nimport descents.cli.reproduce, descents.storage.run_folders, descents.reproduction.claims\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        f"sys.exit(cli.main(['reproduce', '--out', {str(closed / 'run')!r}]))"
    )
    done = run_python(code)
    assert done.returncode == 2
    assert "cannot be written: Permission denied; give another --out" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(closed.iterdir()) == []


def test_a_full_disk_in_the_middle(tmp_path) -> None:
    code = (
        "import resource, sys\nfrom descents.cli.main import main\n"
        "from descents.storage import files\nfiles.LEAST_FILE = 0\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))\n"
        f"sys.exit(main(['reproduce', '--starts', '5', '--out', {str(tmp_path / 'r')!r}]))"
    )
    done = run_python(code)
    assert done.returncode == 2
    assert "could not write" in done.stderr
    assert "File too large; raise the limit on the size of files" in done.stderr
    says = done.stderr.splitlines()[-1]
    assert says.startswith("descents: could not write")
    assert f"continue with --resume --out {tmp_path / 'r'}" in says
    assert not list((tmp_path / "r" / ".partial").glob(".*"))


def test_what_is_printed(whole) -> None:
    printed = (whole / "printed.txt").read_text()
    for words in ("Published and obtained", "15.2288971", "Table 1", "supported"):
        assert words in printed
    assert "[/]" not in printed  # colors are styles, not markup
    names = {path.name for path in whole.iterdir()}
    assert {"result.json", "starts.parquet", "report.html"} <= names
    assert {f"figure-1{k}.{kind}" for k in "abc" for kind in ("png", "svg")} <= names
    assert ".partial" not in names


def test_json_quiet_and_strict(unbroken, tmp_path) -> None:
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    again = ("reproduce", *FEW, "--resume", "--out", str(out))
    quiet = run_descents(*again, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    as_json = (*again, "--json")
    done = run_descents(*as_json)
    assert json.loads(done.stdout) == read_json(out / "result.json")
    # A figure that is not met: --strict says so by its exit code.
    changed = read_json(out / "result.json")
    changed["checks"][0]["met"] = False
    (out / "result.json").write_text(json.dumps(changed))
    assert run_descents(*as_json).returncode == 0
    strict = run_descents(*as_json, "--strict")
    assert strict.returncode == 1
    assert "not reproduced: gradient descent, fresh generator" in strict.stderr


@pytest.mark.slow
def test_report_draws_the_page_again(whole, tmp_path) -> None:
    again = tmp_path / "copy"
    again.mkdir()
    for name in ("result.json", "starts.parquet", "tensors.safetensors"):
        (again / name).write_bytes((whole / name).read_bytes())
    assert run_descents("report", str(again)).returncode == 0
    for name in ("report.html", "figure-1a.svg", "figure-losses.svg"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    page = (again / "report.html").read_bytes()
    for damaged in ('{"run": null}', '{"run": {"command": "reproduce"}}'):
        (again / "result.json").write_text(damaged)
        refused = run_descents("report", str(again))
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        assert (again / "report.html").read_bytes() == page
    wrong = run_descents("report", str(tmp_path))
    assert wrong.returncode == 2
    assert "give the folder of a complete run" in wrong.stderr


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_is_interrupted_goes_on_to_the_same_result(
    how, unbroken, tmp_path
) -> None:
    out = tmp_path / "run"
    arguments = ["reproduce", *FEW, "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "descents", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(out / ".partial" / "stages" / "sum-normal-zero.safetensors", process)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert not (out / "result.json").exists()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "finished parts are kept: continue with --resume --out" in errors
    stage = out / ".partial" / "stages" / "sum-uniform01-zero.safetensors"
    stage.write_bytes(stage.read_bytes()[:100])  # a damaged part is run again
    refused = run_descents(*arguments)
    assert refused.returncode == 2
    assert "continue it with --resume" in refused.stderr
    assert run_descents(*arguments, "--resume").returncode == 0
    first, second = (read_json(p / "result.json") for p in (out, unbroken))
    del first["seconds"], second["seconds"]
    assert first == second


@pytest.mark.slow
def test_a_budget_of_time(tmp_path) -> None:
    arguments = ["reproduce", "--starts", "100", "--out", str(tmp_path / "run")]
    done = run_descents(*arguments, "--max-seconds", "0.01")
    assert done.returncode == 3
    assert done.stderr.startswith(
        "descents: Stopped after 0.01 s; no part was finished: give more seconds"
    )
    assert (tmp_path / "run" / ".partial").is_dir()
