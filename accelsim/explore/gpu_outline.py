"""A kernel on a GPU as a tile loop nest: blocks, what is held where, stages, warps, waves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.mapper.gpu_tiles import registers, shared_bytes
from accelsim.models.gpu_estimate import KernelEstimate

if TYPE_CHECKING:
    from accelsim.explore.gpu_choice import Choice


def outline(gpu: Gpu, choice: Choice | None, found: KernelEstimate) -> list[str]:
    """The plan as lines of an indented loop nest; a line a launch where nothing was chosen.

    >>> from accelsim.explore.gpu_choice import choose
    >>> from accelsim.load.gpu import load_gpu
    >>> sizes = {"B": 1, "H": 16, "P": 8192, "M": 8192, "E": 128, "F": 128}
    >>> choice = choose(load_gpu("h100-sxm"), "attention", 1, sizes)
    >>> lines = outline(load_gpu("h100-sxm"), choice, choice.estimate)
    >>> lines[0].split(":")[0], lines[1].split(", p1")[0], lines[-1]
    ('attention-1pass-wgmma', 'for b in 1, h in 16', '  AV / SD to memory')
    """
    if choice is None:
        return [_launch_line(one) for one in found.to_dict()["launches"]]
    kernel, tile = choice.taken.kernel, choice.taken.tile
    sizes = dict(found.problem)["sizes"]
    if kernel.family == "attention":
        return [*_head(gpu, kernel, tile, found), *_attention(gpu, kernel, tile, sizes)]
    if kernel.family == "decode":
        return [*_head(gpu, kernel, tile, found), *_decode(gpu, kernel, tile, sizes, found)]
    return [_launch_line(one) for one in found.to_dict()["launches"]]


def splits(found: KernelEstimate) -> int:
    """Blocks that share the keys of a head: more than one only in a decoding step.

    >>> from accelsim.explore.gpu_choice import choose
    >>> from accelsim.load.gpu import load_gpu
    >>> sizes = {"B": 1, "H": 8, "P": 1, "M": 65536, "E": 128, "F": 128}
    >>> splits(choose(load_gpu("h100-sxm"), "attention", 1, sizes).estimate) > 8
    True
    """
    if "merge" not in {one.launch.name for one in found.launches}:
        return 1
    sizes = dict(found.problem)["sizes"]
    heads = sizes["B"] * (sizes.get("HK") or sizes["H"])
    groups = -(-(sizes["B"] * sizes["H"] // heads) // 16)
    return int(found.launches[0].launch.blocks // (heads * groups))


def _head(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, found: KernelEstimate) -> list[str]:
    launch = found.launches[0].launch
    threads = tile.threads + (128 if kernel.path == "wgmma" else 0)
    resident = launch.slots // gpu.multiprocessors
    taken = ", one after another from a queue" if kernel.persistent else ""
    return [
        f"{kernel.name}: {launch.blocks} blocks of {threads} threads, {resident} on each "
        f"multiprocessor, {launch.waves:.2f} waves{taken}"
    ]


def _attention(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, sizes: dict[str, int]) -> list[str]:
    scores, values = sizes["E"], sizes.get("F", sizes["E"])
    heads = f"for b in {sizes['B']}, h in {sizes['H']}"
    need, most = registers(kernel, tile, values, gpu)
    shared = f"{shared_bytes(kernel, tile, scores, values) / 1024:.4g}"
    limit = f"{gpu.multiprocessor.block_shared_bytes / 1024:.4g} KiB"
    lead = (
        f"{tile.warps // 4} consumer warpgroups of 64 rows beside a producer"
        if kernel.path == "wgmma"
        else f"{tile.warps} warps of {16 * tile.row_tiles} rows"
    )
    around = f"  shared memory holds Q[{tile.rows} x {scores}]"
    loop = f"for m1 in {-(-sizes['M'] // tile.columns)}, {tile.stages} stages in flight"
    product = f"      QK[{tile.rows} x {tile.columns}] by {kernel.path}, in registers"
    found = [
        f"{heads}, p1 in {-(-sizes['P'] // tile.rows)}: a block each ({lead})",
        around,
        f"  registers hold AV[{tile.rows} x {values}], a maximum and a sum a row: "
        f"{need} a thread of {most}",
    ]
    keys = f"K[{tile.columns} x {scores}]"
    both = f"{keys} and V[{tile.columns} x {values}]"
    if kernel.passes == 2:
        found += [
            f"  {loop}",
            f"    shared memory holds {keys}",
            f"{product}; maximum and sum of exponentials run",
        ]
    found += [
        f"  {loop}",
        f"    shared memory holds {both} ({shared} of {limit} in all)",
        f"{product}; maximum, exponential, sum",
        f"      AV[{tile.rows} x {values}] += SN V by {kernel.path}"
        + ("" if kernel.correction == "never" else f", corrected {kernel.correction}"),
    ]
    return [*found, "  AV / SD to memory"]


def _decode(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, sizes: dict[str, int], found: KernelEstimate
) -> list[str]:
    keys = sizes.get("HK") or sizes["H"]
    parts = splits(found)
    need, most = registers(
        kernel, tile, sizes["E"], gpu, int(dict(found.problem)["options"]["bits"])
    )
    ahead = ", the next on their way" if tile.stages > 1 else ""
    each = -(-sizes["M"] // parts)
    lines = [
        f"for b in {sizes['B']}, h in {keys} key heads, m2 in {parts} splits: a block each",
        f"  {tile.warps} warps hold the output of {sizes['H'] // keys} query heads "
        f"({need} registers a thread of {most})",
        f"  for m1 in {-(-each // (tile.columns * tile.warps))}: {tile.columns} keys a warp{ahead}",
        "    QK, maximum, exponential, sum, AV",
    ]
    return [*lines, f"merge of {parts} splits"] if parts > 1 else lines


def _launch_line(one: dict[str, Any]) -> str:
    tile = f", {one['tile']}" if one["tile"] else ""
    return f"{one['name']}{tile}: {one['blocks']} blocks, {one['waves']:.2f} waves"
