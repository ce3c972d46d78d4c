"""How many passes a cascade makes over each rank, with the chain of Einsums that forces each.

**Definition** (Nayak et al., FuseMax, MICRO 2024, section III).  A cascade
makes N passes over rank R of a tensor when elements of a fiber of R must be
visited again after every other element of that fiber was visited, N-1 times
in a chain.  No sizes, no hardware, no order of the text: a property of the
dependence graph.

**Family.**  Fix a fiber: a tensor, its rank R, one coordinate for every other
rank.  Its *family* is the fiber and every value that depends elementwise on
it, that is whose index still carries the coordinate r: reading a stored QK[m]
and computing it again from K[m] are both a visit of element m.  An Einsum
*visits* the fiber where it reads the family at r.  It *completes* what it
writes where it reads the family but its output no longer carries r: the value
is there only after the last element.  So are the last slot of a recurrence
along R, and a running value that is read at all slots beside another index
of the same fiber.

**Levels.**  ``stream(v) = k``: element r of v is there when pass k comes to
element r.  ``done(v) = k``: v is there at the end of pass k (0: before any).
With S the family values that an Einsum reads at r, and D everything else it
reads, an Einsum that visits runs in pass

    level = max(1, max stream(s) for s in S, 1 + max done(d) for d in D with done > 0)

and gives ``stream = level`` to an output that carries r, ``done = level`` to
one that does not.  An Einsum that does not visit passes on the ``done`` of
what it reads: it may run as soon as that is there.  Passes = the greatest
level of an Einsum that an output needs.

*No fewer will do*: by induction along an edge.  A visit in the pass in which
an operand is completed would read element r before the last element was
visited, r itself being any but the last.  *No more are needed*: sweep R in
ascending order, in pass k run at position r every Einsum of level k in
dependence order; each operand is there, ``stream`` by the same position,
``done`` by the end of an earlier pass.

**Recurrences.**  A recurrence along R (``RM[m1+1] = max(RM[m1], LM[m1])``)
reads slot m1 or m1+1 at position m1: both are there in stream order, so its
edges weigh 0 like any other read at r; only its last slot is complete.  The
levels are therefore the least solution of max-plus equations over the graph
with edges of weight 0 and 1: the longest path.  A strong component whose
cycles weigh 0 has a finite least fixpoint, reached after at most one
increase a node, since a path that weighs more would repeat a node and close
a cycle of positive weight.  A level that rises further proves such a cycle:
R is swept again for each step of a recurrence along another rank (a weight
matrix of an RNN), and the count is ``UNBOUNDED``.

**Which fiber.**  Where the fiber has a coordinate q of an iterative rank Q,
a recurrence along Q leaves it: at step q the slot q was written by step q-1,
from *other* fibers.  Each Einsum that runs over q then counts as three
nodes, q before, at and after the fiber's own coordinate (as five, where a
state's own fiber is read at slots q and q+1: the neighbours apart from what
is further off); only the one *at* visits, or one that reads the fiber itself,
and reads of slots join the nodes as the offset says.  That is why the running
form makes 2 passes over an M0 tile and not 2*M1.

**Several variables.**  The coordinate may stand in several variables: in
``K[p+w]``, or in m1 and m0 for the whole of a split rank M.  It is gone when
all of them are reduced.  What is left when some are (a maximum for each tile
or window) is a *summary*: there in stream order, but no element of the fiber,
so that to read it is no visit.  Hence a window makes 1 pass over the rank
that it slides over (reuse of near elements), and attention that combines
chunk summaries (Rabe and Staats) 1 over M though 2 over M1, which counts the
fiber of summaries.

**What is taken for granted.**  Predicates (``where m <= p``) restrict values,
not dependences: a masked reduction completes like a full one, so that the
count may be too high where a second predicate undoes the first.  A value
broadcast along R has no fiber of R.  Two indices of one fiber (``X[m] *
X[p]``) are reuse, not a pass.  Strides are not told apart: ``X[2*p+1]`` after
a sum of ``X[2*p]`` counts as a visit again, though its elements are others.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from accelsim.analysis.fibers import Plan, roots
from accelsim.analysis.proof import Step, steps
from accelsim.analysis.sweeps import UNBOUNDED, Sweeps
from accelsim.ir.cascade import Cascade

__all__ = ["UNBOUNDED", "Passes", "Step", "most_passes", "passes"]


@dataclass(frozen=True)
class Passes:
    """Passes of a cascade over every rank, whole ranks and parts of split ones.

    ``why``: one step for each pass after the first.  ``bands``: for each rank
    the pass in which each needed Einsum runs, seen from the fiber that needs
    most passes.
    """

    cascade: str
    by_rank: dict[str, float]
    why: dict[str, tuple[Step, ...]]
    bands: dict[str, dict[str, float]] = field(repr=False)

    def __getitem__(self, rank: str) -> float:
        """The passes over a rank."""
        return self.by_rank[rank]


def passes(cascade: Cascade) -> Passes:
    """The passes that a cascade makes over every rank and every part of a split rank.

    >>> from accelsim.ir.cascade import Access, Einsum, Index, Map, Reduction, Tensor
    >>> m = Index((("m", 1),))
    >>> x, g, y = Access("X", (m,)), Access("G"), Access("Y", (m,))
    >>> total = Einsum(g, x, (Reduction("sum", ("m",)),))
    >>> share = Einsum(y, Map("div", (x, g)))
    >>> c = Cascade("share", ("M",), (Tensor("X", ("M",)),), (total, share), ("Y",))
    >>> found = passes(c)
    >>> found.by_rank, str(found.why["M"][0])
    ({'M': 2}, 'pass 2: Y visits the M fiber of X again after G, which needs all of it (G -> Y)')
    """
    plan = Plan(cascade)
    ranks = [*cascade.ranks, *(p for _, parts in cascade.splits for p in parts)]
    names = list(plan.names.values())
    by_rank: dict[str, float] = dict.fromkeys(ranks, 1)
    why: dict[str, tuple[Step, ...]] = dict.fromkeys(ranks, ())
    bands: dict[str, dict[str, float]] = {rank: dict.fromkeys(names, 1) for rank in ranks}
    for root in roots(plan):
        sweeps = Sweeps(plan, root)
        if sweeps.most > by_rank.get(root.rank, 1):
            by_rank[root.rank] = sweeps.most
            why[root.rank] = steps(sweeps)
            bands[root.rank] |= sweeps.bands()
    return Passes(cascade.name, by_rank, why, bands)


def most_passes(cascade: Cascade) -> float:
    """The most passes over any declared rank: 3, 2 or 1 for the families of attention in FuseMax.

    Parts of a split rank do not count: a tile that is read twice stays on chip.

    >>> most_passes(Cascade("nothing", ("M",), (), (), ()))
    1
    """
    found = passes(cascade)
    return max((found[rank] for rank in cascade.ranks), default=1)
