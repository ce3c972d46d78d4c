"""Why a pass is needed: the chain of Einsums that forces it, read off the levels of ``sweeps``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from accelsim.analysis.sweeps import UNBOUNDED, Node, Sweeps, Use


@dataclass(frozen=True, slots=True)
class Step:
    """Why pass ``number`` is opened.

    ``chain``: the Einsums from the one that opened the pass before (for pass
    2 one that visits first) to the one that must visit again; ``tensor`` and
    ``rank``: the fiber that it visits again; ``after``: the Einsum of the
    chain that is complete only after all of that fiber.  ``each``: for an
    unbounded count, the recurrent ranks of which every step needs another pass.
    """

    number: float
    chain: tuple[str, ...]
    tensor: str
    rank: str
    after: str = ""
    each: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The step as a sentence.

        >>> print(Step(2, ("QK", "GM", "SN"), "QK", "M", "GM"))
        pass 2: SN visits the M fiber of QK again after GM, which needs all of it (QK -> GM -> SN)
        """
        path = " -> ".join(self.chain)
        fiber = f"the {self.rank} fiber of {self.tensor}"
        if self.each:
            return f"a pass for each step of {' and '.join(self.each)}: {fiber} ({path})"
        before = f"after {self.after}, which needs all of it"
        return f"pass {self.number}: {self.chain[-1]} visits {fiber} again {before} ({path})"


def steps(sweeps: Sweeps) -> tuple[Step, ...]:
    """One step for each pass after the first, along one chain of Einsums.

    >>> from accelsim.analysis.fibers import Plan, roots
    >>> from accelsim.load.cascade import load_cascade
    >>> plan = Plan(load_cascade("softmax-naive"))
    >>> [s.chain for root in roots(plan) if root.rank == "M" for s in steps(Sweeps(plan, root))]
    [('SN', 'SD', 'Y')]
    """
    if sweeps.most == UNBOUNDED:
        return (_each(sweeps),)
    path = _path(sweeps)
    opened: dict[float, int] = {1: 0}
    for i, (node, _) in enumerate(path):
        if sweeps.levels[node].visits:
            opened.setdefault(sweeps.levels[node].visits, i)
    return tuple(
        Step(
            number,
            (
                *_names(sweeps, [node for node, _ in path[opened[number - 1] : opened[number]]]),
                sweeps.plan.names[path[opened[number]][0][0]],
            ),
            _visited(sweeps, path[opened[number]][0]),
            sweeps.root.rank,
            _barrier(sweeps, path[opened[number - 1] : opened[number]]),
        )
        for number in range(2, int(sweeps.most) + 1)
    )


def _barrier(sweeps: Sweeps, path: Sequence[tuple[Node, bool]]) -> str:
    """The Einsum of a path whose completion waits for the whole fiber, the first of them.

    That which reads the last slot of a recurrence waits for it; the recurrence is complete.
    """
    at = next((i for i, (_, stream) in enumerate(path) if not stream), len(path))
    if at == len(path):
        return sweeps.plan.names[path[-1][0][0]]
    (n, stand), _ = path[at]
    before = path[at - 1][0] if at else None
    ends = any(
        before in use.sources and (use.last or use.all_slots) and not use.dropped
        for use in sweeps.uses[n, stand]
    )
    return sweeps.plan.names[before[0] if before is not None and ends else n]


def _path(sweeps: Sweeps) -> list[tuple[Node, bool]]:
    """A shortest chain of tight edges from a first visit to an Einsum in the last pass.

    It begins with an Einsum that reads the fiber in pass 1, be it only an
    element of each tile (``K[m1,0]``).
    """
    start = min(n for n, level in sweeps.levels.items() if level.visits == sweeps.most)
    after: dict[tuple[Node, bool], tuple[Node, bool] | None] = {(start, True): None}
    todo = [(start, True)]
    for here in todo:
        node = here[0]
        level = sweeps.levels[node]
        first = (level.visits or (level.stream if here[1] else level.done)) == 1
        if first and any(use.direct for use in sweeps.uses[node]):
            path: list[tuple[Node, bool]] = []
            at: tuple[Node, bool] | None = here
            while at is not None:
                path.append(at)
                at = after[at]
            return path
        for source in _tight(sweeps, *here):
            if source not in after:
                after[source] = here
                todo.append(source)
    raise AssertionError(f"no chain of Einsums proves pass {sweeps.most} over {sweeps.root}")


def _tight(sweeps: Sweeps, node: Node, stream: bool) -> Iterator[tuple[Node, bool]]:
    """The results (of which node; ``stream`` or else ``done``) that give a node its level.

    The cases are those of ``Sweeps._level``.
    """
    level = sweeps.levels[node]
    value = level.visits or (level.stream if stream else level.done)
    drops = any(use.dropped for use in sweeps.uses[node])
    for use in sweeps.uses[node]:
        here, ends = use.kept or use.dropped, use.last or use.all_slots
        for s in use.sources:
            of = sweeps.levels[s]
            if level.visits:
                done = of.done == value - 1
                tight = ((here or use.fixed) and of.stream == value) or (
                    ends and of.stream == value - 1
                )
            elif stream:
                done, tight = False, here and of.stream == value
            else:
                done = of.done == value
                tight = ((ends or (here and drops)) and of.stream == value) or (
                    use.fixed and of.stream == value + 1
                )
            if of.done and done:
                yield s, False
            if of.stream and tight:
                yield s, True


def _each(sweeps: Sweeps) -> Step:
    """Why the count is unbounded: the cycle, and the recurrences that close it."""
    along = sweeps.plan.cascade.iterative
    each = {along[t] for n, _ in sweeps.endless if (t := sweeps.plan.target[n]) in along}
    visitor = next(n for n in sweeps.endless if sweeps.levels[n].visits)
    return Step(
        UNBOUNDED,
        _names(sweeps, sorted(sweeps.endless)),
        _visited(sweeps, visitor),
        sweeps.root.rank,
        "",
        tuple(sorted(each - {sweeps.root.rank})),
    )


def _names(sweeps: Sweeps, nodes: Sequence[Node]) -> tuple[str, ...]:
    """The Einsums of a chain; one that is passed at several coordinates in a row once."""
    return tuple(name for name, _ in groupby(sweeps.plan.names[n] for n, _ in nodes))


def _visited(sweeps: Sweeps, node: Node) -> str:
    """The tensor of the family that an Einsum reads at r, one from an earlier pass if there is."""
    found = [u for u in sweeps.uses[node] if u.element and (u.kept or u.dropped)]

    def before(use: Use) -> bool:
        streams = [sweeps.levels[s].stream for s in use.sources]
        return max([*streams, float(use.direct)]) < sweeps.levels[node].visits

    return next((u for u in found if before(u)), found[0]).tensor
