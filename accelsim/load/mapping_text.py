"""The documents of mappings and of published choices, as Pydantic models."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Scalar = str | int | float | bool


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class HoldText(_Record):
    """A tile that is held; a bare tensor name stands for one with all defaults."""

    tensor: str
    copies: int | str = Field(1, description="buffers, a number or a rule: 2 for double buffering")
    spill: bool | str = Field(False, description="what does not fit is served from outside")
    shares: str = Field("", description="tensor whose room the tile reuses")
    staged: dict[str, str | int] | None = Field(
        None, description="the tile only passes through: its extents by rank"
    )
    when: str | None = None


class LeafText(_Record):
    """One Einsum on one unit."""

    einsum: str
    unit: str
    rows: list[str] = Field(default_factory=list, description="parts spread over rows")
    cols: list[str] = Field(default_factory=list, description="parts spread over columns")
    for_: list[str] = Field(default_factory=list, alias="for", description="loops, outermost first")
    when: str | None = None


class NodeText(_Record):
    """Loops, what is held inside them, and what runs there."""

    for_: list[str] = Field(default_factory=list, alias="for")
    hold: dict[str, list[str | HoldText]] = Field(default_factory=dict)
    do: list[TreeText]
    when: str | None = None


def _kind(value: Any) -> str:
    known = isinstance(value, LeafText) or (isinstance(value, dict) and "einsum" in value)
    return "an Einsum" if known else "a nest"


TreeText = Annotated[
    Annotated[LeafText, Tag("an Einsum")] | Annotated[NodeText, Tag("a nest")], Discriminator(_kind)
]


class StallText(_Record):
    """Cycles in which a stage waits."""

    einsum: str
    times: str | int | float
    why: str


class StageText(_Record):
    """Einsums that run at once on their units."""

    run: list[str] = Field(min_length=1)
    stall: list[StallText] = Field(default_factory=list)


class GroupText(_Record):
    """A fused loop nest and its steady-state schedule."""

    group: str
    split: dict[str, list[str]] = Field(
        default_factory=dict, description="ranks that this group cuts in a way of its own"
    )
    imperfect: list[str] = Field(default_factory=list, description="of these, as for all groups")
    nest: NodeText
    schedule: list[StageText] = Field(min_length=1)


class MappingText(_Record):
    """A mapping file."""

    mapping: str
    about: str = ""
    source: str
    cascade: str
    choices: str | None = Field(None, description="file of published choices")
    let: dict[str, Scalar] = Field(default_factory=dict, description="rules, in order")
    split: dict[str, list[str]] = Field(default_factory=dict)
    imperfect: list[str] = Field(
        default_factory=list,
        description="ranks that their parts, the cascade's own or those of split, need not divide: "
        "short last tiles",
    )
    groups: list[GroupText] = Field(min_length=1)


class ChoicesText(_Record):
    """A table of published choices: rows of the ``when`` columns, then the ``let`` columns."""

    choices: str
    about: str = ""
    source: str
    when: list[str] = Field(min_length=1)
    let: list[str] = Field(min_length=1)
    rows: list[list[Scalar]]
