"""Seeded streams of random numbers: the same for start k whatever else is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from descents.validation import seed_number

STREAMS = {"start": 0, "order": 1, "dropout": 2, "split": 3}
"""Streams of random numbers that never meet: initial points, the order of
mini-batches, dropout, and the split of rows."""


def stream(seed: int, name: str, *counters: int) -> np.random.Generator:
    """Return the generator of one stream, a function of its arguments alone.

    Philox, a counter-based generator [1]_, keyed by a seed sequence of (seed; stream,
    counters): every bit of the seed counts, and start k has the same numbers whatever
    else is drawn.

    Parameters
    ----------
    seed : int
        Of any size, at least 0.
    name : {"start", "order", "dropout", "split"}
    *counters : int
        Usually the number of the start; then, for what is drawn at every step, the
        step.

    References
    ----------
    .. [1] Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as
       1, 2, 3", SC11.

    Examples
    --------
    >>> stream(0, "start", 7).random() == stream(0, "start", 7).random()
    True
    >>> stream(5, "start", 0).random() == stream(5 + 2**32, "start", 0).random()
    False
    """
    key = (STREAMS[name], *(int(counter) for counter in counters))
    sequence = np.random.SeedSequence(seed_number(seed), spawn_key=key)
    return np.random.Generator(np.random.Philox(sequence))


BLOCK_ROWS = 2**16
"""Rows are drawn in blocks of this many, each from numbers of its own."""


def drawn_in_blocks(
    generator: np.random.Generator,
    rows: int,
    place: slice,
    width: int,
    *,
    normal: bool = False,
) -> np.ndarray:
    """Return random numbers for some rows of a table, which are those of any other part.

    The numbers of block b are the generator's, b jumps of 2**128 numbers ahead. They depend
    on the generator and on b alone, so that a process draws only the blocks of its rows.
    The first block is always drawn, because what is drawn after it comes from the same
    numbers.

    Parameters
    ----------
    generator : numpy Generator
        With Philox. After the call, it is behind the first block.
    rows : int
        Number of rows of the table.
    place : slice
        The rows that are returned.
    width : int
        Numbers of each row.
    normal : bool
        Whether numbers are normal, or uniform on [0, 1).

    Examples
    --------
    >>> whole = drawn_in_blocks(stream(0, "start", 0), 70_000, slice(0, 70_000), 1)
    >>> part = drawn_in_blocks(stream(0, "start", 0), 70_000, slice(65_000, 66_000), 1)
    >>> bool((part == whole[65_000:66_000]).all())
    True
    """

    def block(number: int, drawing: np.random.Generator) -> np.ndarray:
        shape = (min(BLOCK_ROWS, rows - number * BLOCK_ROWS), width)
        return drawing.standard_normal(shape) if normal else drawing.random(shape)

    first, stop = place.start, place.stop
    if rows <= BLOCK_ROWS:
        return block(0, generator)[first:stop]
    numbers = range(first // BLOCK_ROWS, -(-stop // BLOCK_ROWS))
    bits = cast("np.random.Philox", generator.bit_generator)
    ahead = {k: np.random.Generator(bits.jumped(k)) for k in numbers if k}
    opening = block(0, generator)
    found: np.ndarray = np.empty((stop - first, width))
    for number in numbers:
        drawn = block(number, ahead[number]) if number else opening
        begin = number * BLOCK_ROWS
        low, high = max(first, begin), min(stop, begin + len(drawn))
        found[low - first : high - first] = drawn[low - begin : high - begin]
    return found


def streams(
    seed: int, name: str, numbers: Sequence[int] | np.ndarray, *counters: int
) -> Iterator[np.random.Generator]:
    """Give the generators of ``stream(seed, name, number, *counters)``, one a number.

    The same bits, in a tenth of the time: the keys of all are computed together, by the
    hash of `numpy.random.SeedSequence`, which numpy promises not to change [1]_.

    References
    ----------
    .. [1] O'Neill (2015), "Developing a seed_seq alternative"; numpy's NEP 19.

    Examples
    --------
    >>> [one] = streams(0, "start", [7])
    >>> one.random() == stream(0, "start", 7).random()
    True
    """
    given = [int(number) for number in numbers]
    if max([*given, *counters, 0]) > WORD:  # of several words
        for number in given:
            yield stream(seed, name, number, *counters)
        return
    seed = seed_number(seed)
    words = [seed >> shift & WORD for shift in range(0, seed.bit_length(), 32)]
    words += [0] * (4 - len(words))
    columns = [*words, STREAMS[name], given, *counters]
    entropy = [np.asarray(column, np.uint32).reshape(-1) for column in columns]
    for key in _hashed(entropy):
        yield np.random.Generator(np.random.Philox(_Key(key)))  # type: ignore[arg-type]


WORD = 2**32 - 1
Words = NDArray[np.uint32]


class _Key(np.random.bit_generator.ISeedSequence):
    """A seed sequence whose state is known."""

    def __init__(self, state: np.ndarray) -> None:
        self.state = state

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint32) -> np.ndarray:
        return self.state


def _hashed(entropy: list[Words]) -> np.ndarray:
    """Return two 64-bit words of the state of n seed sequences, shape (n, 2).

    Each of the 32-bit words of their entropy, four or more, is an array of n, or of one
    that all share.
    """
    constant = 0x43B0D7E5

    def hashed(value: Words, factor: int) -> Words:
        nonlocal constant
        value = value ^ np.uint32(constant)
        constant = constant * factor & WORD
        value *= np.uint32(constant)
        return value ^ (value >> np.uint32(16))

    def mixed(x: Words, y: Words) -> Words:
        value: Words = np.uint32(0xCA01F9DD) * x - np.uint32(0x4973F715) * y
        return value ^ (value >> np.uint32(16))

    pool = [hashed(word, 0x931E8875) for word in entropy[:4]]
    for source in range(4):
        for place in range(4):
            if source != place:
                pool[place] = mixed(pool[place], hashed(pool[source], 0x931E8875))
    for word in entropy[4:]:
        for place in range(4):
            pool[place] = mixed(pool[place], hashed(word, 0x931E8875))
    constant = 0x8B51F9DD
    found = [hashed(word, 0x58F38DED).astype(np.uint64) for word in pool]
    shift = np.uint64(32)
    return np.stack([found[0] | found[1] << shift, found[2] | found[3] << shift], 1)
