"""FlashAttention-2's launches where its queries are few, as PyTorch's profiler tells them."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from accelsim.gpu import measure
from accelsim.gpu.record import document, write

#: Batch, heads, queries, keys, head dimension, causal: from one key tile a split to thirty-six.
CASES = (
    (2, 4, 1024, 1024, 128, 1), (1, 16, 694, 694, 128, 0), (3, 1, 768, 31768, 128, 0),
    (2, 2, 1114, 1114, 128, 0), (2, 1, 896, 896, 128, 0), (5, 4, 527, 1808, 96, 0),
    (2, 1, 1536, 1536, 96, 0), (1, 4, 1792, 1792, 96, 0), (2, 2, 640, 640, 96, 0),
    (9, 1, 896, 896, 96, 0), (1, 4, 2128, 2128, 64, 1), (1, 8, 512, 4096, 64, 0),
    (1, 8, 1024, 1024, 64, 0), (1, 4, 1024, 8192, 64, 0), (1, 2, 4096, 4096, 64, 0),
    (1, 8, 1024, 1024, 64, 1), (8, 2, 700, 3000, 64, 0), (1, 6, 1500, 1500, 128, 0),
)  # fmt: skip


def rows() -> list[dict[str, Any]]:
    """Each case's kernels: name, grid, registers, seconds; and those of an empty one beside."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention
    from torch.profiler import ProfilerActivity, profile

    found = []
    for b, h, p, m, e, causal in CASES:
        q = torch.randn(b, h, p, e, device="cuda", dtype=torch.bfloat16)
        k = torch.randn(b, h, m, e, device="cuda", dtype=torch.bfloat16)
        v = torch.randn_like(k)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            for _ in range(5):
                scaled_dot_product_attention(q, k, v, is_causal=bool(causal))
            torch.cuda.synchronize()
            time.sleep(measure.REST_S)
            with profile(activities=[ProfilerActivity.CUDA]) as told:
                for _ in range(10):
                    scaled_dot_product_attention(q, k, v, is_causal=bool(causal))
                torch.cuda.synchronize()
        case = {"B": b, "H": h, "P": p, "M": m, "E": e, "causal": bool(causal)}
        found.append({"case": case, "kernels": kernels(told)})
        print(case, [(x["grid"], f"{1e6 * x['seconds']:.1f}") for x in found[-1]["kernels"]])
    return found


def kernels(told: Any) -> list[dict[str, Any]]:
    """The kernels of a profile, in the order of their first launch; medians of their times."""
    with tempfile.TemporaryDirectory() as folder:
        told.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(f"{folder}/trace.json").read_text())["traceEvents"]
    each: dict[str, list[dict[str, Any]]] = {}
    for event in sorted((e for e in events if e.get("cat") == "kernel"), key=lambda e: e["ts"]):
        each.setdefault(event["name"], []).append(event)
    return [
        {
            "name": name.split("<")[0],
            "grid": seen[0]["args"]["grid"],
            "threads": seen[0]["args"]["block"][0],
            "registers": seen[0]["args"]["registers per thread"],
            "seconds": 1e-6 * statistics.median(event["dur"] for event in seen),
        }
        for name, seen in each.items()
    ]


def library_splits(out: Path) -> None:
    """The record of all of them."""
    import torch

    how = "medians of ten launches under PyTorch's profiler, about 0.9 us of launch in each"
    more = {"how": how, "torch": torch.__version__}
    write(out / "library-splits.json", document("FlashAttention-2, split keys", rows(), **more))
