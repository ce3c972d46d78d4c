"""Where the values of a cascade come from and go to, element by element: labels of words.

Two questions that a traffic bound asks when intermediates may stay on chip
and may be computed again:

* ``ways``: through which tensors does a result reach an output, and which of
  its coordinates does it keep all the way?  (Its *label*: a partial sum of
  attention's AV keeps b, h, p and f; a score QK[b,h,m,p] keeps b, h and p.)
* ``sources``: if an operand was not there, and none of the words that it is
  computed from elementwise was, which words must have been there so that it
  could be computed?  (A fresh QK[m,p]: the row Q[p,:] and the row K[m,:].)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from accelsim.analysis.hbl import Term
from accelsim.analysis.needed import needed_points
from accelsim.analysis.statement import Program, Projection, Statement
from accelsim.ir.cascade import rank_of


@dataclass(frozen=True, slots=True)
class Way:
    """One way from a tensor to an output.

    Every word of every tensor of ``chain`` on it has the coordinates
    ``label`` of the word that it began with; ``passing``: statements on it.
    """

    label: frozenset[str]
    chain: frozenset[str]
    passing: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """What it takes to have an operand of a statement on chip.

    ``label``: its coordinates.  ``cluster``: tensors with the same coordinates
    that it is computed from elementwise, itself included: at least one word of
    one of them was there, or else the words of every term in ``fresh``.
    """

    label: frozenset[str]
    cluster: frozenset[str]
    fresh: tuple[Term, ...] | None


class Flow:
    """Ways and sources of the tensors of a program.

    >>> from accelsim.analysis.statement import program
    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> sizes = {"B": 1, "H": 1, "P": 8, "M": 8, "E": 2, "F": 2}
    >>> flow = Flow(program(bind(load_cascade("attention-3pass"), sizes)))
    >>> sorted(flow.ways["QK"].label), flow.sure
    (['b', 'h', 'p'], {'Q': 16, 'K': 16, 'V': 16})
    """

    def __init__(self, program: Program) -> None:
        self.program = program

    @cached_property
    def ways(self) -> dict[str, Way]:
        """For each tensor that some statement writes its way of the largest label.

        A way goes on only through a statement that reads every element, each
        at its own coordinates (or at its slots, along a recurrence).  In a
        recurrence the value goes round: all tensors of the cycle join the
        chain and the label keeps only what the whole cycle keeps.
        """
        program = self.program
        found = {t: self._round(t, Way(self._own(t), frozenset([t]), ())) for t in program.outputs}
        todo = list(found)
        while todo:
            tensor = todo.pop()
            way = found[tensor]
            for s in program.writers.get(tensor, ()):
                for read in s.reads:
                    if read.tensor not in program.writers or not self._all_read(read, s):
                        continue
                    label = way.label & s.output.told & read.told & self._own(read.tensor)
                    longer = self._round(
                        read.tensor, Way(label, way.chain | {read.tensor}, (s, *way.passing))
                    )
                    old = found.get(read.tensor)
                    if read.tensor in program.outputs:
                        continue
                    if old is None or program.span(longer.label) > program.span(old.label):
                        found[read.tensor] = longer
                        todo.append(read.tensor)
        return found

    def needed(self, s: Statement) -> int:
        """Points of a statement that some output surely needs."""
        way = self.ways.get(s.output.tensor)
        if way is None or any(r.into for e in (s, *way.passing) for r in e.einsum.reductions):
            return 0
        share = self._decided((s, *way.passing))
        if not share:
            return 0
        total = needed_points(self.program.problem, s.einsum, [e.einsum for e in way.passing])
        for after in (s, *way.passing):
            for slot in after.output.shifted:  # the last slot may be read by nobody
                if not self._last_slot_read(after.output.tensor, slot):
                    total -= s.dense // s.sizes.get(slot, 1)
        return max(int(total * share), 0)

    def _decided(self, path: Sequence[Statement]) -> float:
        """The share of points that data leaves on a path; 0 where nobody knows it."""
        domains, densities = self.program.problem.domains, self.program.problem.cascade.density
        if any(r.tensor in self._listed for s in path for r in s.reads):
            return 0.0
        data = {t for s in path for t in domains.data(s.einsum)}
        return prod(densities[t].value for t in data)

    @cached_property
    def _listed(self) -> frozenset[str]:
        """What depends on a list that a selection may leave incomplete.

        Under a mask, up to a sum, or with room for more than there is.
        """
        found: set[str] = set()
        problem = self.program.problem
        for e in problem.cascade.einsums:
            if e.selects:
                last = e.reductions[-1]
                room = problem.extent(rank_of(last.into))
                full = room <= prod(problem.extent(rank_of(v)) for v in last.over)
                if last.reach is not None or e.where or not full:
                    found.add(e.output.tensor)
            if any(a.tensor in found for a in e.reads):
                found.add(e.output.tensor)
        return frozenset(found)

    @cached_property
    def sure(self) -> dict[str, int]:
        """Elements of each input that some output surely needs: compulsory reads, or fewer."""
        found = dict.fromkeys(self.program.inputs, 0)
        for s in self.program.statements:
            if not self.needed(s):
                continue
            passing = self.ways[s.output.tensor].passing
            if self._decided((s, *passing)) < 1:
                continue
            slots = [(e.output.tensor, v) for e in (s, *passing) for v in e.output.shifted]
            if not all(self._last_slot_read(t, v) for t, v in slots):
                continue
            for r in s.reads:
                if r.tensor in found:
                    n = self.program.distinct(s, r, [after.einsum for after in passing])
                    found[r.tensor] = max(found[r.tensor], n)
        return {t: min(n, self.program.touched[t]) for t, n in found.items()}

    def source(self, read: Projection) -> Source | None:
        """The source of what is read, where it is an intermediate read at its own coordinates."""
        writer = self.program.single_writer(read.tensor)
        if writer is None or not _same(read, writer.output):
            return None
        if read.tensor not in self._sources:
            self._sources[read.tensor] = self._source(read, writer.output.variables)
        return self._sources[read.tensor]

    @cached_property
    def _sources(self) -> dict[str, Source]:
        return {}

    def _source(self, read: Projection, label: frozenset[str]) -> Source:
        cluster: set[str] = set()
        fresh: list[Term] = []
        todo = [read.tensor]
        while todo:
            tensor = todo.pop()
            s = self.program.single_writer(tensor)
            if tensor in cluster or s is None:
                continue
            cluster.add(tensor)
            for operand in s.reads:
                if s.reduced or operand.tensor in self.program.inputs:
                    fresh += self._rows(s, operand, label)
                elif self._elementwise(operand) and operand.variables == label:
                    todo.append(operand.tensor)
        own = [t for t in fresh if t.weight == 1 and t.variables == label]
        if own:  # elementwise from an input: a word of it or of the cluster was there
            return Source(label, frozenset(cluster) | own[0].tensors, None)
        return Source(label, frozenset(cluster), tuple(dict.fromkeys(fresh)))

    def rows(self, s: Statement, operand: Projection) -> list[Term]:
        """What a whole reduction of a statement reads of an operand, for each element it writes."""
        return self._rows(s, operand, s.output.variables)

    # -- parts of the answers ------------------------------------------------------------------

    def _own(self, tensor: str) -> frozenset[str]:
        """The coordinates of a tensor's elements, as its writers name them."""
        return frozenset().union(*(s.output.told for s in self.program.writers.get(tensor, ())))

    def _all_read(self, read: Projection, reader: Statement) -> bool:
        """Whether a read visits every element of an intermediate, at its own coordinates."""
        writers = self.program.writers[read.tensor]
        names = frozenset().union(*(w.output.variables for w in writers))
        if read.dull or not all(len(row) == 1 and row[0][1] == 1 for row in read.rows):
            return False
        slots = frozenset().union(*(w.output.shifted for w in writers))
        if read.last:
            return read.variables == names - slots
        return read.variables == names and read.shifted <= slots

    def _round(self, tensor: str, way: Way) -> Way:
        """A way joined with the recurrence that its first tensor is in."""
        cycle = self.program.cycles.get(tensor)
        if cycle is None:
            return way
        label, turning = way.label, []
        for s in self.program.statements:
            if s.output.tensor in cycle:
                for read in s.reads:
                    if read.tensor in cycle:
                        label = label & s.output.told & read.told
                        turning.append(s)
        passing = tuple(dict.fromkeys((*turning, *way.passing)))
        return Way(label, way.chain | cycle, passing)

    def _last_slot_read(self, tensor: str, slot: str) -> bool:
        if tensor in self.program.outputs:
            return True
        return any(
            read.tensor == tensor and (read.last or slot in read.shifted)
            for s in self.program.readers.get(tensor, ())
            for read in s.reads
        )

    def _elementwise(self, operand: Projection) -> bool:
        writer = self.program.single_writer(operand.tensor)
        return writer is not None and _same(operand, writer.output)

    def _rows(self, s: Statement, operand: Projection, label: frozenset[str]) -> list[Term]:
        """The words of an operand that one fresh element of what ``s`` writes must have read.

        All of its elements over the reduced variables, each a word; fewer are
        claimed under a mask, and of an operand that may itself be fresh.
        """
        keep = operand.variables & label
        if not operand.plain or not keep:
            return []
        tied = {v for p in self.program.problem.predicates(s.einsum) for v in p.variables}
        span = s.span(operand.variables - label - tied)
        if operand.tensor in self.program.inputs:
            return [_term(keep, span, frozenset([operand.tensor]))]
        weight, tensors = self._cost(operand, keep, span)
        return [_term(keep, weight, tensors)] if weight else []

    def _cost(
        self, operand: Projection, keep: frozenset[str], span: int
    ) -> tuple[int, frozenset[str]]:
        """Words with the coordinates ``keep`` that a row of an intermediate takes, and of what.

        Each of its ``span`` elements was there, or a word that it is computed
        from elementwise; or, if one of them is fresh, the row of an input that
        its reduction reads.  The least of these.
        """
        source = self.source(operand)
        if source is None:
            return 0, frozenset()
        if source.fresh is None:
            return span, source.cluster
        usable = [t for t in source.fresh if keep <= t.variables]
        if not usable:
            return 0, frozenset()
        best = max(usable, key=lambda t: t.weight)
        return min(span, int(best.weight)), source.cluster | best.tensors


def _term(keep: frozenset[str], weight: float, tensors: frozenset[str]) -> Term:
    return Term(tuple(((v, 1),) for v in sorted(keep)), float(weight), tensors)


def _same(read: Projection, written: Projection) -> bool:
    """Whether a read is of the element at the statement's own coordinates, none of them a slot."""
    return (
        read.plain
        and written.plain
        and not (read.last or written.last or read.shifted or written.shifted)
        and read.variables == written.variables
    )


def apart(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Terms with weights shared out where two of them may count the same word.

    If k terms may be words of one tensor, the words of that tensor are at
    least the mean of what the k terms say.

    >>> twice = [Term(((("i", 1),),), 1.0, frozenset("X")), Term((), 1.0, frozenset("X"))]
    >>> [t.weight for t in apart(twice)]
    [0.5, 0.5]
    """
    found = []
    for term in terms:
        times = max(sum(t in other.tensors for other in terms) for t in term.tensors)
        found.append(Term(term.rows, term.weight / times, term.tensors))
    return tuple(found)
