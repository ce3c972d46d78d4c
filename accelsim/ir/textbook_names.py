"""Names of the references of published systems, known here without importing NumPy."""

from __future__ import annotations

from typing import Final

#: What ``ir.textbook_systems`` and ``ir.textbook_linear`` define.
SYSTEMS: Final = frozenset((
    "act", "approximate-attention", "attention-gqa-causal", "attention-layer-causal",
    "compensated-attention", "delta-keys", "hedgehog", "inline-attention", "inline-local",
    "lightning-attention-2", "linear-step", "local-enhancement", "mala", "neighbourhood-1d",
    "neighbourhood-2d",    "neighbourhood-3d", "paro-attention", "precomputed-attention", "self-score-attention",
    "shifted-chunks", "shifted-chunks-sinks", "sink-window", "strided-blocks", "transnormer",
    "zero-tuning",
))  # fmt: skip
