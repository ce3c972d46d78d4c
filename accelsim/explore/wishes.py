"""What a person decides for the mapper beforehand, from the command line."""

from __future__ import annotations

from collections.abc import Iterable

from accelsim.errors import Place, refuse
from accelsim.load.workload import length


def pairs(texts: Iterable[str] | None, option: str) -> dict[str, str]:
    """The pairs of an option ``NAME=VALUE``; raises InputError where there is no ``=``.

    >>> pairs(["RNV=array_2d"], "--unit")
    {'RNV': 'array_2d'}
    """
    found = {}
    for text in texts or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise refuse(f"{text!r} is no pair", "NAME=VALUE", Place(option))
        if name in found:
            raise refuse(f"{name} is given twice", "one value for each name", Place(option))
        found[name] = value
    return found


def extents(texts: Iterable[str] | None) -> dict[str, int]:
    """The extents of ``--tile PART=N``.

    >>> extents(["M0=1K"])
    {'M0': 1024}
    """
    found = pairs(texts, "--tile")
    return {part: length(value, Place("--tile")) for part, value in found.items()}


def sides(texts: Iterable[str] | None) -> dict[str, tuple[str, str]]:
    """The ranks along rows and columns of ``--spread EINSUM=ROWS/COLUMNS``; either may be empty.

    >>> sides(["QK=E/M", "S=/M"])
    {'QK': ('E', 'M'), 'S': ('', 'M')}
    """
    found = {}
    for einsum, value in pairs(texts, "--spread").items():
        rows, slash, cols = (part.strip() for part in value.partition("/"))
        if not slash:
            allowed = "EINSUM=ROWS/COLUMNS, as QK=E/M"
            raise refuse(f"{value!r} names no rows and columns", allowed, Place("--spread"))
        found[einsum] = rows, cols
    return found
