"""The trees of a mapping file: loops, tiles and Einsums of its groups, bound to plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from accelsim.errors import Fault, one_of
from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import Cascade
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Node, Stage, Stall, Tree
from accelsim.ir.rule import rule
from accelsim.load.mapping_text import GroupText, HoldText, LeafText, NodeText, StageText
from accelsim.load.source import Document

Step = str | int
Parts = tuple[tuple[str, tuple[Loop, ...]], ...]


class Placer:
    """Builds the groups of one mapping, one after the other.

    ``scope`` are the values of its rules.  What is wrong goes to ``faults``, and ``placed``
    gives the group of each Einsum that has a place.
    """

    def __init__(
        self,
        document: Document,
        cascade: Cascade,
        arch: Architecture,
        scope: Mapping[str, Any],
        faults: list[Fault],
    ) -> None:
        self.document, self.cascade, self.arch, self.scope = document, cascade, arch, scope
        self.faults = faults
        self.placed: dict[str, str] = {}
        self.loop: dict[str, Loop] = {}  # by part, as the group at hand cuts ranks
        self.rank: dict[str, str] = {}
        self.name = ""

    def fault(self, path: Iterable[Step], message: str, allowed: str = "") -> None:
        """Note what is wrong at a place of the document, and what is allowed there."""
        self.faults.append(Fault(self.document.place(tuple(path)), message, allowed))

    def group(self, text: GroupText, path: tuple[Step, ...], parts: Parts, own: Parts) -> Group:
        """A group, of which ``own`` are the parts of ranks that it cuts in a way of its own."""
        cut = {**dict(parts), **dict(own)}
        self.loop = {p.part: p for found in cut.values() for p in found}
        self.rank = {p.part: rank for rank, found in cut.items() for p in found}
        self.name = text.group
        tree = self._node(text.nest, (*path, "nest"), (), {})
        run: dict[str, int] = {}
        stages = []
        for i, stage in enumerate(text.schedule):
            at = (*path, "schedule", i)
            for j, name in enumerate(stage.run):
                if self.placed.get(name) != text.group:
                    allowed = one_of(n for n, g in self.placed.items() if g == text.group)
                    self.fault((*at, "run", j), f"{name} is not placed in this group", allowed)
                if name in run:
                    self.fault((*at, "run", j), f"{name} runs in two stages", "one stage")
                run[name] = i
            stages.append(Stage(tuple(stage.run), self._stalls(stage, at, text.group)))
        for name, group in self.placed.items():
            if group == text.group and name not in run:
                self.fault((*path, "schedule"), f"{name} is in no stage of the schedule")
        return Group(text.group, tree, tuple(stages), own)

    def _true(self, text: bool | str | None, path: Iterable[Step], default: bool) -> bool:
        if text is None:
            return default
        if isinstance(text, bool):
            return text
        return bool(rule(text, self.document.place(tuple(path))).value(self.scope))

    def _loops(self, names: Iterable[str], path: tuple[Step, ...]) -> tuple[Loop, ...]:
        loops = []
        for i, name in enumerate(names):
            if name not in self.loop:
                self.fault((*path, i), f"no part '{name}' of a rank", one_of(self.loop))
            else:
                loops.append(self.loop[name])
        return tuple(loops)

    def _stalls(self, stage: StageText, at: tuple[Step, ...], group: str) -> tuple[Stall, ...]:
        stalls = []
        for k, stall in enumerate(stage.stall):
            where = (*at, "stall", k, "times")
            times = rule(stall.times, self.document.place(where)).value(self.scope)
            if self.placed.get(stall.einsum) != group:
                allowed = one_of(n for n, g in self.placed.items() if g == group)
                message = f"{stall.einsum} is not placed in this group"
                self.fault((*at, "stall", k, "einsum"), message, allowed)
            if isinstance(times, str) or times < 0:
                self.fault(where, f"times is {times}", "a number, not negative")
                continue
            stalls.append(Stall(stall.einsum, float(times), stall.why))
        return tuple(stalls)

    def _node(
        self, text: NodeText, path: tuple[Step, ...], above: tuple[str, ...], held: dict[str, str]
    ) -> Node:
        """A node; ``held`` gives the level where an enclosing node holds a tensor."""
        loops = self._loops(text.for_, (*path, "for"))
        inside = (*above, *(loop.part for loop in loops))
        holds: list[Hold] = []
        for level, items in text.hold.items():
            if level not in self.arch.level:
                allowed = one_of(self.arch.level)
                self.fault((*path, "hold", level), f"no level '{level}' in the machine", allowed)
            for i, item in enumerate(items):
                one = self._hold(item, level, (*path, "hold", level, i))
                if one is not None:
                    self._nested(one, (*path, "hold", level, i), holds, held)
                    holds.append(one)
        held = {**held, **{h.tensor: h.level for h in holds if h.staged is None}}
        children: list[Tree] = []
        for i, child in enumerate(text.do):
            at = (*path, "do", i)
            if not self._true(child.when, (*at, "when"), True):
                continue
            if isinstance(child, LeafText):
                children.append(self._leaf(child, at, inside))
            else:
                children.append(self._node(child, at, inside, held))
        return Node(loops, tuple(holds), tuple(children))

    def _nested(
        self, hold: Hold, path: tuple[Step, ...], beside: list[Hold], held: dict[str, str]
    ) -> None:
        """Refuse a tile that is held twice, or further out than the tile that it is cut from."""
        order = list(self.arch.level)
        if hold.staged is not None or hold.level not in order:
            return
        if hold.level == order[0]:
            self.fault(path, f"{hold.tensor} is held in {hold.level}, where it is anyway",
                       one_of(order[1:]))  # fmt: skip
        if any(h.tensor == hold.tensor and h.staged is None for h in beside):
            self.fault(path, f"{hold.tensor} is held twice", "once for each node")
        outer = held.get(hold.tensor)
        if outer in order and order.index(outer) > order.index(hold.level):
            self.fault(
                path,
                f"{hold.tensor} is held in {hold.level} inside a tile held in {outer}",
                one_of(order[order.index(outer) :]),
            )

    def _hold(self, item: str | HoldText, level: str, path: tuple[Step, ...]) -> Hold | None:
        text = item if isinstance(item, HoldText) else HoldText(tensor=item)
        if not self._true(text.when, (*path, "when"), True):
            return None
        tensors = self.cascade.tensors
        for name in (text.tensor, text.shares):
            if name and name not in tensors:
                self.fault(path, f"no tensor '{name}' in the cascade", one_of(tensors))
        staged = None
        if text.staged is not None:
            where = {k: self.document.place((*path, "staged", k)) for k in text.staged}
            extents = {k: rule(v, where[k]).value(self.scope) for k, v in text.staged.items()}
            for k, v in extents.items():
                if not isinstance(v, int) or v < 1:
                    self.fault((*path, "staged", k), f"{k} is {v}", "a positive whole number")
            staged = tuple((k, v) for k, v in extents.items() if isinstance(v, int))
        spill = self._true(text.spill, (*path, "spill"), False)
        place = self.document.place(path)
        copies = self._copies(text.copies, path)
        return Hold(text.tensor, level, copies, spill, text.shares, staged, place)

    def _copies(self, text: int | str, path: tuple[Step, ...]) -> int:
        """How many buffers a tile has: a number, or a rule for one."""
        if isinstance(text, int) and text > 0:
            return text
        place = self.document.place((*path, "copies"))
        value = rule(text, place).value(self.scope)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.faults.append(Fault(place, f"copies is {value}", "1, 2, 3, ..."))
            return 1
        return value

    def _leaf(self, text: LeafText, path: tuple[Step, ...], above: tuple[str, ...]) -> Leaf:
        steps = self.cascade.steps
        einsum = steps.get(text.einsum)
        place = self.document.place(path)
        own = self._loops(text.for_, (*path, "for"))
        rows = self._loops(text.rows, (*path, "rows"))
        cols = self._loops(text.cols, (*path, "cols"))
        leaf = Leaf(text.einsum, text.unit, own, rows, cols, place)
        if text.unit not in self.arch.unit:
            self.fault((*path, "unit"), f"no unit '{text.unit}' in the machine",
                       one_of(self.arch.unit))  # fmt: skip
        if einsum is None:
            self.fault((*path, "einsum"), f"no Einsum '{text.einsum}' in the cascade",
                       one_of(steps))  # fmt: skip
            return leaf
        if text.einsum in self.placed:
            self.fault((*path, "einsum"), f"{text.einsum} is placed twice", "one place")
        self.placed[text.einsum] = self.name
        inside = [*above, *(loop.part for loop in (*own, *rows, *cols))]
        ranks = self.cascade.boxes[text.einsum]
        for name in dict.fromkeys(inside):
            if inside.count(name) > 1:
                self.fault(path, f"{text.einsum} runs twice over {name}", "once")
            if self.rank.get(name, "") not in ranks:
                self.fault(path, f"{text.einsum} has no rank {self.rank.get(name, name)}, "
                           f"but runs under a loop over {name}", one_of(ranks))  # fmt: skip
        for part, rank in self.rank.items():
            if rank in ranks and part not in inside:
                self.fault(path, f"{text.einsum} never runs over {part}", f"a loop over {part}")
        return leaf
