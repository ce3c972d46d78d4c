"""Re-reads that passes force: what cannot stay on chip from one pass to the next is moved again.

**The bound.**  Take an input X read at the statements' own coordinates, one of
its variables r, and the *family* of X along r: tensors computed elementwise
along r from X or from the family.  Let D_1, D_2, ..., D_k be statements that
each reduce the family over r, where the family values that D_j+1 reduces all
depend on D_j, and let an output depend, at every r, on a family value and on
D_k.  For one label q (coordinates other than r that all of these keep) let t_j
be the first time that D_j is complete.  Each of the k intervals between t_j
and t_j+1 (t_k+1: the end) needs for every r some word of the family at (r, q)
on chip: it was there at t_j, where D_j itself takes one of the S words, or is
loaded in the interval, or is computed from such a word (by induction along the
family).  So each interval loads at least N_r - (S - 1) words, and for distinct
q distinct ones; N_r words for each q are loaded before t_1.
"""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.analysis.flow import Flow
from accelsim.analysis.statement import Program, Statement


@dataclass(frozen=True, slots=True)
class Reread:
    """``words`` loaded again of ``tensors`` because of the passes over a rank of an input."""

    einsum: str
    tensors: frozenset[str]
    words: int
    text: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is seen from the fibers of one rank of an input.

    ``barriers``: the longest chain of reductions, each of values that depend
    on the one before; ``family`` tensors, and the ``label`` that all keep.
    """

    tensor: str
    variable: str
    barriers: int
    last: str
    family: frozenset[str]
    label: frozenset[str]


def rereads(flow: Flow, capacity_words: int) -> list[Reread]:
    """For each input the re-reads forced over the rank of its where they are most.

    Two further passes of a softmax over 100 elements, of which 10 words hold 9:

    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> from accelsim.analysis.statement import program
    >>> softmax = Flow(program(bind(load_cascade("softmax"), {"B": 1, "M": 100})))
    >>> [(r.einsum, r.words) for r in rereads(softmax, 10)], rereads(softmax, 101)
    ([('Y', 182)], [])
    """
    found = []
    program = flow.program
    for tensor in program.inputs:
        best: Reread | None = None
        for sweep in sweeps(program, tensor):
            length = program.sizes[sweep.variable]
            again = length - (capacity_words - 1)
            each = (length + sweep.barriers * max(again, 0)) * program.span(sweep.label)
            words = each - flow.sure[tensor]
            if again > 0 and words > 0 and (best is None or words > best.words):
                text = (
                    f"{sweep.last}: {sweep.barriers + 1} passes over {sweep.variable.upper()} of "
                    f"{tensor}, {again} words of each fiber again in each pass after the first"
                )
                best = Reread(sweep.last, sweep.family, words, text)
        if best is not None:
            found.append(best)
    return found


def sweeps(program: Program, tensor: str) -> list[Sweep]:
    """The chains of barriers over each rank of an input, none of which a mask may cut short.

    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> from accelsim.analysis.statement import program
    >>> softmax = program(bind(load_cascade("softmax"), {"B": 1, "M": 100}))
    >>> [(s.variable, s.barriers, s.last) for s in sweeps(softmax, "X")]
    [('m', 2, 'Y')]
    """
    readers = program.readers.get(tensor, ())
    reads = [r for s in readers for r in s.reads if r.tensor == tensor]
    names = reads[0].told if reads else frozenset()
    if any(not r.plain or r.shifted or r.variables != names for r in reads):
        return []
    found = []
    for variable in sorted(names):
        sweep = _sweep(program, tensor, variable, names)
        if sweep is not None:
            found.append(sweep)
    return found


def _sweep(program: Program, tensor: str, r: str, names: frozenset[str]) -> Sweep | None:
    """One sweep.  Statements are taken in order; recurrences and masks along r end the claim.

    ``stream[t]``: barriers that every value of family tensor t has behind it;
    ``done[t]``: barriers behind a value without r, itself included.
    """
    stream: dict[str, int] = {tensor: 0}
    done: dict[str, int] = {}
    label = {tensor: names - {r}}
    best: tuple[int, Statement] | None = None
    for s in _ordered(program):
        target = s.output.tensor
        own = [x for x in s.reads if x.tensor in stream]
        behind = max((done[x.tensor] for x in s.reads if x.tensor in done), default=0)
        if own and r in s.sizes:
            if s.masked or s.output.shifted or not s.output.plain:
                return None
            if any(not x.plain or x.shifted or r not in x.told for x in own):
                return None
            kept = frozenset.intersection(*(label[x.tensor] & x.told for x in own))
            kept &= s.output.told
            level = max(behind, *(stream[x.tensor] for x in own))
            if r in s.output.told:
                stream[target], label[target] = level, kept
                if target in program.outputs and level and (best is None or level > best[0]):
                    best = level, s
            else:
                done[target], label[target] = level + 1, kept
                if target in program.outputs and level and (best is None or level > best[0]):
                    best = level, s
        elif behind:
            reads = [x for x in s.reads if x.tensor in done]
            done[target] = behind
            label[target] = frozenset.intersection(*(label[x.tensor] & x.told for x in reads))
            if target in program.outputs and behind > 1 and (best is None or behind - 1 > best[0]):
                best = behind - 1, s
    if best is None:
        return None
    involved = [label[t] for t in (*stream, *done)]
    kept = frozenset.intersection(*involved) if involved else frozenset()
    return Sweep(tensor, r, best[0], best[1].name, frozenset(stream), kept - {r})


def _ordered(program: Program) -> list[Statement]:
    """Statements with single writers in an order in which they can run; recurrences left out."""
    left = [s for s in program.statements if program.single_writer(s.output.tensor)]
    known = set(program.inputs) | {
        t for t, ws in program.writers.items() if program.single_writer(t) is None
    }
    found: list[Statement] = []
    while left:
        ready = [s for s in left if all(x.tensor in known for x in s.reads)]
        if not ready:
            break
        found += ready
        known |= {s.output.tensor for s in ready}
        left = [s for s in left if s not in ready]
    return found
