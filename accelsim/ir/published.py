"""Published results: tables of rows, and what agreement with each quantity is asked for.

A published number is never a prediction: the types do not mix.
"""

from __future__ import annotations

from dataclasses import dataclass


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

    def tolerance(self, seq: int) -> float | None:
        """The tolerance for a row of that length; None: not above.

        >>> Check("energy", 0.01, up_to=65536, beyond=0.03).tolerance(262144)
        0.03
        """
        return self.beyond if self.up_to is not None and seq > self.up_to else self.within


@dataclass(frozen=True, slots=True)
class Table:
    """A published table: one design on rows of workloads."""

    name: str
    about: str
    design: str
    arch: str
    columns: tuple[str, ...]
    checks: tuple[Check, ...]
    rows: tuple[tuple[str | int | float, ...], ...]

    def row(self, number: int) -> dict[str, str | int | float]:
        """A row as a mapping from column to value."""
        return dict(zip(self.columns, self.rows[number], strict=True))


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
