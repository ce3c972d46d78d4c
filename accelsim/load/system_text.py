"""The documents of systems: what a file under ``systems/`` may say."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

#: What a description rests on, the surest first.
Sure = Literal[
    "primary text",
    "authors' code",
    "secondary",
    "abstract only",
    "labelled hypothesis",
    "not published",
]
Kind = Literal[
    "exact",
    "sparse static",
    "sparse dynamic",
    "linear",
    "kv-cache",
    "quantised",
    "calibrated",
    "accelerator",
    "study",
    "not published",
]
#: The systems that accelsim sets out to describe.
WANTED: Final = 40

Number = int | float | str


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ParameterText(_Record):
    """A number of the system, and where it stands."""

    value: int | float
    source: str
    about: str = ""


class DensityText(_Record):
    """The share of a mask that data leaves, and where the number comes from."""

    value: Number
    source: str


class KernelText(_Record):
    """A described GPU kernel that runs the part, at sizes and with options given by rules."""

    name: str
    shape: dict[str, Number]
    sets: dict[str, Number | bool] = Field(
        {}, description="options by rules: {causal: true, kept: SHARE}"
    )
    times: Number = Field(1, description="how often it is launched")


class PartText(_Record):
    """A cascade at sizes that follow from the length, the parameters and the model's ranks."""

    cascade: str
    sizes: dict[str, Number] = Field({}, description="rules for ranks: {M: N, W: WINDOW}")
    times: Number = Field(1, description="how often it runs in a layer, as a share of the heads")
    layers: Number = Field(1, description="the share of the layers that run it")
    estimation: list[str] = Field([], description="Einsums that choose what the others compute")
    bits: dict[str, Number] = Field(
        {}, description="bits of elements of inputs and outputs; 16 else"
    )
    density: dict[str, DensityText] = Field({}, description="shares that data leaves")
    visits: Number | None = Field(
        None,
        description="share of the key tiles that a kernel visits",
    )
    kernel: KernelText | list[KernelText] = Field(
        [], description="the GPU kernels that realise it, estimation aside"
    )
    around: list[str] = Field([], description="Einsums that its kernel leaves to others")
    estimator: KernelText | list[KernelText] = Field(
        [], description="the GPU kernels that realise the estimation and the selection"
    )
    bound: str = Field("", description="why no kernel realises it: then its bound is given")
    units: dict[str, list[str]] = Field({}, description="units that an Einsum may take on an array")
    summaries: list[str] = Field([], description="inputs that stand for many keys each")
    key: str = Field("K", description="the input whose passes are counted as those over K")
    value: str = Field("V", description="and as those over V")
    rank: str = Field("M", description="the rank of keys, whose passes are counted")


class PhaseText(_Record):
    """Prefill or decode: parts that run one after the other, beside dense attention."""

    phase: Literal["prefill", "decode"]
    about: str = ""
    parts: list[PartText] = Field(min_length=1)
    dense: PartText


class VariantText(PhaseText):
    """Another method of the same paper, shown where the row is opened."""

    variant: str


class StoredText(_Record):
    """How a tensor is stored, under a name that rules may use for its bits an element."""

    name: str = Field(pattern="^[A-Z][A-Z0-9_]*$", description="of its bits in rules: W4")
    tensor: str
    format: str = Field(description="a format, as `formats/` has it")
    sizes: dict[str, Number] = Field({}, description="sizes that the format is given in")
    published: float | None = Field(None, description="bits an element that the paper implies")
    within: float = Field(0.0, description="relative distance that is allowed from that")
    source: str = ""


class HardwareText(_Record):
    """The system's own accelerator, as `arch_configs/` has it."""

    arch: str
    pipelined: bool = Field(False, description="stages of one query run beside those of others")
    source: str


class SystemText(_Record):
    """A published system: citation, how sure, and its cascades or formats."""

    system: str = Field(min_length=1)
    number: int = Field(0, ge=0, le=WANTED, description="among the forty; 0 for one of your own")
    title: str
    paper: str = Field("", description="the citation")
    sure: Sure = "primary text"
    rests: str = Field("", description="what was read, and what is inferred")
    kind: Kind
    about: str
    model: str = "Llama-3.1-8B"
    hardware: HardwareText | None = None
    leaves: dict[Literal["prefill", "decode"], str] = Field(
        {}, description="phases that it leaves as they are or does not have, and why"
    )
    parameters: dict[str, ParameterText] = Field({})
    phases: list[PhaseText] = Field([])
    variants: list[VariantText] = Field([])
    formats: list[StoredText] = Field([])
    notes: list[str] = Field([])
