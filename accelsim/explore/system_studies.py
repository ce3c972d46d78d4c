"""What studies among the systems compute, beside ours: shown where their row is opened.

Kinetics' eFLOPs beside counted operations, rooflines and predictions; the
scaling law of low-bit weights as a constraint in a search over bit-widths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from accelsim.analysis.degradation import least_bits, loss_increase
from accelsim.analysis.eflops import Cost, Decoder, block_top_k, dense
from accelsim.explore.loads import load_of, scope_of, total
from accelsim.explore.predictions import on_array, on_gpu
from accelsim.explore.roofline import ARRAY, GPU
from accelsim.ir.rule import Rule, rule
from accelsim.load.system import Part, Phase, System

#: Formats of the described kernel for products with weights, by bits.
FORMATS: Final = {2: "int2", 3: "int3", 4: "int4"}
#: Widths of the search.
WIDTHS: Final = (2, 3, 4, 5, 6, 8, 16)
BITS: Final = 16.0


@dataclass(frozen=True, slots=True)
class Study:
    """A table: a title, its columns, rows of words and numbers, and what it says."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    says: str

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        own = {name: getattr(self, name) for name in ("title", "columns", "says")}
        return own | {"rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows]}


def study_of(found: System, lengths: Sequence[int]) -> Study | None:
    """The study of a system, by its name; None of one that is no study, or has no table here.

    >>> from accelsim.load.system import load_system
    >>> study_of(load_system("kinetics"), [32768]).rows[0][:2]
    (32768, 'dense')
    """
    known: dict[str, Callable[[System, Sequence[int]], Study]] = {
        "kinetics": _kinetics,
        "low-bit-undertrained": _bit_widths,
    }
    return known[found.name](found, lengths) if found.name in known else None


def _kinetics(found: System, lengths: Sequence[int]) -> Study:
    """Costs of one token and layer by Kinetics' formulas, by our counts, and our times."""
    (phase,) = found.phases
    rows: list[tuple[str | float, ...]] = []
    for seq in lengths:
        scope = scope_of(found, seq)
        heads, keys, width = (int(scope[name]) for name in ("H", "HK", "E"))
        model = Decoder(0.0, heads * width, keys * width)
        page, pages = int(scope["PAGE"]), int(scope["PAGES"])
        theirs = {
            "dense": dense(model, seq - 1, 1),
            "block top-k": block_top_k(model, seq - 1, 1, blocks=pages, block=page),
        }
        array = on_array(ARRAY, phase.parts, phase.dense, scope)
        gpu = on_gpu(GPU, phase.parts, phase.dense, scope)
        for name, parts in (("dense", [phase.dense]), ("block top-k", list(phase.parts))):
            ours = _counted(parts, scope)
            own = name != "dense"
            rows.append(
                (
                    seq,
                    name,
                    theirs[name].eflops,
                    ours.eflops,
                    array.seconds * (1 if own else array.speedup),
                    gpu.seconds * (1 if own else gpu.speedup),
                    theirs["dense"].eflops / theirs[name].eflops,
                    _counted([phase.dense], scope).eflops / ours.eflops,
                    array.speedup if own else 1.0,
                    gpu.speedup if own else 1.0,
                )
            )
    columns = (
        *("length", "attention", "their eFLOPs", "by our counts", f"{ARRAY}, s", f"{GPU}, s"),
        *("their speedup", "by our counts, x", f"{ARRAY}, x", f"{GPU}, x"),
    )
    return Study(
        "Kinetics' cost model beside ours: one token, one layer, batch 1",
        columns,
        tuple(rows),
        "eFLOPs add memory to compute as if nothing overlapped, and count an element of K and V"
        " twice; ours count it once. Theirs reads a page once for all heads of a group, in our"
        " cascade each head reads the pages that it chose, as in the released benchmark. Kernels"
        " also take launches, which eFLOPs do not know",
    )


def _counted(parts: Sequence[Part], scope: Mapping[str, Any]) -> Cost:
    """Our operations and bytes in their unit: two FLOP a multiply-add, one of anything else."""
    load = total([load_of(part, scope) for part in parts])
    flop = load.ops + load.ops_by_class.get("mac", 0.0)
    return Cost(flop, load.bytes * 8 / BITS)


def _bit_widths(found: System, _lengths: Sequence[int]) -> Study:
    """Widths of a decoder layer's weights, and the best of those that the law allows."""
    (phase,) = found.phases
    known = found.parameters
    size, tokens, most = known["PARAMETERS"], known["TOKENS"], known["ALLOWED"]
    scope = scope_of(found, 1)
    rows: list[tuple[str | float, ...]] = []
    for bits in WIDTHS:
        part = at_width(phase, bits)
        array = on_array(ARRAY, [part], phase.dense, scope)
        gpu = on_gpu(GPU, [part], phase.dense, scope)
        loss = loss_increase(size, tokens, bits)
        allowed = "yes" if loss <= most else "no"
        rows.append((bits, loss, allowed, array.seconds, array.joules, gpu.seconds, gpu.how))
    allowed_rows = [row for row in rows if row[2] == "yes"]
    frugal = min(allowed_rows, key=lambda row: (row[3], row[4]))
    fast = min((row for row in allowed_rows if row[6] == "kernel"), key=lambda row: row[5])
    return Study(
        f"Bit-widths of weights under a loss of at most {most:g} nats",
        ("bits", "loss, nats", "allowed", f"{ARRAY}, s", f"{ARRAY}, J", f"{GPU}, s", "by"),
        tuple(rows),
        f"{size:g} parameters, {tokens:g} tokens: the law allows {least_bits(size, tokens, most)}"
        f" bits and more; of these {frugal[0]} are best on the array (time, then energy) and"
        f" {fast[0]} on the GPU with a described kernel. A layer of {found.text.model}, one token",
    )


def at_width(phase: Phase, bits: int) -> Part:
    """The phase's part with all weights at so many bits, in the kernel that reads them.

    >>> from accelsim.load.system import load_system
    >>> part = at_width(load_system("low-bit-undertrained").phases[0], 8)
    >>> part.kernels, part.bound
    ((), 'no described kernel reads weights of 8 bits')
    """
    (part,) = phase.parts
    stored = tuple((name, rule(bits)) for name, _ in part.bits)
    if bits == BITS:
        return phase.dense
    if bits not in FORMATS:
        why = f"no described kernel reads weights of {bits} bits"
        return replace(part, bits=stored, kernels=(), bound=why)
    option: tuple[tuple[str, Rule | bool], ...] = (("format", rule(f"'{FORMATS[bits]}'")),)
    kernels = tuple(replace(kernel, sets=option) for kernel in part.kernels)
    return replace(part, bits=stored, kernels=kernels)
