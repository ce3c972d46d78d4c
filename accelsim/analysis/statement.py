"""An Einsum as the traffic analyses see it: an iteration space and projections of it.

A ``Problem``'s Einsums become ``Statement``s: every index a linear row over
the statement's variables, split ranks as their parts, head groups taken apart
(``h // G`` with h = hk*G + g reads hk), so that most accesses are plain
projections onto a subset of the variables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from accelsim.analysis.graph import dependence_graph, strong_components
from accelsim.analysis.needed import fewest
from accelsim.analysis.projection import Projection, Row, head_groups, projection
from accelsim.ir.cascade import Einsum, rank_of
from accelsim.ir.problem import Problem

__all__ = ["Program", "Projection", "Row", "Statement", "program"]


@dataclass(frozen=True)
class Statement:
    """An Einsum with sizes: ``number`` in the text, output and reads as projections, points."""

    number: int
    name: str
    einsum: Einsum
    sizes: Mapping[str, int]
    output: Projection
    reads: tuple[Projection, ...]
    points: int

    @cached_property
    def reduced(self) -> frozenset[str]:
        """Variables that the output does not have."""
        return frozenset(self.sizes) - self.output.variables

    @property
    def dense(self) -> int:
        """Points as if nothing were masked."""
        return prod(self.sizes.values())

    @property
    def masked(self) -> bool:
        """Whether a mask, its own or inherited, takes points away (or may)."""
        return self.points != self.dense or bool(self.einsum.where)

    @cached_property
    def contracts(self) -> bool:
        """Whether it reduces over tensors one of which lacks a rank of the result: a product."""
        return any(
            self.output.variables - r.variables and r.variables & self.reduced for r in self.reads
        )

    def span(self, variables: Iterable[str]) -> int:
        """The product of the sizes of variables."""
        return prod(self.sizes[v] for v in variables)

    def __hash__(self) -> int:
        return hash((self.number, self.name))


@dataclass(frozen=True)
class Program:
    """The statements that the outputs of a problem need, in text order."""

    problem: Problem
    statements: tuple[Statement, ...]

    @cached_property
    def writers(self) -> dict[str, tuple[Statement, ...]]:
        """For each tensor the statements that write it."""
        found: dict[str, tuple[Statement, ...]] = {}
        for s in self.statements:
            found[s.output.tensor] = (*found.get(s.output.tensor, ()), s)
        return found

    @cached_property
    def readers(self) -> dict[str, tuple[Statement, ...]]:
        """For each tensor the statements that read it, each once."""
        found: dict[str, tuple[Statement, ...]] = {}
        for s in self.statements:
            for t in dict.fromkeys(r.tensor for r in s.reads):
                found[t] = (*found.get(t, ()), s)
        return found

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Input tensors that are read, in the order of their declaration."""
        return tuple(t.name for t in self.problem.cascade.inputs if t.name in self.readers)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Output tensors (what nobody reads, where the cascade names none)."""
        named = tuple(t for t in self.problem.cascade.outputs if t in self.writers)
        return named or tuple(t for t in self.writers if t not in self.readers)

    @cached_property
    def touched(self) -> dict[str, int]:
        """Elements of each input that some needed point reads: never more than there are.

        Exact without masks; under affine masks at least what is counted here
        is read (``distinct``), which is all of it for causal masks and
        windows.
        """
        found = dict.fromkeys(self.inputs, 0)
        for s in self.statements:
            for r in s.reads:
                if r.tensor in found:
                    found[r.tensor] = max(found[r.tensor], self.distinct(s, r))
        return {t: min(n, self.problem.tensor_elements(t)) for t, n in found.items()}

    @cached_property
    def written(self) -> dict[str, int]:
        """Elements of each output that are defined, every slot of a recurrence."""
        return {t: self.problem.defined_elements(t) for t in self.outputs}

    @property
    def compulsory(self) -> int:
        """Elements that every schedule moves: inputs that are read once, outputs once."""
        return sum(self.touched.values()) + sum(self.written.values())

    @cached_property
    def cycles(self) -> dict[str, frozenset[str]]:
        """For each tensor of a recurrence the tensors of its cycle."""
        names = list(self.writers)
        number = {t: n for n, t in enumerate(names)}
        follow: list[list[int]] = [[] for _ in names]
        own = set()
        for s in self.statements:
            for read in s.reads:
                if read.tensor in number:
                    follow[number[read.tensor]].append(number[s.output.tensor])
                    if read.tensor == s.output.tensor:
                        own.add(read.tensor)
        found = {}
        for component in strong_components(follow):
            tensors = frozenset(names[n] for n in component)
            if len(tensors) > 1 or tensors <= own:
                found.update(dict.fromkeys(tensors, tensors))
        return found

    def element_count(self, tensor: str) -> int:
        """Elements of a tensor; of an input those that are read, of an output those defined.

        Of one that is gathered from no fewer than are read: all of it, or one
        for each point of the index tensors if that is less.
        """
        reads = {r for s in self.readers.get(tensor, ()) for r in s.reads if r.tensor == tensor}
        if any(r.looked for r in reads):
            most = sum(self.span(r.variables | r.looked) for r in reads)
            return min(most, self.problem.tensor_elements(tensor))
        if tensor in self.touched:
            return self.touched[tensor]
        if tensor not in self._defined:
            self._defined[tensor] = self.problem.defined_elements(tensor)
        return self._defined[tensor]

    @cached_property
    def _defined(self) -> dict[str, int]:
        return {}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The size of every variable of every statement, and of those selections list along."""
        found = {v: n for s in self.statements for v, n in s.sizes.items()}
        made = {s.einsum.selects for s in self.statements} - {""}
        made |= {v for s in self.statements for r in s.reads for v in r.looked}
        return {v: self.problem.extent(rank_of(v)) for v in made - found.keys()} | found

    def span(self, variables: Iterable[str]) -> int:
        """The product of the sizes of variables."""
        return prod(self.sizes[v] for v in variables)

    def single_writer(self, tensor: str) -> Statement | None:
        """The statement that writes a tensor, if one alone does and it reads nothing it writes."""
        writers = self.writers.get(tensor, ())
        if len(writers) != 1 or any(r.tensor == tensor for r in writers[0].reads):
            return None
        return writers[0]

    def distinct(self, s: Statement, read: Projection, path: Sequence[Einsum] = ()) -> int:
        """Distinct elements that the points of a statement read through an access, or fewer.

        ``path``: only points that the masks of these Einsums leave too.

        Without a mask rows over disjoint variables multiply, and the values
        of one row are counted.  With one, all variables but one a row are
        given some value: the points that are left are some of the points, and
        different ones read different elements.
        """
        predicates = dict.fromkeys(p for e in (s.einsum, *path) for p in self.problem.predicates(e))
        if not predicates and not read.dull:
            counts = [_values(block, s.sizes) for block in _blocks(read.rows)]
            if all(n is not None for n in counts):
                return prod(n for n in counts if n is not None)
        kept = {max(row, key=lambda t: s.sizes[t[0]])[0] for row in read.rows}
        if len(kept) < len(read.rows):
            kept = {row[0][0] for row in read.rows if len(row) == 1}
        kept |= read.chosen
        sizes = {r.lower(): n for r, n in self.problem.sizes.items()} | dict(s.sizes)
        return fewest(self.problem, tuple(predicates), sizes, kept)


def program(problem: Problem) -> Program:
    """The statements of a problem.

    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> found = program(bind(load_cascade("matmul"), {"M": 4, "N": 5, "K": 6}))
    >>> [(s.name, s.points, sorted(s.reduced)) for s in found.statements], found.compulsory
    ([('C', 120, ['k'])], 74)
    """
    graph = dependence_graph(problem.cascade)
    groups = head_groups(problem)
    return Program(
        problem,
        tuple(
            _statement(problem, n, problem.cascade.einsums[n], groups) for n in sorted(graph.needed)
        ),
    )


def _statement(
    problem: Problem, n: int, einsum: Einsum, groups: Mapping[str, tuple[str, str, int]]
) -> Statement:
    sizes: dict[str, int] = {}
    for v in problem.variables(einsum):
        if v in groups:
            outer, inner, size = groups[v]
            sizes[outer] = problem.extent(rank_of(v)) // size
            sizes[inner] = size
        else:
            sizes[v] = problem.extent(rank_of(v))
    return Statement(
        n,
        einsum.name,
        einsum,
        sizes,
        projection(problem, einsum.output, groups),
        tuple(projection(problem, r, groups) for r in einsum.reads),
        problem.points(einsum),
    )


def _blocks(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows grouped so that no variable is in two groups."""
    blocks: list[list[Row]] = []
    for row in rows:
        names = {v for v, _ in row}
        joined = [row]
        rest = []
        for block in blocks:
            if names & {v for r in block for v, _ in r}:
                joined += block
                names |= {v for r in block for v, _ in r}
            else:
                rest.append(block)
        blocks = [*rest, joined]
    return blocks


def _values(block: list[Row], sizes: Mapping[str, int]) -> int | None:
    """Distinct values of the rows of a block together; None where they are not counted."""
    if len(block) > 1:
        return None
    (row,) = block
    terms = sorted((abs(c), sizes[v]) for v, c in row)
    reach = 1  # values 0 .. reach-1, all of them, by the terms so far
    total = prod(n for _, n in terms)
    contiguous, distinct = True, True
    for c, n in terms:
        if c > reach:
            contiguous = False
        if c < reach:
            distinct = False
        reach += c * (n - 1)
    if len(terms) == 1 or distinct:
        return total
    return reach if contiguous and terms[0][0] == 1 else None
