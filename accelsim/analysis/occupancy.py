"""What is on chip while a fused group runs: how long each intermediate lives, what passes by."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import numpy as np

from accelsim.analysis.plan import KEPT, Plan, Words
from accelsim.analysis.statement import Projection, Statement


class Occupancy:
    """A plan with the treatment of what crosses passes chosen: what is on chip, and when.

    ``outside``: tensors that enter or leave the group, with the statements and
    accesses that do so.  ``column``: a rank of which statements that have it
    take one index after another, together and after the others of a pass.
    """

    def __init__(self, plan: Plan, way: dict[str, str], column: str = "") -> None:
        self.plan = plan
        self.group = plan.group
        self.runs, self.uses = plan.runs(way)
        self.column = column
        self._spans: dict[tuple[str, int], tuple[int, int]] = {}
        self.way = {t: how for t, how in way.items() if self.uses.get(t, set()) - {plan.stream[t]}}
        self.outside = self._outside()
        self.tiles, self.wholes = plan.tiles, plan.wholes

    def _outside(self) -> dict[str, list[tuple[int, Projection]]]:
        """Tensors that enter or leave the group, with the statements and accesses that do."""
        found: dict[str, list[tuple[int, Projection]]] = {}
        for n, s in enumerate(self.group.statements):
            for a in dict.fromkeys(s.reads):
                if a.tensor not in self.group.written:
                    found.setdefault(a.tensor, []).append((n, a))
            if s.output.tensor not in self.group.read:
                found.setdefault(s.output.tensor, []).append((n, s.output))
        return found

    def own(self, tensor: str) -> Projection:
        """The access of a tensor with most ranks: its write, or its largest read."""
        return self.group.own[tensor]

    # -- columns -------------------------------------------------------------------------------

    def columns(self) -> list[str]:
        """Ranks that may be taken index by index in every pass: nothing sums over them there.

        What all of them write and read in a pass then takes one index.
        """
        loops = self.plan.loops
        shared = {*loops.tile, loops.stream, *self.plan.outer} | self.group.mixed
        found = []
        for v in self.group.sizes.keys() - shared:
            its = [s for s in self.group.statements if self.plan.streams(s) and v in s.sizes]
            written = {s.output.tensor for s in its}
            others = [s for s in self.group.statements if self.plan.streams(s) and s not in its]
            if (
                len(its) > 1
                and self.group.sizes[v] > 1
                and all(v in s.output.told for s in its)
                and not any(a.dull or v in a.shifted for s in its for a in s.reads)
                and not any(a.tensor in written for s in others for a in s.reads)
            ):
                found.append(v)
        return sorted(found, key=lambda v: -self.group.sizes[v])[:1]

    def _in_column(self, s: Statement) -> bool:
        return bool(self.column) and self.column in s.sizes and self.plan.streams(s)

    def _place(self, n: int) -> int:
        """The place of a statement in a pass: those of the column together, at the end."""
        statements = self.group.statements
        return len(statements) if self._in_column(statements[n]) else n

    def _slim(self, t: str) -> Words | None:
        """Words of one index of the column of a tensor that lives in it alone, else None."""
        own = self.own(t)
        users = [
            s
            for s in self.group.statements
            if s.output.tensor == t or any(a.tensor == t for a in s.reads)
        ]
        if self.column not in own.variables or not all(self._in_column(s) for s in users):
            return None
        return self.plan.size(own, skip=self.column)

    # -- peaks ---------------------------------------------------------------------------------

    def _moment(self, n: int, k: int) -> float:
        """When statement n runs in pass k: streaming ones of a pass together, others in turn."""
        return float(k) if self.plan.streams(self.group.statements[n]) else k + 0.5 + 1e-6 * n

    def _life(self, t: str) -> tuple[float, float]:
        """From when to when an intermediate lives; all of a recurrence lives as long as any."""
        ring = self.plan.program.cycles.get(t, frozenset([t]))
        moments = [
            self._moment(n, k)
            for n, s in enumerate(self.group.statements)
            for k in self.runs[n]
            if s.output.tensor in ring or any(a.tensor in ring for a in s.reads)
        ]
        return min(moments), max(moments)

    def _lasting(self, t: str) -> tuple[Words, float, float]:
        """Words of an intermediate that outlasts a block, and from when to when it lives."""
        own, r = self.own(t), self.plan.loops.stream
        begin, end = self._life(t)
        if r and r in own.variables:
            slots = any(r in w.output.shifted for w in self.plan.program.writers[t])
            if self.way.get(t) == KEPT:
                return self.wholes[own], begin, end
            if not slots:
                return self._slim(t) or self.tiles[own], inf, -inf
            if self._stepped(t):
                slim = self.plan.size(own, skip=self.column)
                whole, share = self.tiles[own], self.plan.blocks / (self.plan.blocks + 1)
                if slim is not None:
                    return slim + Words(whole.fixed * share, whole.each * share), begin, end
        return self.tiles[own], begin, end

    def _stepped(self, t: str) -> bool:
        """Whether a recurrence along the stream steps index by index of the column."""
        users = [
            s
            for s in self.group.statements
            if self.plan.streams(s)
            and (s.output.tensor == t or any(a.tensor == t for a in s.reads))
        ]
        return self.column in self.own(t).variables and all(self._in_column(s) for s in users)

    def _adding(self) -> list[tuple[Words, float]]:
        """Results that leave the group and are summed along R: on chip during their pass."""
        r = self.plan.loops.stream
        return [
            (self.tiles[s.output], float(min(self.runs[n])))
            for n, s in enumerate(self.group.statements)
            if s.output.tensor in self.outside and self._adds(s)
            if r
        ]

    def _adds(self, s: Statement) -> bool:
        return self.plan.streams(s) and self.plan.loops.stream not in s.output.variables

    def peaks(self) -> Iterator[tuple[int, int, Words]]:
        """For each run of a statement its number, its pass, and the words of intermediates."""
        plan = self.plan
        lasting = {t: self._lasting(t) for t in self.group.inner}
        adding = self._adding()
        for n, s in enumerate(self.group.statements):
            for k in sorted(self.runs[n]):
                moment = self._moment(n, k)
                words = plan.nothing
                for t, (size, begin, end) in lasting.items():
                    if begin <= moment <= end or (plan.streams(s) and self._in_block(t, n, k)):
                        words = words + size
                for size, during in adding:
                    if during == moment:
                        words = words + size
                yield n, k, words

    def _in_block(self, t: str, n: int, k: int) -> bool:
        """Whether a tile of an intermediate along R is on chip while statement n runs in pass k."""
        if (t, k) not in self._spans:
            places = [
                self._place(m)
                for m, s in enumerate(self.group.statements)
                if k in self.runs[m]
                and (s.output.tensor == t or any(a.tensor == t for a in s.reads))
            ]
            self._spans[t, k] = (min(places), max(places)) if places else (1, 0)
        first, last = self._spans[t, k]
        return first <= self._place(n) <= last

    def passing(self, n: int, k: int, held: list[list[str]], names: list[str]) -> list[list[Words]]:
        """Words of what passes by while statement n runs in pass k, by what streams.

        One list for each choice of what is ``held``; the alternatives in it
        differ in which tensor takes one word.
        """
        s = self.group.statements[n]
        together = self._slot_by_slot(s)
        if self._in_column(s):
            members = [m for m in self.group.statements if self._in_column(m)]
            together = [m for m in members if k in self.runs[self.group.statements.index(m)]]
        own = [
            a
            for m in together or [s]
            for a in dict.fromkeys((*m.reads, m.output))
            if a.tensor in self.outside and not (a is m.output and self._adds(m))
        ]
        shared = [t for t in names if self._shared(t, n, k)]
        known: dict[frozenset[str], list[Words]] = {}
        for stay in held:
            here = frozenset({a.tensor for a in own} | set(shared)) - set(stay)
            if here not in known:
                base = self.plan.nothing
                for t in shared:
                    if t in here:
                        base = base + self.tiles[self.own(t)]
                past = [a for a in own if a.tensor in here and a.tensor not in shared]
                if together:
                    slim = self.column if self._in_column(s) else ""
                    tiles = {a.tensor: self._tile(self.own(a.tensor), slim) for a in past}
                    known[here] = [sum(tiles.values(), base)]
                else:
                    known[here] = [base + w for w in self._streaming(s, past)]
        return [
            known[frozenset({a.tensor for a in own} | set(shared)) - set(stay)] for stay in held
        ]

    def _tile(self, access: Projection, skip: str) -> Words:
        return (self.plan.size(access, skip=skip) if skip else None) or self.tiles[access]

    def _slot_by_slot(self, s: Statement) -> list[Statement]:
        """Statements of the recurrence that s is part of, if it is not the stream that steps.

        They run slot by slot, over and over, so that nothing may pass by them.
        """
        ring = self.plan.program.cycles.get(s.output.tensor)
        if ring is None:
            return []
        members = [m for m in self.group.statements if m.output.tensor in ring]
        slots = {v for m in members for v in m.output.shifted}
        return members if slots - {self.plan.loops.stream} else []

    def _shared(self, t: str, n: int, k: int) -> bool:
        """Whether a tensor from outside serves several statements of pass k, n between them."""
        users = [m for m, _ in self.outside[t] if k in self.runs[m]]
        streams = [m for m in users if self.plan.streams(self.group.statements[m])]
        places = [self._place(m) for m in set(streams)]
        return len(places) > 1 and min(places) <= self._place(n) <= max(places)

    def _streaming(self, s: Statement, here: list[Projection]) -> list[Words]:
        plan = self.plan
        one = Words(np.ones_like(plan.blocks), plan.zero)
        if not here:
            return [plan.nothing]
        found = []
        for past in here:
            free = {
                v
                for row in past.rows
                if len(row) == 1
                for v in (row[0][0],)
                if v not in plan.loops.tile and v not in plan.outer and v != plan.loops.stream
            }
            column = max(free, key=lambda v: plan.program.sizes[v], default="")
            words = one
            for a in here:
                if a is not past:
                    words = words + (plan.size(a, skip=column) or self.tiles[a])
            found.append(words)
        return found
