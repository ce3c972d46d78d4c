"""The fields of a cascade's document, for its JSON Schema and for messages about misfits.

Pydantic costs more at start-up than all of loading a cascade, so
``load.cascade`` imports this only when a document does not fit.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

_RANK: dict[str, Any] = {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"}
_NAME: dict[str, Any] = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]*$"}
_LINE: dict[str, Any] = {
    "type": "string",
    "examples": ["QK[b,h,m,p] = Q[b,h,p,e] * K[b,h,m,e]", "RM[b,h,0,p] = -inf"],
}
#: YAML takes ``A = B :: max(m)`` for a key ``A = B :`` with a value.
_REDUCED: dict[str, Any] = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "patternProperties": {"=.*:$": {"type": "string"}},
    "additionalProperties": False,
}

Rank = Annotated[str, WithJsonSchema(_RANK)]
Name = Annotated[str, WithJsonSchema(_NAME)]
Line = Annotated[str, WithJsonSchema({"anyOf": [_LINE, _REDUCED]})]


class StorageText(BaseModel):
    """A format by name, and for each size that it is given in a rank or a number."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, str | int] = Field(init=False)

    format: str = Field(description="the name or file of a format")


class DensityText(BaseModel):
    """The share of a mask that is nonzero, or of a tensor's points that thresholds leave."""

    model_config = ConfigDict(extra="forbid", strict=True)

    value: float = Field(description="the share, more than 0 and at most 1")
    source: str = Field(description="where the number comes from")


class CascadeText(BaseModel):
    """A cascade of extended Einsums: ranks, inputs, outputs and the lines between."""

    model_config = ConfigDict(extra="forbid", strict=True)

    cascade: str = Field(description="the cascade's name", min_length=1)
    source: str = Field("", description="where it was published")
    about: str = Field("", description="what it is, in one line")
    family: str = Field("", description="the group that it is listed in")
    ranks: list[Rank] = Field(description="a list of ranks, upper case: [B, H, P, M]")
    inputs: dict[Name, list[Rank]] = Field(
        description="input tensors with their ranks: {Q: [B, H, P, E]}"
    )
    output: Name = Field("", description="the tensor that the cascade computes")
    outputs: list[Name] = Field([], description="the tensors that it computes, if several")
    equals: str = Field("", description="the textbook function or cascade that it must equal")
    split: dict[Rank, list[Rank]] = Field(
        {}, description="ranks in parts, outermost first: {M: [M1, M0]}"
    )
    indexes: dict[Name, Rank] = Field(
        {}, description="index tensors and the rank they count in, where nothing tells: {I: N}"
    )
    formats: dict[Name, str | StorageText] = Field(
        {}, description="formats of tensors, by name: {K: int4-g128}; others are machine words"
    )
    density: dict[Name, DensityText] = Field(
        {}, description="shares that data decides: {Keep: {value: 0.15, source: measured}}"
    )
    constants: dict[Name, float] = Field({}, description="numbers by name: {eps: 1e-5}")
    einsums: list[Line] = Field(description="a list of Einsums in order, each tensor written once")
