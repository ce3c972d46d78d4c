"""Names of the references of published systems, known here without importing NumPy."""

from __future__ import annotations

from typing import Final

#: What the modules ``ir.textbook_*`` of systems define.
SYSTEMS: Final = frozenset((
    "act", "ada-snapkv", "approximate-attention", "attention-gqa-causal", "attention-layer",
    "attention-layer-causal", "biformer", "block-topk", "compensated-attention",
    "decoder-weights", "delta-keys", "delta-layer", "dhsa", "dhsa-boundaries", "dynamic-mask",
    "flex-prefill", "hedgehog", "hip", "inline-attention", "inline-local",
    "lightning-attention-2", "linear-step", "local-enhancement", "mala", "neighbourhood-1d",
    "neighbourhood-2d", "neighbourhood-3d", "page-mean-topk", "paged-attention", "paro-attention",
    "precomputed-attention", "qkr-layer", "quest", "routing-attention", "sale", "sea",
    "self-score-attention", "shifted-chunks", "shifted-chunks-sinks", "sink-window", "snapkv",
    "spatten", "strided-blocks", "transnormer", "vertical-slash", "zero-tuning", "zipcache",
    "zipvl",
))  # fmt: skip
