"""How a tensor is stored: bits for an element with all that goes with it, and how many are read.

A format has parts: *slices* (each for a share of the elements: salient
channels, tokens of high precision), *planes* (each for every element: most
and least significant bits, the latter read only sometimes) or *copies* (the
whole tensor several times over: keys in 4, 8 and 16 bits).  Scales, zero
points, masks and indices are ``Metadata``: so many bits for each group of
elements.  Nothing is left out of ``bits_per_element``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from accelsim.errors import one_of, refuse

#: What the parts of a format are.
FORMS: Final = ("slices", "planes", "copies")


@dataclass(frozen=True, slots=True)
class Metadata:
    """``bits`` for each ``group`` elements: of a scale, a zero point, a mask, an index.

    ``group``: a number, or the name of a size that the format does not know,
    such as how many rows a channel has.
    """

    name: str
    bits: float
    group: int | str


@dataclass(frozen=True, slots=True)
class Part:
    """A slice, plane or copy: ``bits`` for an element of the ``share`` that it holds.

    ``read``: how much of it is read when all of the tensor is (1: all).
    """

    name: str
    bits: float
    share: float = 1.0
    read: float = 1.0
    metadata: tuple[Metadata, ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """A storage format with its parts, and the metadata of the tensor as a whole."""

    name: str
    parts: tuple[Part, ...]
    metadata: tuple[Metadata, ...] = ()
    form: str = ""
    source: str = ""
    about: str = ""

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the sizes that groups of its metadata are given in, sorted."""
        every = [m for p in self.parts for m in p.metadata] + list(self.metadata)
        return tuple(sorted({m.group for m in every if isinstance(m.group, str)}))


@dataclass(frozen=True, slots=True)
class Bits:
    """One line of a breakdown: bits for an element of the tensor, ``stored`` and ``read``."""

    name: str
    stored: float
    read: float


def breakdown(format: Format, sizes: Mapping[str, int] | None = None) -> tuple[Bits, ...]:
    """Bits for an element of the tensor, one line for each part and each of its metadata.

    ``sizes`` gives those that groups are named after.  Raises InputError where
    one is missing.

    >>> scale = Metadata("scale", 16, 128)
    >>> [(b.name, b.stored) for b in breakdown(Format("int4", (Part("", 4, 1, 1, (scale,)),)))]
    [('elements', 4), ('scale', 0.125)]
    """
    known = sizes or {}
    lacking = [name for name in format.sizes if name not in known]
    if lacking:
        raise refuse(
            f"the bits of format {format.name} depend on {one_of(lacking)}",
            one_of(f"{name}=<size>" for name in lacking),
        )
    return tuple(_lines(format, known))


def _lines(format: Format, sizes: Mapping[str, int]) -> Iterator[Bits]:
    for part in format.parts:
        name = part.name or "elements"
        yield Bits(name, part.share * part.bits, part.share * part.read * part.bits)
        for m in part.metadata:
            own = part.share * m.bits / _group(m, sizes)
            yield Bits(f"{part.name}: {m.name}" if part.name else m.name, own, own * part.read)
    for m in format.metadata:
        own = m.bits / _group(m, sizes)
        yield Bits(m.name, own, own)


def _group(metadata: Metadata, sizes: Mapping[str, int]) -> int:
    return sizes[metadata.group] if isinstance(metadata.group, str) else metadata.group


def bits_per_element(format: Format, sizes: Mapping[str, int] | None = None) -> float:
    """Bits that are stored for an element, all metadata included.

    Four bits with a scale of 16 and a zero point of 4 bits for each 128, as
    GPTQ stores weights (Frantar et al., 2023):

    >>> group = (Metadata("scale", 16, 128), Metadata("zero", 4, 128))
    >>> bits_per_element(Format("int4", (Part("", 4),), group))
    4.15625
    """
    return sum(b.stored for b in breakdown(format, sizes))


def bits_read(format: Format, sizes: Mapping[str, int] | None = None) -> float:
    """Bits that are read for an element when all of the tensor is read once.

    >>> planes = (Part("high", 8), Part("low", 4, read=0.25))
    >>> bits_read(Format("split", planes, form="planes"))
    9.0
    """
    return sum(b.read for b in breakdown(format, sizes))
