"""Sizes of ranks from the command line: ``--shape``, a named model with a length, a config.json.

A workload is a plain ``dict`` of rank sizes, more than one cascade needs;
``ir.problem.relevant`` keeps those that a cascade has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from accelsim.errors import Fault, InputError, Place, refuse
from accelsim.ir.rule import LARGEST
from accelsim.load import catalog
from accelsim.load.json_text import read_json
from accelsim.load.source import closest, read, validate

#: What the letters behind a number mean: binary, as the field writes lengths.
_LETTERS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_NUMBER: Final = re.compile(r"([0-9]{1,18})\s*([kKmMgG]?)i?", re.ASCII)
_RANK: Final = re.compile(r"[A-Z][A-Z0-9]*", re.ASCII)
_SIZES: Final = "a positive whole number, K is 1024: 4096, 4K, 1M"

#: For each rank the keys of a Hugging Face config.json that give it, best first; a dot goes into a
#: part of the config.
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "D": ("hidden_size", "n_embd", "d_model", "dim", "emb_dim"),
    "H": (
        *("num_attention_heads", "n_head", "num_heads", "n_heads"),
        *("encoder_attention_heads", "decoder_attention_heads"),
    ),
    "HK": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "attn_config.kv_n_heads"),
    "E": ("head_dim", "d_kv", "attention_head_dim", "kv_channels", "d_head"),
    "S": (
        *("intermediate_size", "n_inner", "d_ff", "ffn_dim", "ffn_hidden_size", "hidden_dim"),
        *("d_inner", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_config.ffn_hidden_size"),
    ),
    "W": ("sliding_window",),
}
#: What the parts of encoder-decoder configs are called that must say the same.
_BOTH: Final = ("attention_heads", "ffn_dim")
#: Where a multimodal config keeps the model that reads text.
_TEXT: Final = ("text_config", "llm_config", "language_config")


class Model(BaseModel):
    """A named workload: what it is, where its numbers come from, and its ranks."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    about: str
    source: str
    ranks: dict[str, PositiveInt] = Field(min_length=1)


class _Models(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    models: dict[str, Model]


def _load() -> dict[str, Model]:
    path = catalog.folder("arch_configs") / "models" / "models.yaml"
    return validate(read(path), _Models).models


#: The named models, in the order of their file, ``arch_configs/models/models.yaml``.
MODELS: Final[dict[str, Model]] = _load()


def length(text: int | str, place: Place | None = None) -> int:
    """A positive whole number, with K = 1024, M and G behind it where wanted.

    >>> length("64K"), length("1M"), length(197)
    (65536, 1048576, 197)
    """
    found = _NUMBER.fullmatch(str(text).strip())
    size = int(found[1]) * _LETTERS[found[2].upper()] if found else 0
    if size < 1 or isinstance(text, bool):
        raise refuse(f"{repr(text)[:60]} is no size", _SIZES, place)
    if size > LARGEST:
        raise refuse(f"{repr(text)[:60]} is more than {LARGEST:,}", _SIZES, place)
    return size


def shape_from_text(text: str) -> dict[str, int]:
    """The sizes in ``B=64,H=12,M=4K``.  Raises ``InputError`` with every fault and its column.

    >>> shape_from_text("B=64, M=4K")
    {'B': 64, 'M': 4096}
    """
    sizes: dict[str, int] = {}
    faults: list[Fault] = []
    column = 1
    for pair in text.split(","):
        start = column + len(pair) - len(pair.lstrip())
        place = Place("--shape", 1, start, text)
        column += len(pair) + 1
        rank, equals, size = (part.strip() for part in pair.partition("="))
        if not equals or not _RANK.fullmatch(rank):
            message = f"{pair.strip()!r} is no size of a rank"
            faults.append(Fault(place, message, "RANK=SIZE, ranks upper case: B=64,H=12,M=4K"))
            continue
        if rank in sizes:
            faults.append(Fault(place, f"{rank} is given twice", "one size for each rank"))
        try:
            sizes[rank] = length(size, place.moved(pair.strip().index("=") + 1))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return sizes


def asked(shape: Mapping[str, int] | str | None) -> tuple[str, ...]:
    """The ranks that a shape names.

    >>> asked("B=1,M=64")
    ('B', 'M')
    """
    return tuple(shape_from_text(shape) if isinstance(shape, str) else shape or ())


def workload(
    model: str | None = None,
    seq: int | str | None = None,
    shape: Mapping[str, int] | str | None = None,
    config: str | Path | None = None,
) -> dict[str, int]:
    """Rank sizes of a named ``model`` or a Hugging Face ``config`` at a length, with a ``shape``.

    ``seq`` is the size of both P and M; where it is left out, a model that
    fixes its own positions (a vision or video model) has those.  ``shape``
    overrides what the others say.  Without a model, ``shape`` and ``seq`` are
    all.

    >>> workload("BERT", "4K", "B=1")["M"], workload("BERT", "4K", "B=1")["B"]
    (4096, 1)
    """
    if model is not None and config is not None:
        raise refuse("both a model and a config are given", "one of them")
    if model is None and config is None and shape is None and seq is None:
        raise refuse("no workload is given", "a model and a length, a config, or a shape")
    sizes: dict[str, int] = {}
    if model is not None:
        sizes = dict(_named(model).ranks)
    elif config is not None:
        sizes = {"B": 1, **ranks_of_config(config)}
    if seq is not None:
        sizes["P"] = sizes["M"] = length(seq, Place("--seq"))
    given = shape_from_text(shape) if isinstance(shape, str) else _checked(shape or {})
    sizes |= given
    if model is not None or config is not None:
        if "P" not in sizes and "M" not in sizes:
            raise refuse(
                f"{model or config} has no sequence length of its own",
                "a length, such as --seq 4096, or P and M in the shape",
            )
        if "HK" not in sizes and "G" not in sizes:
            sizes["HK"] = sizes["H"]
    return sizes


def _checked(shape: Mapping[str, int]) -> dict[str, int]:
    """A shape given as a mapping: sizes may be text such as 4K; the faults come together."""
    sizes: dict[str, int] = {}
    faults: list[Fault] = []
    for rank, size in shape.items():
        try:
            sizes[rank] = length(size, Place(f"shape {rank}"))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return sizes


def _named(name: str) -> Model:
    """The model of a name, whose case does not matter."""
    by_case = {known.lower(): model for known, model in MODELS.items()}
    found = by_case.get(name.lower())
    if found is None:
        raise refuse(f"no model is called {name!r}", closest(name, MODELS))
    return found


# -- a Hugging Face config.json --------------------------------------------------------------


def ranks_of_config(path: str | Path) -> dict[str, int]:
    """The ranks that a Hugging Face ``config.json`` on disk gives: H, HK, E, F, D, S, W.

    Where the file has no head dimension it is D / H, and no feed-forward
    dimension 4 D (GPT-2's rule).  Raises ``InputError`` for a file that is no
    such config.
    """
    file = str(path)
    config = _text_model(read_json(file, dict, "a config.json"))
    place = Place(file)
    faults: list[Fault] = []
    sizes: dict[str, int] = {}
    for rank, keys in _KEYS.items():
        for key in keys:
            value = _of(config, key)
            if value is None or (rank == "W" and config.get("use_sliding_window") is False):
                continue
            fault = _no_size(key, value, place)
            if fault is not None:
                faults.append(fault)
            sizes[rank] = value
            break
    for key in _BOTH:
        encoder, decoder = config.get(f"encoder_{key}"), config.get(f"decoder_{key}")
        if None not in (encoder, decoder) and encoder != decoder:
            message = f"encoder_{key} = {encoder} and decoder_{key} = {decoder} differ"
            faults.append(Fault(place, message, "one of both in a config of its own, or --shape"))
    for rank, what in (("D", "model dimension"), ("H", "number of attention heads")):
        if rank not in sizes and not (rank == "D" and "E" in sizes and "H" in sizes):
            faults.append(Fault(place, f"no {what}", " or ".join(_KEYS[rank])))
    if faults:
        raise InputError(faults)
    return _completed(config, sizes, place)


def _of(config: Mapping[str, Any], key: str) -> Any:
    """The value of a key; a dot goes into a part of the config."""
    part, dot, rest = key.partition(".")
    value = config.get(part)
    return _of(value if isinstance(value, dict) else {}, rest) if dot else value


def _no_size(key: str, value: Any, place: Place) -> Fault | None:
    """What is wrong with a size of a config, if anything is."""
    if isinstance(value, list):
        message = f"{key} differs by layer: {str(value)[:40]}"
        return Fault(place, message, "the sizes of one layer in --shape")
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and 1 <= value <= LARGEST:
        return None
    shown = str(value)[:40] if whole else repr(value)[:40]
    return Fault(place, f"{key} = {shown} is no size", "a positive integer")


def _completed(config: Mapping[str, Any], sizes: dict[str, int], place: Place) -> dict[str, int]:
    """``sizes`` with what follows from them."""
    heads = sizes["H"]
    if config.get("multi_query") is True and config.get("new_decoder_architecture") is not True:
        sizes["HK"] = 1  # whatever num_kv_heads says, as Falcon's and GPTBigCode's code has it
    groups = config.get("multi_query_group_num")
    if config.get("multi_query_attention") is True and isinstance(groups, int) and groups > 0:
        sizes["HK"] = groups  # ChatGLM
    nope, rope = config.get("qk_nope_head_dim"), config.get("qk_rope_head_dim")
    if isinstance(nope, int) and isinstance(rope, int):  # multi-head latent attention
        sizes["E"] = nope + rope
    if "E" not in sizes:
        if sizes["D"] % heads:
            message = f"D = {sizes['D']} is not a multiple of H = {heads}"
            raise InputError([Fault(place, message, "head_dim, or sizes that divide")])
        sizes["E"] = sizes["D"] // heads
    value = config.get("v_head_dim")
    sizes["F"] = value if isinstance(value, int) and value > 0 else sizes["E"]
    sizes.setdefault("HK", heads)
    sizes.setdefault("D", heads * sizes["E"])
    ratio = config.get("expansion_ratio")
    sizes.setdefault("S", (ratio if isinstance(ratio, int) and ratio > 0 else 4) * sizes["D"])
    if heads % sizes["HK"]:
        message = f"H = {heads} is not a multiple of HK = {sizes['HK']}"
        raise InputError([Fault(place, message, "key heads that divide the query heads")])
    return sizes


def _text_model(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of the config of a multimodal model that is about text."""
    for name in _TEXT:
        inner = config.get(name)
        if isinstance(inner, dict) and not any(k in config for k in _KEYS["H"]):
            return inner
    return config
