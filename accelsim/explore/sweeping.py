"""How often a part of a system sweeps its keys and values, and what it holds meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from accelsim.analysis.fibers import Plan, roots
from accelsim.analysis.footprint import footprint
from accelsim.analysis.proof import steps
from accelsim.analysis.sweeps import Sweeps
from accelsim.analysis.unroll import unrolled
from accelsim.ir.cascade import Access, Cascade, Index, Tensor, rank_of
from accelsim.load.cascade import load_cascade
from accelsim.load.system import Part


@dataclass(frozen=True, slots=True)
class Swept:
    """Passes of a cascade over the keys' rank of K and of V, and what it holds meanwhile.

    ``estimation``: passes over K that end before the Einsums that are not
    estimation begin.  ``live``: words held for one point in flight, as a
    formula; ``why``: the chain that forces each further pass over K.
    """

    cascade: str
    over_k: float
    over_v: float
    estimation: float
    live: str
    in_flight: tuple[str, ...]
    why: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def swept(part: Part) -> Swept:
    """Passes over the keys and live words, of the cascade without what is known beforehand.

    >>> from accelsim.load.system import load_system
    >>> swept(load_system("fusemax").phases[0].parts[0]).live
    '2*F + E + M0 + 12'
    """
    cascade = running(load_cascade(part.cascade))
    over_k, why = _passes(cascade, part.key, part.rank)
    over_v, _ = _passes(cascade, part.value, part.rank)
    found = footprint(cascade, outer(cascade, part.rank))
    return Swept(
        cascade.name,
        over_k,
        over_v,
        _before(cascade, part, over_k, over_v),
        found.formula,
        found.in_flight,
        why,
    )


def passes_at(part: Part, steps: Mapping[str, int]) -> float:
    """Passes over the keys where recurrences take so many steps, by rank; those left out stay.

    >>> from accelsim.load.system import load_system
    >>> passes_at(load_system("hip").phases[0].parts[0], {"C": 6})
    7
    """
    cascade = running(load_cascade(part.cascade))
    for rank, count in steps.items():
        cascade = unrolled(cascade, rank, count)
    return _passes(cascade, part.key, part.rank)[0]


def _before(cascade: Cascade, part: Part, over_k: float, over_v: float) -> float:
    """Passes that the estimation adds: over keys or values, or over summaries of the keys."""
    if not part.estimation:
        return 0
    chosen = {e.name for e in cascade.einsums if e.selects} & set(part.estimation)
    rest = _given(_chosen(cascade, chosen), frozenset(part.estimation) - chosen)
    added = max(
        over_k - _passes(rest, part.key, part.rank)[0],
        over_v - _passes(rest, part.value, part.rank)[0],
    )
    along = outer(cascade, part.rank)
    return added + max((_passes(cascade, name, along)[0] for name in part.summaries), default=0)


def _chosen(cascade: Cascade, names: Collection[str]) -> Cascade:
    """The cascade with some selections made from scores that are given.

    So that a list of chosen keys is still known to name each of them once.
    """
    einsums, inputs = [], list(cascade.inputs)
    for einsum in cascade.einsums:
        if einsum.name not in names:
            einsums.append(einsum)
            continue
        scores = Tensor(f"{einsum.name}_SCORES", tuple(map(rank_of, einsum.variables)))
        inputs.append(scores)
        read = Access(scores.name, tuple(Index(((v, 1),)) for v in einsum.variables))
        last = tuple(r for r in einsum.reductions if r.into)
        einsums.append(replace(einsum, expr=read, reductions=last, where=()))
    return replace(cascade, einsums=tuple(einsums), inputs=tuple(inputs))


def outer(cascade: Cascade, rank: str) -> str:
    """The outermost part of a rank; a part is its own."""
    return cascade.parts[rank][0] if rank in cascade.parts else rank


def _passes(cascade: Cascade, tensor: str, rank: str) -> tuple[float, tuple[str, ...]]:
    """Passes over the rank of a tensor's own fibers, and why; 1 where it is read once or not."""
    plan = Plan(cascade)
    found = [Sweeps(plan, r) for r in roots(plan) if (r.tensor, r.rank) == (tensor, rank)]
    most = max(found, key=lambda s: s.most, default=None)
    if most is None or most.most <= 1:
        return 1, ()
    return most.most, tuple(str(step) for step in steps(most))


def running(cascade: Cascade) -> Cascade:
    """The cascade less what depends on no input: masks and tables that are known beforehand.

    What the others read of it becomes an input.

    >>> [e.name for e in running(load_cascade("sink-window")).einsums][:2]
    ['QK', 'LM']
    """
    live = {t.name for t in cascade.inputs}
    growing = True
    while growing:
        before = len(live)
        live |= {e.output.tensor for e in cascade.einsums if any(r.tensor in live for r in e.reads)}
        growing = len(live) > before
    known = (e.name for e in cascade.einsums if e.output.tensor not in live)
    return _given(cascade, frozenset(known))


def _given(cascade: Cascade, names: frozenset[str]) -> Cascade:
    """The cascade without some Einsums, their results given as inputs."""
    kept = tuple(e for e in cascade.einsums if e.name not in names)
    read = {r.tensor for e in kept for r in e.reads}
    written = {e.output.tensor for e in kept}
    dropped = {e.output.tensor: None for e in cascade.einsums if e.name in names}
    inputs = [t for t in cascade.inputs if t.name in read]
    inputs += [Tensor(name, cascade.tensors[name]) for name in dropped if name in read - written]
    outputs = tuple(o for o in cascade.outputs if o in written) or tuple(written - read)
    return replace(cascade, einsums=kept, inputs=tuple(inputs), outputs=outputs)
