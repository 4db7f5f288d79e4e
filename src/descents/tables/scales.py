"""The order of levels of text: well-known scales, and numbers with words around them.

An order is returned only if it is certain. Levels have no order if two of them are at the
same position of a scale, or if two scales order them differently (a week begins on Sunday
or on Monday).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from descents.tables.numeral_parts import MINUS

KNOWN_SCALE = "a known scale"
BY_NUMBERS = "its numbers"

# Each line is one position of a scale, from the lowest to the highest. Names that are
# separated by a bar have the same position. X is replaced by the word of the scale.
_DEGREES = """
not at all X|not X
not very X|not so X|not too X|hardly X|barely X
slightly X|a little X|a little bit X|a bit X|of little X|minimally X
somewhat X|partly X|partially X|some X
moderately X|fairly X|reasonably X|rather X
X|mostly X|generally X
very X|quite X|highly X|strongly X|very much X|quite a bit X
extremely X|completely X|totally X|fully X|absolutely X|entirely X|exceptionally X
"""
_ABOUT = (
    "aware",
    "certain",
    "clear",
    "comfortable",
    "concerned",
    "confident",
    "difficult",
    "easy",
    "effective",
    "familiar",
    "happy",
    "helpful",
    "important",
    "influential",
    "interested",
    "likely",
    "motivated",
    "painful",
    "relevant",
    "safe",
    "satisfied",
    "stressful",
    "sure",
    "useful",
    "worried",
)


def _two_sided(negative: str, positive: str, middle: str) -> str:
    """Return a scale from strongly negative through a middle to strongly positive."""
    strong = (
        "extremely W|completely W|totally W|fully W|entirely W|absolutely W|W completely",
        "strongly W|very W|highly W|very strongly W|definitely W|W strongly",
        "W|mostly W|generally W",
        "moderately W|W moderately",
        "somewhat W|slightly W|rather W|tend to W|a little W|W somewhat|W slightly"
        "|mildly W|partly W|partially W|W a little",
    )
    low = [line.replace("W", negative) for line in strong]
    high = [line.replace("W", positive) for line in reversed(strong)]
    return "\n".join([*low, middle, *high])


_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
_NEITHER = "neutral|neither|undecided|no opinion|indifferent|mixed|in between"
_SCALES = [
    _two_sided(
        "disagree",
        "agree",
        f"{_NEITHER}|neither agree nor disagree|neither disagree nor agree"
        "|neither agree or disagree|neutral neither agree nor disagree|unsure|not sure",
    ),
    _two_sided(
        "dissatisfied",
        "satisfied",
        f"{_NEITHER}|neither satisfied nor dissatisfied"
        "|neither dissatisfied nor satisfied",
    ),
    _two_sided(
        "unsatisfied", "satisfied", f"{_NEITHER}|neither satisfied nor unsatisfied"
    ),
    _two_sided(
        "unlikely",
        "likely",
        f"{_NEITHER}|neither likely nor unlikely|neither unlikely nor likely|possible"
        "|unsure|not sure|about as likely as not|even chance|equally likely and unlikely",
    ),
    _two_sided(
        "oppose",
        "support",
        f"{_NEITHER}|neither support nor oppose|neither oppose nor support",
    ),
    _two_sided("oppose", "favor", f"{_NEITHER}|neither favor nor oppose"),
    _two_sided("oppose", "favour", f"{_NEITHER}|neither favour nor oppose"),
    _two_sided("disapprove", "approve", f"{_NEITHER}|neither approve nor disapprove"),
    _two_sided(
        "unimportant", "important", f"{_NEITHER}|neither important nor unimportant"
    ),
    _two_sided("unhappy", "happy", f"{_NEITHER}|neither happy nor unhappy"),
    _two_sided("uncomfortable", "comfortable", _NEITHER),
    _two_sided("difficult", "easy", f"{_NEITHER}|neither easy nor difficult"),
    _two_sided("negative", "positive", _NEITHER),
    "\n".join(
        (
            "much worse|far worse|a lot worse",
            "worse",
            "slightly worse|somewhat worse|a little worse",
            "the same|same|about the same|unchanged|no change",
            "slightly better|somewhat better|a little better",
            "better",
            "much better|far better|a lot better",
        )
    ),
    """
definitely not|certainly not
probably not
maybe|perhaps|possibly|might or might not|unsure|not sure|undecided
probably|probably yes
definitely|certainly|definitely yes
""",
    """
never|at no time|none of the time
almost never|hardly ever|very rarely|nearly never|very seldom
rarely|seldom|infrequently|a little of the time
occasionally|sometimes|some of the time|now and then|from time to time
often|frequently|regularly|a good bit of the time
very often|usually|very frequently|most of the time|mostly|generally|most times
almost always|nearly always|almost every time
always|all of the time|every time|all the time
""",
    """
never
less than once a year
once a year|yearly|annually
a few times a year|several times a year
once a month|monthly
a few times a month|2 3 times a month
once a week|weekly
a few times a week|several times a week
once a day|daily|every day
several times a day|many times a day
""",
    """
not at all
several days
more than half the days
nearly every day
""",
    """
terrible|awful|horrible|abysmal
very poor|very bad
poor|bad|inadequate|unsatisfactory
below average
fair|average|ok|okay|acceptable|satisfactory|adequate|neutral|medium|mediocre|moderate
above average|good
very good|great
excellent|outstanding|exceptional|superb
perfect
""",
    """
none|no|zero|nil
extremely low|lowest
very low|vlow|v low
low|l
medium low|low medium|moderately low|low moderate
medium|med|moderate|mid|middle|intermediate|average|normal|m
medium high|moderately high|high medium|moderate high
high|h
very high|vhigh|v high
extremely high|highest|extreme|critical
""",
    """
xxxs|3xs
xxs|2xs|extra extra small
xs|extra small|very small|tiny
s|small|little
m|medium|med|mid|middle|regular|average|moderate
l|large|big
xl|extra large|very large|very big
xxl|2xl|extra extra large|huge|giant
xxxl|3xl
xxxxl|4xl
""",
    """
none|no|absent|not at all|normal|asymptomatic
very mild|minimal|trace|very slight
mild|slight
mild to moderate|mild moderate
moderate
moderately severe|moderate to severe|moderate severe|marked
severe|serious
very severe|extreme|critical
""",
    """
none|not at all|nothing|no
very little|a tiny bit|hardly at all|hardly|barely
a little|a little bit|slightly|little|a bit|to a small extent
some|somewhat|partly|to some extent
moderately|a moderate amount|fairly|to a moderate extent
a lot|quite a bit|quite a lot|much|to a great extent|very|quite
very much|a great deal|extremely much
completely|extremely|totally|fully|to a very great extent|all
""",
    "none|no\nfew|a few\nsome|several\nmany|a lot|most\nall",
    "worst\nbad\nneutral|average|ok|okay\ngood\nbest",
    "primary|elementary\nsecondary\ntertiary",
    "young\nmiddle aged|middle|adult\nold|elderly|senior",
    "short\nmedium|average|middle\ntall|long",
    "light\nmedium|moderate|average\nheavy",
    "slow\nmedium|moderate|average|normal\nfast",
    "cold|freezing\ncool|chilly\nmild\nwarm\nhot",
    "beginner|novice\nelementary|basic\nintermediate\nadvanced\nexpert",
    "first\nsecond\nthird\nfourth\nfifth\nsixth\nseventh\neighth\nninth\ntenth",
    "zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\ntwelve",
    "i\nii\niii\niv\nv\nvi\nvii\nviii\nix\nx",
    "\n".join(
        f"{name}|{name[:3]}" + "|sept" * (name == "september") for name in _MONTHS
    ),
]
_WEEK = [
    "monday|mon",
    "tuesday|tue|tues",
    "wednesday|wed",
    "thursday|thu|thurs",
    "friday|fri",
    "saturday|sat",
]
# Weeks begin on Monday or on Sunday, so with a Sunday the order is not certain.
_SCALES += ["\n".join([*_WEEK, "sunday|sun"]), "\n".join(["sunday|sun", *_WEEK])]
_SCALES += [_DEGREES.replace("X", word) for word in _ABOUT]

PLACES: list[dict[str, int]] = [
    {
        name: place
        for place, line in enumerate(scale.strip().splitlines())
        for name in line.split("|")
    }
    for scale in _SCALES
]


def arranged(
    levels: Sequence[str], decimal: str | None = None
) -> tuple[tuple[str, ...], str] | None:
    """Return levels of text from the lowest to the highest, and the source of the order.

    None if the order is not certain. Case, spaces and punctuation are ignored, so levels
    that differ only in these have no order.

    Parameters
    ----------
    levels : sequence of str
    decimal : {".", ","}, optional
        The decimal mark of numbers in levels, if it is known.

    Examples
    --------
    >>> arranged(["Agree", "strongly agree", "NEUTRAL"])
    (('NEUTRAL', 'Agree', 'strongly agree'), 'a known scale')
    >>> arranged(["35+", "18-24", "25-34", "under 18"])
    (('under 18', '18-24', '25-34', '35+'), 'its numbers')
    >>> arranged(["1,500 kg", "2 kg", "0,5 kg"], ",")
    (('0,5 kg', '1,500 kg', '2 kg'), 'its numbers')
    >>> arranged(["Mon", "Tue"]), arranged(["Mon", "Tue", "Sun"]), arranged(["a", "b"])
    ((('Mon', 'Tue'), 'a known scale'), None, None)
    """
    words = [_words(level) for level in levels]
    orders = set()
    for scale in PLACES:
        places = [scale.get(word, -1) for word in words]
        if min(places, default=-1) >= 0:
            if len(set(places)) < len(places):
                return None
            place = dict(zip(levels, places, strict=True))
            orders.add(tuple(sorted(levels, key=lambda level: place[level])))
    if len(orders) == 1:
        return orders.pop(), KNOWN_SCALE
    by_numbers = None if orders else _by_numbers(levels, decimal)
    return None if by_numbers is None else (by_numbers, BY_NUMBERS)


def _words(text: str) -> str:
    """Return text in lower case, with single spaces and without punctuation."""
    plain = re.sub(r"['\u2019.]", "", text.casefold())
    return " ".join(re.sub(r"[\W_]+", " ", plain).split())


# Numbers with words around them

_AMOUNT = r"(?:[$\u20ac\u00a3]\s*)?([+-]?\d[\d,]*(?:\.\d+)?)\s*(k(?![a-z])|%)?"
_BELOW = r"(?:<=?|\u2264|under|below|less than|fewer than|up to|at most|younger than)"
_ABOVE = r"(?:>=?|\u2265|over|above|more than|at least|older than)"
_MORE = r"(?:\+|(?:and|or) (?:over|more|above|older|up|greater|higher)|more|plus)"
_NO_UNIT = r"(?![\d.,-])"
_FORMS = [
    (re.compile(rf"{_BELOW}\s*{_AMOUNT}{_NO_UNIT}(.*)"), -1),
    (re.compile(rf"{_ABOVE}\s*{_AMOUNT}{_NO_UNIT}(.*)"), 1),
    (re.compile(rf"{_AMOUNT}\s*{_MORE}(.*)"), 1),
    (re.compile(rf"{_AMOUNT}\s*(?:-|\u2013|\u2014|to)\s*{_AMOUNT}{_NO_UNIT}(.*)"), 0),
    (re.compile(rf"[(\[]\s*{_AMOUNT}\s*[,;]\s*{_AMOUNT}\s*[)\]](.*)"), 0),
    (re.compile(rf"{_AMOUNT}{_NO_UNIT}(.*)"), 0),
]
_AMOUNTS = {
    ".": re.compile(
        r"[+-]?(?:\d+|[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d?(?:,\d\d)+,\d{3})(?:\.\d+)?"
    ),
    ",": re.compile(r"[+-]?(?:\d+|[1-9]\d{0,2}(?:\.\d{3})+)(?:,\d+)?"),
}
"""Numbers with each decimal mark; the other mark is between thousands."""
_WHOLE_HUNDREDS = re.compile(r"(?<![\d.,])\d{3,}(?![\d.,])")
Key = tuple[float, float, int]
"""The ends of a range, and its side."""
_LABELLED = re.compile(r"[(\[]?(\d+)[)\]]?\s*[-\u2013:.=)]\s*(\D+)")
_COUNTED = re.compile(
    r"(grade|level|stage|quarter|q|week|wk|year|yr|month|day|phase|wave|step|degree|score"
    r"|rank|decile|quartile|quintile|tercile|percentile|tier|round|semester|term)"
    r"[\s:#._-]*(\d+)"
)
_NO_ANSWER = re.compile(
    r"\b(don'?t know|do not know|refused?|no answer|not applicable|n/?a|missing|unknown"
    r"|other|prefer not|not sure|unsure|undisclosed|none of)",
)


def _by_numbers(levels: Sequence[str], decimal: str | None) -> tuple[str, ...] | None:
    """Return levels in the order of the numbers in them, if the numbers are distinct."""
    texts = [MINUS.sub("-", " ".join(level.casefold().split())) for level in levels]
    if not texts or any(map(_NO_ANSWER.search, texts)):
        return None
    ways: tuple[list[Any] | None, ...] = (
        None if decimal is None else _keys(texts, decimal),
        _brackets(texts),
        _labels(texts),
        _ranks(texts),
    )
    for keys in ways:
        if keys is not None and len(set(keys)) == len(keys):
            place = dict(zip(levels, keys, strict=True))
            return tuple(sorted(levels, key=lambda level: place[level]))
    return None


def _brackets(texts: Sequence[str]) -> list[Key] | None:
    """Return keys of numbers and ranges with one unit: 18-24, under 18, 65+, 3 stars.

    A comma is a decimal mark where it cannot be between thousands, and a thousands mark
    where it cannot be decimal. If both are possible and give different orders, whole
    numbers of three digits show that it is between thousands: 500, 1,000. A point is a
    decimal mark, unless such numbers make it doubtful: 500 kg, 1.000 kg.
    """
    points, commas = _keys(texts, "."), _keys(texts, ",")
    if points is None or commas is None or _ranked(points) == _ranked(commas):
        return commas if points is None else points
    hundreds = any(map(_WHOLE_HUNDREDS.search, texts))
    return points if hundreds == any("," in text for text in texts) else None


def _ranked(keys: Sequence[Key]) -> list[int]:
    """Return the positions of keys in rising order."""
    return sorted(range(len(keys)), key=lambda place: keys[place])


def _keys(texts: Sequence[str], decimal: str) -> list[Key] | None:
    """Return the keys of numbers and ranges with this decimal mark, None if they have none."""
    keys, units = [], set()
    for text in texts:
        bracket = _bracket(text, decimal)
        if bracket is None:
            return None
        keys.append(bracket[0])
        units.add(bracket[1])
    apart = all(
        a[1] <= b[0] or (a[0] == b[0] and a[2] < b[2])
        for a, b in pairwise(sorted(keys))
    )
    return keys if apart and len(units - {""}) <= 1 else None


def _bracket(text: str, decimal: str) -> tuple[Key, str] | None:
    """Return the ends of a range, its side (-1 below, 1 above, else 0), and the unit."""
    for form, side in _FORMS:
        match = form.fullmatch(text)
        if match is not None:
            *amounts, unit = match.groups()
            numbers = []
            for given, mark in zip(amounts[::2], amounts[1::2], strict=True):
                digits = given.removesuffix(",")
                if not _AMOUNTS[decimal].fullmatch(digits):
                    return None
                thousands = "," if decimal == "." else "."
                number = float(digits.replace(thousands, "").replace(decimal, "."))
                numbers.append(number * (1000 if mark == "k" else 1))
            unit = unit.strip()
            unit = unit.removesuffix("s") if len(unit) > 1 else unit
            rising = numbers == sorted(numbers)
            return ((numbers[0], numbers[-1], side), unit) if rising else None
    return None


def _labels(texts: Sequence[str]) -> list[int] | None:
    """Return the numbers of labels such as 1 - never, 2 - often."""
    matches = [_LABELLED.fullmatch(text) for text in texts]
    return [int(match[1]) for match in matches if match] if all(matches) else None


def _ranks(texts: Sequence[str]) -> list[int] | None:
    """Return the numbers of levels such as grade 1, grade 2."""
    matches = [_COUNTED.fullmatch(text) for text in texts]
    if not all(matches) or len({match[1] for match in matches if match}) > 1:
        return None
    return [int(match[2]) for match in matches if match]
