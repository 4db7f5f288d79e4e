"""Many starts of small networks: the report's on iris, and a larger one on digits.

Weights and biases of the report's network begin uniform on [0, 1), for each contender
from a generator of its own: quality is the mean training accuracy over the starts,
which would differ were something else trained.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from suite import Case, Contender, Curve, Outcome, Run

EPOCHS, RATE = 100, 0.01
SHAPES = ((4, 12), (1,), (12, 3), (1,))
DIGITS_EPOCHS, DIGITS_RATE = 200, 0.2


def iris() -> tuple[np.ndarray, np.ndarray]:
    """Return 100 rows of UCI's table, standardized as the report does, and classes."""
    from descents.tables.datasets import uci_iris

    values = uci_iris().values.astype(np.float32)
    features = (values - values.mean(0)) / values.var(0, ddof=1)
    rows = np.random.default_rng(0).permutation(len(values))[:100]
    return features[rows], uci_iris().classes[rows]


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the 1797 digits, on [0, 1], and their classes."""
    from sklearn.datasets import load_digits

    table = load_digits()
    return (table.data / 16).astype(np.float32), table.target


def draw(starts: int) -> list[np.ndarray]:
    """Return weights and biases of all starts, stacked."""
    generator = np.random.default_rng(0)
    return [generator.random((starts, *shape), np.float32) for shape in SHAPES]


# The report's network


def on_device(device: str) -> str:
    """Return a device that there is.

    Raises
    ------
    ImportError
        Where there is none.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ImportError("there is no GPU here")
    return device


def ours(
    starts: int,
    rows: int = 100,
    threads: int | None = 2,
    width: int | None = None,
    device: str = "cpu",
    recorded: bool = True,
) -> Run:
    from descents import GradientDescent, Network, Stop, descend
    from descents.optim import graphs as recording

    if not recorded:
        recording.RECORDERS.clear()
    x, y = iris()
    repeated = np.resize(np.arange(100), rows)
    problem = Network(
        x[repeated],
        y[repeated],
        [12],
        weights="uniform01",
        biases="uniform01",
        loss="sum",
        scalar_biases=True,
        outputs=3,
        device=on_device(device),
    )

    def run() -> Outcome:
        runs = descend(
            problem,
            starts,
            steps=GradientDescent(RATE * 100 / rows),
            stop=Stop(EPOCHS),
            threads=threads,
            width=width,
        )
        return Outcome(float(runs.metrics["training_accuracy"].mean()))

    return run


def plain_loop(starts: int) -> Run:
    """Train one start after the other with torch.optim."""
    import torch

    x, y = (torch.as_tensor(part) for part in iris())

    def run() -> Outcome:
        accuracies = []
        for one in zip(*draw(starts), strict=True):
            p = [torch.tensor(value).requires_grad_() for value in one]
            optimizer = torch.optim.SGD(p, lr=RATE)
            for _ in range(EPOCHS):
                optimizer.zero_grad()
                logits = torch.relu(x @ p[0] + p[1]) @ p[2] + p[3]
                torch.nn.functional.cross_entropy(logits, y, reduction="sum").backward()
                optimizer.step()
            accuracies.append(float((logits.argmax(1) == y).float().mean()))
        return Outcome(float(np.mean(accuracies)))

    return run


def vmap(starts: int, chunk: int, device: str = "cpu") -> Run:
    """Train chunks of starts by torch.func.vmap of the gradient of one."""
    import torch

    x, y = (torch.as_tensor(part).to(on_device(device)) for part in iris())

    def logits(p: Any) -> Any:
        return torch.relu(x @ p[0] + p[1]) @ p[2] + p[3]

    def loss(p: Any) -> Any:
        return torch.nn.functional.cross_entropy(logits(p), y, reduction="sum")

    gradient = torch.func.vmap(torch.func.grad(loss))

    def step(p: Any) -> Any:
        return [v - RATE * g for v, g in zip(p, gradient(p), strict=True)]

    def run() -> Outcome:
        right = 0.0
        drawn = [torch.as_tensor(value).split(chunk) for value in draw(starts)]
        for part in zip(*drawn, strict=True):
            p = [value.to(device) for value in part]
            for _ in range(EPOCHS):
                p = step(p)
            right += float((torch.vmap(logits)(p).argmax(-1) == y).float().sum())
        return Outcome(right / starts / len(y))

    return run


def jax_lanes(starts: int, chunk: int) -> Run:
    """Train chunks of starts by one compiled scan, the axis of starts last."""
    import jax
    import jax.numpy as jnp

    x, y = iris()
    x, truth = jnp.asarray(x), jax.nn.one_hot(y, 3)[:, :, None]

    def logits(p: Any) -> Any:
        # One row of starts for each scalar bias; sums of outer products otherwise.
        h = sum(x[:, i, None, None] * p[0][None, i] for i in range(4)) + p[1][None]
        h = jax.nn.relu(h)
        return sum(h[:, j, None] * p[2][None, j] for j in range(12)) + p[3][None]

    def loss(p: Any) -> Any:
        z = logits(p)
        return (jax.nn.logsumexp(z, 1) - (z * truth).sum(1)).sum()

    def step(p: Any, _: None) -> Any:
        return [v - RATE * g for v, g in zip(p, jax.grad(loss)(p), strict=True)], None

    @jax.jit
    def train(parts: Any) -> Any:
        def one(p: Any) -> Any:
            p, _ = jax.lax.scan(step, p, None, EPOCHS)
            return (logits(p).argmax(1) == truth.argmax(1)).mean()

        return jax.lax.map(one, parts)

    def run() -> Outcome:
        parts = [
            np.moveaxis(value.reshape(-1, chunk, *value.shape[1:]), 1, -1)
            for value in draw(starts)
        ]
        return Outcome(float(train(parts).mean()))

    return run


def written_c(starts: int, threads: int = 2) -> Run:
    """Train eight starts in the lanes of a vector, by `starts.c`."""
    library = compiled("starts.c")
    x, y = iris()
    x, y = np.ascontiguousarray(x), y.astype(np.int32)
    groups = -(-starts // 8)

    def pointer(array: np.ndarray) -> ctypes.c_void_p:
        return array.ctypes.data_as(ctypes.c_void_p)

    def run() -> Outcome:
        drawn = draw(8 * groups)
        order = [drawn[place].reshape(8 * groups, -1) for place in (0, 2, 1, 3)]
        p = np.concatenate(order, 1).reshape(groups, 8, -1)
        p = np.ascontiguousarray(p.transpose(0, 2, 1))
        library.train(
            pointer(p),
            groups,
            pointer(x),
            pointer(y),
            len(y),
            EPOCHS,
            ctypes.c_float(RATE),
            threads,
        )
        flat = p.transpose(0, 2, 1).reshape(8 * groups, -1)[:starts]
        first, second = flat[:, :48].reshape(-1, 4, 12), flat[:, 48:84]
        h = np.maximum(x @ first + flat[:, 84, None, None], 0)
        z = h @ second.reshape(-1, 12, 3) + flat[:, 85, None, None]
        return Outcome(float((z.argmax(-1) == y).mean()))

    return run


def skorch_net(starts: int) -> Run:
    """Train one start after the other with skorch, as its documentation does."""
    import torch
    from skorch import NeuralNetClassifier

    x, y = iris()

    def build() -> torch.nn.Module:
        layers = [torch.nn.Linear(4, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)]
        return torch.nn.Sequential(*layers)

    def run() -> Outcome:
        accuracies = []
        for start in range(starts):
            torch.manual_seed(start)
            net = NeuralNetClassifier(
                build(),
                criterion=torch.nn.CrossEntropyLoss,
                optimizer=torch.optim.SGD,
                lr=RATE * len(y),  # its loss is the mean
                max_epochs=EPOCHS,
                batch_size=-1,
                train_split=None,
                iterator_train__shuffle=False,
                verbose=0,
            ).fit(x, y)
            accuracies.append(float((net.predict(x) == y).mean()))
        return Outcome(float(np.mean(accuracies)))

    return run


# Larger networks


def digits_problem(hidden: Sequence[int] = (64,)) -> Any:
    from descents import Network

    x, y = digits()
    return Network(x, y, hidden, weights="kaiming", outputs=10)


def ours_digits(
    starts: int,
    epochs: int = DIGITS_EPOCHS,
    threads: int | None = 2,
    width: int | None = None,
    hidden: Sequence[int] = (64,),
) -> Run:
    from descents import GradientDescent, Stop, descend

    problem, steps = digits_problem(hidden), GradientDescent(DIGITS_RATE)

    def run() -> Outcome:
        runs = descend(
            problem,
            starts,
            steps=steps,
            stop=Stop(epochs),
            threads=threads,
            width=width,
        )
        return Outcome(float(runs.metrics["training_accuracy"].mean()))

    return run


def jax_digits(starts: int, chunk: int) -> Run:
    """Train chunks of starts by one compiled scan."""
    import jax
    import jax.numpy as jnp

    x, y = digits()
    x, truth = jnp.asarray(x), jax.nn.one_hot(y, 10)
    generator = np.random.default_rng(0)
    parts = [
        generator.normal(0, scale, (starts // chunk, chunk, *shape)).astype(np.float32)
        for shape, scale in (
            ((64, 64), (2 / 64) ** 0.5),
            ((64,), 0),
            ((64, 10), (2 / 64) ** 0.5),
            ((10,), 0),
        )
    ]

    def logits(p: Any) -> Any:
        return jax.nn.relu(x @ p[0] + p[1]) @ p[2] + p[3]

    def loss(p: Any) -> Any:
        z = logits(p)
        return (jax.nn.logsumexp(z, -1) - (z * truth).sum(-1)).mean()

    @jax.jit
    def train(parts: Any) -> Any:
        gradient = jax.vmap(jax.grad(loss))

        def step(p: Any, _: None) -> Any:
            moved = zip(p, gradient(p), strict=True)
            return [v - DIGITS_RATE * g for v, g in moved], None

        def one(p: Any) -> Any:
            p, _ = jax.lax.scan(step, p, None, DIGITS_EPOCHS)
            return (jax.vmap(logits)(p).argmax(-1) == truth.argmax(-1)).mean()

        return jax.lax.map(one, parts)

    return lambda: Outcome(float(train(parts).mean()))


def digits_work(starts: int, epochs: int) -> float:
    """Return the floating-point operations of the products, in units of 1e9."""
    forward = 2 * 1797 * (64 * 64 + 64 * 10)
    backward = 2 * 1797 * (64 * 64 + 2 * 64 * 10)
    return starts * epochs * (forward + backward) / 1e9


def rated(act: Callable[[], Any], work: float, note: str = "") -> Run:
    """Time 1e9 operations of what does so much work; its rate is the quality."""

    def run() -> Outcome:
        begun = time.perf_counter()
        act()
        seconds = time.perf_counter() - begun
        return Outcome(work / seconds, seconds / work, note)

    return run


def products(starts: int, epochs: int) -> Run:
    """Time losses and gradients alone: seconds for 1e9 operations of their products."""
    import torch

    from descents.optim.problem import losses_and_gradients

    torch.set_num_threads(1)
    problem, numbers = digits_problem(), torch.arange(starts)
    point, work = problem.points(range(starts), 0), digits_work(starts, epochs)

    def act() -> None:
        for step in range(epochs):
            losses_and_gradients(problem, point, numbers, step)

    return rated(act, work, "losses and gradients alone")


def whole_steps(starts: int, epochs: int) -> Run:
    """Time `descend` by the operations of its products, one thread."""
    return rated(ours_digits(starts, epochs, threads=1), digits_work(starts, epochs))


def library_products(starts: int) -> Run:
    """Time the products of one step alone, as the library takes them, one thread."""
    import torch

    torch.set_num_threads(1)
    x, wide = torch.randn(2, starts, 1797, 64)
    narrow = torch.randn(starts, 1797, 10)
    inner, outer = torch.randn(starts, 64, 64), torch.randn(starts, 64, 10)

    def act() -> None:
        torch.bmm(x, inner)
        torch.bmm(wide, outer)
        torch.bmm(wide.mT, narrow)
        torch.bmm(narrow, outer.mT)
        torch.bmm(x.mT, wide)

    return rated(act, digits_work(starts, 1), "no activation, no loss")


def large_product(size: int = 2048) -> Run:
    """Time one large product, one thread."""
    import torch

    torch.set_num_threads(1)
    a, b = torch.randn(size, size), torch.randn(size, size)
    return rated(lambda: torch.mm(a, b), 2 * size**3 / 1e9)


def compiled(source: str) -> ctypes.CDLL:
    """Compile a C file beside this one for this processor, and load it."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ImportError("there is no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "starts.so"
        options = [
            "-O3",
            "-funroll-loops",
            "-march=native",
            "-ffast-math",
            "-fopenmp",
            "-shared",
            "-fPIC",
        ]
        files = [str(Path(__file__).parent / source), "-o", str(library)]
        subprocess.run([compiler, *options, *files], check=True, capture_output=True)
        return ctypes.CDLL(str(library))


# Everything included: each of these is the whole of a process


def process(command: list[str], environment: dict[str, str] | None = None) -> Run:
    """Time a process from its start to its end; what it prints last is its quality."""

    def run() -> Outcome:
        done = subprocess.run(
            [sys.executable, *command],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
            env={**os.environ, **(environment or {})},
        )
        return Outcome(float((done.stdout.split() or ["nan"])[-1]))

    return run


def alone(make: str, starts: int) -> Run:
    """Train in a process of its own that does nothing else."""
    return process(
        ["-c", f"import networks; print(networks.{make}({starts})().quality)"]
    )


# The cases


def cases(quick: bool) -> list[Case]:
    """Return the cases of this subject."""
    found = []
    for starts in (200,) if quick else (1000, 10_000):
        few = min(starts, 20 if quick else 50)
        many = starts > 1000
        contenders = [
            Contender("descents", "networks:ours", {"starts": starts}),
            Contender(
                "plain PyTorch loop",
                "networks:plain_loop",
                {"starts": few},
                asked=150,
                scale=starts / few,
                turns=2 if many else None,
            ),
            Contender(
                "torch.func.vmap, in chunks",
                "networks:vmap",
                {"starts": starts, "chunk": 200},
                asked=8,
                threads=2,
                turns=2 if many else None,
            ),
            Contender(
                "JAX, starts last, in chunks, jit(scan)",
                "networks:jax_lanes",
                {"starts": starts, "chunk": 100},
                asked=3,
            ),
            Contender(
                "C by hand, AVX2 lanes, 2 threads",
                "networks:written_c",
                {"starts": starts},
                asked=0.5,
            ),
        ]
        if not many and not quick:
            contenders += [
                Contender(
                    "skorch",
                    "networks:skorch_net",
                    {"starts": 5},
                    scale=starts / 5,
                    turns=1,
                    warms=False,
                ),
            ]
        found.append(
            Case(
                f"starts-{starts}",
                f"The report's network, {starts:,} starts",
                tuple(contenders),
                "mean training accuracy",
                least=0.8,
                note="4-12-3, 100 rows of UCI's iris, full batch, summed cross-entropy, "
                f"100 epochs, float32. The plain loop trains {few} starts and is scaled "
                "up, skorch 5, which begin as torch's layers do.",
            )
        )
    if quick:
        return found
    found.append(
        Case(
            "process",
            "The same, 1,000 starts, from the start of the process to its end",
            (
                Contender(
                    "descents", "networks:alone", {"make": "ours", "starts": 1000}
                ),
                Contender(
                    "plain PyTorch loop",
                    "networks:alone",
                    {"make": "plain_loop", "starts": 1000},
                    asked=20,
                    turns=1,
                    warms=False,
                ),
            ),
            "mean training accuracy",
            least=0.8,
            note="Second runs, so that what is kept on disk is there. No start is "
            "scaled up.",
        )
    )
    found.append(
        Case(
            "digits",
            "A network on the digits, 64 starts",
            (
                Contender("descents", "networks:ours_digits", {"starts": 64}),
                Contender(
                    "JAX, jit(scan), in chunks",
                    "networks:jax_digits",
                    {"starts": 64, "chunk": 4},
                    asked=1,
                ),
            ),
            "mean training accuracy",
            least=0.9,
            note="64-64-10, 1,797 rows, full batch, mean cross-entropy, 200 epochs.",
        )
    )
    work = {"starts": 16, "epochs": 50}
    found.append(
        Case(
            "products",
            "Products of the digits network, against the machine's rate",
            (
                Contender("descents, losses and gradients", "networks:products", work),
                Contender(
                    "one product of 2048 x 2048", "networks:large_product", asked=0.8
                ),
                Contender("descents, whole steps", "networks:whole_steps", work),
                Contender(
                    "the same products alone, by torch.bmm",
                    "networks:library_products",
                    {"starts": 16},
                ),
            ),
            "GFLOP/s",
            note="One thread each; seconds are those of 1e9 operations of products. "
            "asked is the share of the machine's rate that products reach.",
        )
    )
    return [*found, *choices(), on_a_gpu()]


def choices() -> list[Case]:
    """Return what the loop chooses, beside the other choices there are."""
    note = (
        "How many starts are computed together, and how many chunks of them side by side: "
        "what is chosen, against other choices. Asked is that none is faster by a tenth."
    )
    report = {"starts": 2000, "threads": None}
    digits = {"starts": 64, "epochs": 60, "threads": None}
    wide = {"starts": 16, "epochs": 4, "threads": None, "hidden": (512, 512)}

    def others(
        make: str, base: dict[str, Any], changes: dict[str, dict[str, Any]]
    ) -> tuple[Contender, ...]:
        found = [Contender("descents, as chosen", make, base)]
        for name, change in changes.items():
            own = dict(change)
            count = own.pop("torch", 1)
            options = {**base, **own}
            found.append(Contender(name, make, options, asked=0.9, threads=count))
        return tuple(found)

    widths = {f"{width} together": {"width": width} for width in (16, 64, 1024)}
    alone = {"one chunk after the other": {"threads": 1}}
    shared = {"the same, two threads a product": {"threads": 1, "torch": 2}}
    of_digits = {name: widths[name] for name in ("64 together",)}
    of_digits = {"4 together": {"width": 4}, **of_digits}
    return [
        Case(
            "choice-report",
            "Chosen for the report's network, 2,000 starts",
            others("networks:ours", report, {**widths, **alone}),
            "mean training accuracy",
            least=0.8,
            note=note,
        ),
        Case(
            "choice-digits",
            "Chosen for the digits network, 64 starts",
            others("networks:ours_digits", digits, {**of_digits, **alone}),
            "mean training accuracy",
            note=note,
        ),
        Case(
            "choice-wide",
            "Chosen for a network of 512 and 512 units, 16 starts",
            others(
                "networks:ours_digits",
                wide,
                {"4 together": {"width": 4}, **alone, **shared},
            ),
            "mean training accuracy",
            note=f"{note} It is too large for compiled code: torch does the products, and "
            "threads are tried on the work itself.",
        ),
    ]


def on_a_gpu() -> Case:
    """Return the report's network on a GPU."""
    options = {"starts": 100_000, "threads": None}
    return Case(
        "gpu",
        "The report's network on a GPU, 100,000 starts",
        (
            Contender("descents", "networks:ours", {**options, "device": "cuda"}),
            Contender(
                "descents, each operation told by itself",
                "networks:ours",
                {**options, "device": "cuda", "recorded": False},
                asked=1,
            ),
            Contender(
                "torch.func.vmap, in chunks",
                "networks:vmap",
                {"starts": 100_000, "chunk": 4000, "device": "cuda"},
                asked=1,
            ),
            Contender("descents, on the CPU", "networks:ours", options),
        ),
        "mean training accuracy",
        least=0.8,
        note="As above, on the first GPU; points are drawn on the CPU in the same time.",
    )


def curves(quick: bool) -> list[Curve]:
    """Return what a run costs against the number of starts."""
    contenders = [
        Contender("descents", "networks:ours"),
        Contender("torch.func.vmap", "networks:vmap", {"chunk": 200}, threads=2),
        Contender("JAX", "networks:jax_lanes", {"chunk": 10}),
        Contender("C by hand", "networks:written_c"),
    ]
    sizes = (10, 100) if quick else (10, 100, 1000, 10_000)
    title = "The report's network"
    found = [Curve("starts", title, "starts", tuple(contenders), sizes)]
    if not quick:
        ours_alone = (Contender("descents", "networks:ours", {"starts": 200}),)
        sizes = (100, 300, 1000, 3000)
        found.append(Curve("rows", f"{title}, 200 starts", "rows", ours_alone, sizes))
    return found
