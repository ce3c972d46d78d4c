"""What depends on a whole fiber: the statistics over an index variable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from accelsim.analysis.rewrite.forms import Sum, Term
from accelsim.analysis.rewrite.program import Program
from accelsim.ir.cascade import Access, Index


class Axis:
    """What is known only after all of ``variable`` was visited: statistics over it.

    ``barrier(read)``: the read does not carry the variable and needs all of
    it.  ``late(read)``: it carries the variable and needs a barrier.
    """

    def __init__(self, program: Program, variable: str) -> None:
        self.variable = variable
        self.reads: dict[str, list[Access]] = {}
        self.carrying: set[str] = set()
        for d in program.defs.values():
            self.reads[d.name] = list(d.reads)
            if variable in d.out:
                self.carrying.add(d.name)
        for e in program.fixed:
            self.reads.setdefault(e.output.tensor, []).extend(e.reads)
            if variable in e.output.variables:
                self.carrying.add(e.output.tensor)
        self._needs: dict[str, bool] = {}
        changed = True
        while changed:
            changed = False
            for name, its in self.reads.items():
                if not self._needs.get(name) and self._complete(name, its):
                    self._needs[name] = changed = True

    def _complete(self, name: str, its: Iterable[Access]) -> bool:
        """Whether a tensor needs a whole fiber: it drops the variable, or reads what needs one."""
        carries = name in self.carrying
        return any(
            self.barrier(a)
            or self.late(a)
            or (self.variable in a.variables and not carries)
            or (a.tensor in self.carrying and self.variable not in a.variables)
            for a in its
        )

    def barrier(self, read: Access) -> bool:
        """Whether a read needs all of the fiber and carries no coordinate of it."""
        if self.variable in read.variables:
            return False
        last = read.tensor in self.carrying and any(not isinstance(i, Index) for i in read.indices)
        return last or self._needs.get(read.tensor, False)

    def late(self, read: Access) -> bool:
        """Whether a read at the coordinate needs all of the fiber."""
        return self.variable in read.variables and self._needs.get(read.tensor, False)

    def barriers(self, its: Iterable[Access]) -> Iterator[Access]:
        """The reads that are barriers."""
        return (a for a in its if self.barrier(a))

    def waits(self, term: Term | Sum) -> bool:
        """Whether a body or a term of it needs all of the fiber."""
        s = term if isinstance(term, Sum) else Sum((term,))
        return any(self.barrier(a) or self.late(a) for a in s.reads)
