"""Quantities as people write them, read at the door and written at the exit.

Inside accelsim everything is in SI units, with bytes for information:
seconds, joules, bytes, hertz, watts, square metres.  Decimal and binary
prefixes are told apart (``GB`` is 10^9 bytes, ``GiB`` is 2^30), and a number
without a unit is refused wherever a dimension is expected.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final, Literal

from accelsim.errors import Place, refuse

Dimension = Literal[
    "bytes", "bytes_per_s", "hertz", "joules", "seconds", "watts", "square_metres", "count"
]

_DECIMAL: Final = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_SMALL: Final = {"m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18}

#: A unit's size: it is worth 10**first * 2**second of the dimension's SI unit.
_Scale = tuple[int, int]


def _information(suffix: str = "") -> dict[str, _Scale]:
    """Units of information, or of its rate: bytes and bits with decimal and binary prefixes."""
    found: dict[str, _Scale] = {}
    for unit, eighth in (("B", 0), ("bit", -3)):
        found |= {f"{p}{unit}{suffix}": (ten, eighth) for p, ten in _DECIMAL.items()}
        found |= {f"{p}{unit}{suffix}": (0, two + eighth) for p, two in _BINARY.items()}
    return found


def _metric(unit: str, prefixes: dict[str, int], power: int = 1) -> dict[str, _Scale]:
    """One SI unit (or its square) with decimal prefixes."""
    return {f"{p}{unit}": (ten * power, 0) for p, ten in prefixes.items()}


_UNITS: Final[dict[str, dict[str, _Scale]]] = {
    "bytes": _information(),
    "bytes_per_s": _information("/s"),
    "hertz": _metric("Hz", _DECIMAL),
    "joules": _metric("J", _SMALL | {"": 0, "k": 3, "M": 6}),
    "seconds": _metric("s", _SMALL | {"": 0}),
    "watts": _metric("W", _SMALL | {"": 0, "k": 3, "M": 6}),
    "square_metres": _metric("m2", {"n": -9, "u": -6, "m": -3, "c": -2, "": 0}, power=2),
    "count": {p: (ten, 0) for p, ten in _DECIMAL.items()}
    | {p: (0, two) for p, two in _BINARY.items()},
}
#: Units that ``show`` writes, where that is not all of them.
_SHOWN: Final = {
    "bytes": [p + "B" for p in (*_DECIMAL, *_BINARY)],
    "bytes_per_s": [p + "B/s" for p in (*_DECIMAL, *_BINARY)],
    "square_metres": ["m2", "mm2", "um2"],
    "count": [""],
}
#: An example for each dimension, for messages.
EXAMPLES: Final[dict[str, str]] = {
    "bytes": "228 KiB, 16 MB, 16 bit",
    "bytes_per_s": "3.35 TB/s, 400 GiB/s",
    "hertz": "940 MHz",
    "joules": "249.6 pJ",
    "seconds": "10 us",
    "watts": "700 W",
    "square_metres": "4255.9 um2",
    "count": "256, 64Ki",
}

_QUANTITY: Final = re.compile(
    r"\s*([+-]?)(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,6}))?\s*([^\s\d]\S*)?\s*", re.ASCII
)
_SPELLINGS: Final = str.maketrans({"µ": "u", "μ": "u", "²": "2", "^": None})


def parse(text: object, dimension: Dimension, place: Place | None = None) -> float:
    """The quantity in ``text``, in the SI unit of ``dimension`` (bytes for information).

    ``text`` is what stood in the document: a string such as ``"228 KiB"``, or
    a bare number, which only a ``count`` may be.  Zero is allowed, a negative
    quantity is not.  Raises ``InputError`` at ``place``.

    >>> parse("3.35 TB/s", "bytes_per_s"), parse("228 KiB", "bytes"), parse("16 bit", "bytes")
    (3350000000000.0, 233472.0, 2.0)
    """
    units = _UNITS[dimension]
    allowed = f"a number with a unit of {dimension}, for example {EXAMPLES[dimension]}"
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise refuse(f"not a quantity: {str(text)[:60]!r}", allowed, place)
    huge = isinstance(text, int) and text.bit_length() > 1024
    written = "1e999" if huge else str(text)
    found = _QUANTITY.fullmatch(written)
    if found is None:
        raise refuse(f"not a quantity: {written[:60]!r}", allowed, place)
    sign, digits, exponent, spelled = found.groups()
    unit = (spelled or "").translate(_SPELLINGS)
    if unit not in units:
        raise refuse(*_unknown(written.strip(), unit, dimension), place)
    ten, two = units[unit]
    try:
        value = math.ldexp(float(f"{digits}e{int(exponent or 0) + ten}"), two)
    except OverflowError:
        value = math.inf
    if math.isinf(value):
        raise refuse(f"too large a quantity: {written[:60]!r}", allowed, place)
    if sign == "-" and value:
        raise refuse(f"a negative quantity: {written.strip()!r}", f"0 or more {dimension}", place)
    return value


def _unknown(written: str, unit: str, dimension: str) -> tuple[str, str]:
    """Message and allowance for a unit that the dimension does not have."""
    units = _UNITS[dimension]
    if not unit:
        missing = f"a number without a unit: {written[:60]!r}"
        return missing, f"{written[:60]} with a unit, for example {EXAMPLES[dimension]}"
    others = sorted(d for d, has in _UNITS.items() if unit in has and d != "count")
    what = f"{unit[:60]!r} is a unit of {others[0]}, not of {dimension}" if others else ""
    same = [u for u in units if u.lower() == unit.lower()]
    same += [f"{unit[0]}i{u[1:]}" for u in same if len(u) > 1 and f"{unit[0]}i{u[1:]}" in units]
    same += ["Ki"] if dimension == "count" and unit == "K" else []
    names = same or [u for u in units if u]
    return what or f"unknown unit {unit[:60]!r} of {dimension}", ", ".join(names)


def show(value: float, dimension: Dimension, digits: int | None = None) -> str:
    """``value`` (SI) with the unit that reads best; ``parse`` of it gives ``value`` back exactly.

    With ``digits`` the number is rounded to so many significant digits, for
    people.  Information is shown in the binary unit where that is shorter.

    >>> show(233472, "bytes"), show(3.35e12, "bytes_per_s"), show(940e6, "hertz")
    ('228 KiB', '3.35 TB/s', '940 MHz')
    >>> show(0.0020131404, "seconds", digits=4)
    '2.013 ms'
    """
    value = float(value)
    units = {u: _UNITS[dimension][u] for u in _SHOWN.get(dimension, _UNITS[dimension])}
    decimal = sorted((ten, u) for u, (ten, two) in units.items() if not two)
    if not value or not math.isfinite(value):
        unit = next(u for ten, u in decimal if ten == 0)
        return f"{value:g} {unit}".strip()
    texts = [_spelled(value, decimal, None)]
    shown = [_spelled(value, decimal, digits)]
    filled = [(two, u) for u, (_, two) in units.items() if two and abs(value) >= 2.0**two]
    if filled and value.is_integer():
        two, unit = max(filled)
        number = Decimal(repr(math.ldexp(value, -two)))
        texts.append(f"{_number(number, None)} {unit}")
        shown.append(f"{_number(number, digits)} {unit}")
    return shown[texts.index(min(texts, key=len))]


def _spelled(value: float, decimal: list[tuple[int, str]], digits: int | None) -> str:
    """``value`` in the largest of the decimal units that it fills, else in the smallest."""
    exact = _rounded(Decimal(repr(value)), digits)
    ten, unit = next((d for d in reversed(decimal) if exact.adjusted() >= d[0]), decimal[0])
    return f"{_number(exact.scaleb(-ten), None)} {unit}".strip()


def _rounded(exact: Decimal, digits: int | None) -> Decimal:
    """``exact`` to so many significant digits."""
    return exact if digits is None else Decimal(f"{exact:.{max(digits - 1, 0)}e}")


def _number(exact: Decimal, digits: int | None) -> str:
    """A decimal number without trailing zeros, in positional form while that is readable."""
    exact = _rounded(exact, digits).normalize()
    return f"{exact:f}" if -9 <= exact.adjusted() <= 15 else f"{exact:e}"
