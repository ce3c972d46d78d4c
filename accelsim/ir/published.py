"""Published results: tables of rows, how each is predicted, and what agreement is asked for.

A published number is never a prediction: the types do not mix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from accelsim.errors import Place
from accelsim.ir.rule import Rule

#: What a published figure is asked: agreement, a bound that must hold (ours not above it, ours not
#: below it), a kernel's time, a claim that exceeds (or falls short of) what is possible, nothing.
Asked: TypeAlias = Literal[
    "within", "not above", "not below", "timing", "claimed above", "claimed below", "shown"
]
Cell: TypeAlias = str | int | float


@dataclass(frozen=True, slots=True)
class Check:
    """What a quantity of a table must agree to.

    ``within`` is a relative tolerance (for shares of time, absolute); None
    means that ours must not be above the published figure.  Rows longer than
    ``up_to`` use ``beyond`` instead.  ``where`` names a condition in words.
    """

    quantity: str
    within: float | None
    up_to: int | None = None
    beyond: float | None = None
    where: str = ""
    asked: Asked = "within"

    def tolerance(self, seq: int) -> float | None:
        """The tolerance for a row of that length; None: not above.

        >>> Check("energy", 0.01, up_to=65536, beyond=0.03).tolerance(262144)
        0.03
        """
        return self.beyond if self.up_to is not None and seq > self.up_to else self.within


@dataclass(frozen=True, slots=True)
class Timed:
    """A described GPU kernel that is a part of a published time, ``times`` over.

    ``shape`` and the rules of ``sets`` may name the columns of a row; a ``kernel`` or ``arch``
    that is the name of a column is what stands there.
    """

    kernel: str
    arch: str
    shape: tuple[tuple[str, Rule], ...]
    sets: tuple[tuple[str, Rule | str], ...]
    times: Rule


@dataclass(frozen=True, slots=True)
class Cause:
    """Why rows of a table differ from ours: of one row and quantity, or of all where empty."""

    cause: str
    row: str = ""
    quantity: str = ""

    def names(self, row: str, quantity: str) -> bool:
        """Whether it speaks of that figure.

        >>> Cause("a launch takes longer", row="128").names("128", "forward")
        True
        """
        return self.row in ("", row) and self.quantity in ("", quantity)


@dataclass(frozen=True, slots=True)
class Table:
    """A published table: rows of a configuration and of published quantities.

    ``predict`` names how ours come about, ``kernels`` the described kernels
    whose seconds add up to a quantity, ``figures`` rules over columns, ``given``
    and what was predicted before.  ``printed`` is the unit of a quantity's last
    printed digit.  Tables of a spatial design name ``design`` and ``arch``.
    """

    name: str
    about: str
    design: str
    arch: str
    columns: tuple[str, ...]
    checks: tuple[Check, ...]
    rows: tuple[tuple[Cell, ...], ...]
    predict: str = ""
    hardware: str = ""
    page: str = ""
    sure: str = ""
    given: tuple[tuple[str, Cell | bool], ...] = ()
    units: tuple[tuple[str, str], ...] = ()
    printed: tuple[tuple[str, float], ...] = ()
    kernels: tuple[tuple[str, tuple[Timed, ...]], ...] = ()
    figures: tuple[tuple[str, Rule], ...] = ()
    causes: tuple[Cause, ...] = ()
    place: Place = field(default=Place(), compare=False, repr=False)

    def row(self, number: int) -> dict[str, Cell]:
        """A row as a mapping from column to value."""
        return dict(zip(self.columns, self.rows[number], strict=True))

    def configuration(self, number: int) -> dict[str, Cell | bool]:
        """A row's configuration with what all rows share, and no published figure.

        >>> checks = (Check("latency", 0.1),)
        >>> table = Table("t", "", "", "", ("row", "n", "latency"), checks, (("a", 8, 1.5),))
        >>> table.configuration(0)
        {'row': 'a', 'n': 8}
        """
        published = {check.quantity for check in self.checks}
        own = {name: cell for name, cell in self.row(number).items() if name not in published}
        return {**dict(self.given), **own}

    def why(self, row: str, quantity: str) -> str:
        """The causes that are named for a figure, in one text; empty where there is none."""
        return "; ".join(c.cause for c in self.causes if c.names(row, quantity))


@dataclass(frozen=True, slots=True)
class Average:
    """A published mean of ratios over models and lengths."""

    name: str
    of: str
    over: str
    linear: bool
    quantity: str
    value: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One published exhibit: its citation, tables, and averages with what they run over."""

    name: str
    paper: str
    exhibit: str
    tables: tuple[Table, ...] = ()
    averages: tuple[Average, ...] = ()
    models: tuple[str, ...] = ()
    lengths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Paper:
    """One of the forty papers: the folder of its rows, and what of it cannot be predicted, why."""

    number: int
    name: str
    title: str
    argument: str
    missing: str
