"""Numbers as people read them: with a unit, in per cent, as a ratio, rounded."""

from __future__ import annotations

from typing import Final

from accelsim import units

#: Significant digits shown to people; ``--json`` has them all.
DIGITS: Final = 4
BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def amount(value: float | None, dimension: units.Dimension) -> str:
    """A quantity for people, in the unit that reads best; a dash where there is none.

    Bytes are always in binary units, so that a column of them can be compared.

    >>> amount(0.0020131404, "seconds"), amount(None, "joules"), amount(8.388e12, "bytes")
    ('2.013 ms', '-', '7.629 TiB')
    """
    if value is None:
        return "-"
    if dimension != "bytes":
        return units.show(value, dimension, digits=DIGITS)
    power = 0
    while abs(value) >= 1024 and power < len(BINARY) - 1:
        value, power = value / 1024, power + 1
    return f"{value:.{DIGITS}g} {BINARY[power]}"


def ratio(value: float | None) -> str:
    """A speedup or another ratio.

    >>> ratio(6.7194), ratio(134.2), ratio(None)
    ('6.72x', '134x', '-')
    """
    if value is None:
        return "-"
    return f"{value:.0f}x" if value >= 100 else f"{value:.2f}x"


def percent(value: float | None) -> str:
    """A share between 0 and 1 in per cent.

    >>> percent(0.787), percent(1.0), percent(None)
    ('78.7 %', '100.0 %', '-')
    """
    return "-" if value is None else f"{100 * value:.1f} %"


def deviation(value: float | None) -> str:
    """A relative error: exact zeros and rounding apart from what can be seen.

    >>> deviation(0.0), deviation(3e-9), deviation(0.0123)
    ('0', '3.0e-09', '1.23 %')
    """
    if value is None:
        return "-"
    if not value:
        return "0"
    return f"{100 * value:.2f} %" if abs(value) >= 1e-4 else f"{value:.1e}"
