"""Einsums that run together: which ranks their shared loops may be over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from accelsim.analysis.masks import Masks, masks, met
from accelsim.analysis.statement import Program, Projection, Statement


@dataclass(frozen=True, slots=True)
class Loops:
    """The shared loops of a group: outer ranks, the tile rank, the stream rank; some may be absent.

    Ranks that the same accesses have are one: their loops are over the product.
    """

    outer: tuple[tuple[str, ...], ...]
    tile: tuple[str, ...]
    stream: str


class Group:
    """Statements that run together; ``wanted``: tensors that they write and others read.

    >>> from accelsim.analysis.statement import program
    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> softmax = program(bind(load_cascade("softmax"), {"B": 2, "M": 50}))
    >>> group = Group(softmax, softmax.statements, frozenset({"Y"}))
    >>> sorted(group.inner), group.floor, next(group.loops())
    (['GM', 'SD', 'SN'], 200.0, Loops(outer=(), tile=('b',), stream='m'))
    """

    def __init__(
        self, program: Program, statements: Sequence[Statement], wanted: frozenset[str]
    ) -> None:
        self.program = program
        self.statements = tuple(statements)
        self.written = {s.output.tensor for s in statements}
        self.wanted = wanted & self.written
        self.read = {r.tensor for s in statements for r in s.reads}
        self.inner = self.written & self.read
        self.accesses = [a for s in statements for a in (s.output, *s.reads)]
        #: variables that a selection of the group lists along: no shared loop can be over them
        self.selected = frozenset(s.einsum.selects for s in statements if s.einsum.selects)
        self.sizes = {v: n for s in statements for v, n in s.sizes.items()}
        self.sizes |= {v: program.sizes[v] for v in self.selected}
        self._masks: dict[str, Masks] = {}
        self._met: dict[tuple[object, ...], int] = {}
        self.mixed = {v for a in self.accesses for row in a.rows if len(row) > 1 for v, _ in row}

    @cached_property
    def own(self) -> dict[str, Projection]:
        """For each tensor the access with most ranks: its write, or its largest read."""
        found: dict[str, Projection] = {}
        size: dict[str, tuple[int, int]] = {}
        for a in self.accesses:
            its = len(a.variables), self.program.span(a.variables)
            if a.tensor not in found or its > size[a.tensor]:
                found[a.tensor], size[a.tensor] = a, its
        return found

    def masks_of(self, tensor: str) -> Masks:
        """The masks of all statements that read a tensor."""
        if tensor not in self._masks:
            readers = [
                s.einsum for s in self.statements if any(a.tensor == tensor for a in s.reads)
            ]
            self._masks[tensor] = masks(self.program.problem, readers)
        return self._masks[tensor]

    def met(self, tensor: str, box: Mapping[str, int], tiles: Mapping[str, int]) -> int:
        """Pairs of an element of ``box`` and a tile of each rank that the tensor's masks leave."""
        key = tensor, tuple(box), tuple(tiles.items())
        if key not in self._met:
            its = self.masks_of(tensor)
            self._met[key] = met(self.program.problem, its, box, tiles, self.sizes)
        return self._met[key]

    @cached_property
    def floor(self) -> float:
        """Words that every mapping of the group moves: what enters or leaves it, once.

        Only tensors with plain accesses: of a window a mapping may read a part.
        """
        mixed = {a.tensor for a in self.accesses if not a.plain}
        outer = (self.written | self.read) - self.inner - mixed
        return float(sum(self.program.element_count(t) for t in outer | (self.inner & self.wanted)))

    def loops(self) -> Iterator[Loops]:
        """Choices of shared loops: a tile rank among the parallel ones, a stream rank or none."""
        if any(a.dull and a.tensor in self.inner for a in self.accesses):
            return
        kinds: dict[object, list[str]] = {}
        for v in self.sizes:
            if self._parallel(v):
                members = tuple(v in a.variables for a in self.accesses)
                kinds.setdefault((members, v if v in self.mixed else ""), []).append(v)
        parallel = [tuple(vs) for vs in kinds.values()]
        everywhere = [
            vs
            for vs in parallel
            if vs[0] not in self.mixed and all(vs[0] in a.variables for a in self.accesses)
        ]
        others = [vs for vs in parallel if vs not in everywhere]
        others.sort(key=lambda vs: sum(vs[0] in a.variables for a in self.accesses), reverse=True)
        streams = [v for v in self.sizes if self._aligned(v) and self._shared(v)]
        tiles = others or everywhere[:1]
        for tile in [*tiles, ()]:
            outer = tuple(vs for vs in everywhere if vs != tile)
            rest = tuple(vs for vs in others if vs != tile)
            for stream in [*streams, ""]:
                if stream in tile or any(stream in vs for vs in outer):
                    continue
                inside = tuple(vs for vs in rest if stream not in vs)
                yield Loops(outer + (inside if tile else ()), tile, stream)
                if inside and tile:
                    yield Loops(outer, tile, stream)

    def _shared(self, v: str) -> bool:
        """Whether an intermediate of the group has v, or every statement, if it has none."""
        if not self.inner:
            return all(v in s.sizes for s in self.statements)
        return any(v in a.variables for a in self.accesses if a.tensor in self.inner)

    def _aligned(self, v: str) -> bool:
        """Whether every access to an intermediate of the group is at its own coordinate of v.

        Slots of a recurrence along v, and its last slot, are: they go with the stream.
        """
        if v in self.selected:
            return False
        for t in self.inner:
            writers = self.program.writers[t]
            own = any(v in w.output.variables for w in writers)
            slots = any(v in w.output.shifted for w in writers)
            for a in self.accesses:
                if a.tensor != t:
                    continue
                if any(len(row) > 1 and v in dict(row) for row in a.rows):
                    return False
                if own and v not in a.variables and not (slots and (a.last or self._slot(a, t))):
                    return False
                if not own and v in a.variables:
                    return False
                if v in a.shifted and not slots:
                    return False
        return True

    def _slot(self, a: Projection, tensor: str) -> bool:
        """Whether an access is the write of a constant slot."""
        return any(a is s.output for s in self.statements) and a.tensor == tensor

    def _parallel(self, v: str) -> bool:
        """Whether indices of v may be worked on one after another, each to its end."""
        if not self._aligned(v) or any(v in a.shifted for a in self.accesses):
            return False
        for s in self.statements:
            if v in s.sizes and v not in s.output.variables and s.output.tensor in self.read:
                return False
        return True
