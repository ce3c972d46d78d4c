"""From measured rows to the text of a GPU file: which row says what, and how it was found.

Rows are those of ``microbench`` and ``waits``, just measured or read from a
record, so nothing here needs a GPU.  A number is the best of its rows, since a
ceiling is what can be reached at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from accelsim.gpu.device import GpuError, slug
from accelsim.gpu.record import Record
from accelsim.gpu.waits import acts_s, response_s

Row = Mapping[str, Any]

#: Blocks that a multiprocessor holds, by compute capability (CUDA C++ Programming Guide).
BLOCKS: Final = {"8.0": 32, "8.6": 16, "8.7": 16, "8.9": 24, "9.0": 32, "10.0": 32, "12.0": 24}
GUIDE: Final = "NVIDIA, CUDA C++ Programming Guide, technical specifications by compute capability"
#: Rows of tensor rates and energies, by path and type.
TENSOR: Final = {
    "mma": {
        "bf16": "mma.sync.m16n8k16.bf16", "f16": "mma.sync.m16n8k16.f16",
        "s8": "mma.sync.m16n8k32.s8", "e4m3": "mma.sync.m16n8k32.e4m3",
    },
    "wgmma": {
        "bf16": "wgmma.m64n128k16.bf16.shared", "f16": "wgmma.m64n128k16.f16.shared",
        "s8": "wgmma.m64n128k32.s8.shared", "e4m3": "wgmma.m64n128k32.e4m3.shared",
    },
}  # fmt: skip
#: Rows of lane operations; integer logic may stand in old records for by what shares its pipe.
LANES: Final = {
    "ex2": ("ex2.approx.f32",), "fma": ("fma.f32",), "add": ("add.f32",), "max": ("max.f32",),
    "cvt": ("cvt.bf16x2.f32",), "shuffle": ("shfl.idx",), "alu": ("lop3.b32", "max.f32"),
}  # fmt: skip
#: What a wait is called in its row.
WAITS: Final = ("mma", "ex2", "alu", "shuffle", "shared")
#: The clock with barriers and little else at work.
AWAKE: Final = "bar.sync (clock up, little work)"
#: Bytes from row to row of the panels whose rate a file has: scores of 8192 keys.
PITCH: Final = 16384


def rounded(value: float, unit: str = "") -> str | int | float:
    """Four digits, and the unit.

    >>> rounded(3.1302e12, "B/s"), rounded(4095.9), rounded(63.524)
    ('3.13 TB/s', 4096, 63.52)
    """
    scale = ""
    if unit:
        steps = (1e12, "T"), (1e9, "G"), (1e6, "M"), (1.0, ""), (1e-3, "m"), (1e-6, "u")
        size, scale = next(
            ((s, p) for s, p in (*steps, (1e-9, "n"), (1e-12, "p")) if value >= s), (1e-12, "p")
        )
        value /= size
    number = float(f"{value:.4g}")
    whole = int(number) if number == int(number) else number
    return f"{whole} {scale}{unit}" if unit else whole


@dataclass(frozen=True)
class Found:
    """The rows of one GPU by what they are of."""

    ceilings: Record
    energy: Record

    def __post_init__(self) -> None:
        one, two = self.ceilings.device["name"], self.energy.device["name"]
        if one != two:
            raise GpuError(f"the ceilings are of {one}, the energies of {two}", "one GPU")

    def rows(self, what: str, test: Callable[[Row], bool] = lambda _: True) -> list[Row]:
        """Rows of that name for which ``test`` holds."""
        return [row for row in self.ceilings.rows if row["what"] == what and test(row)]

    def most(self, what: str, key: str, test: Callable[[Row], bool] = lambda _: True) -> float:
        """The best of those rows; refuses a record that has none."""
        rows = self.rows(what, test)
        if not rows:
            raise GpuError(f"the record of ceilings has no row of {what}", "a run of calibrate")
        return max(float(row[key]) for row in rows)

    def sustained(self, what: str) -> Row | None:
        """The energy row of that name, where the board counts energy."""
        return next((row for row in self.energy.rows if row["what"] == what), None)

    @property
    def awake_w(self) -> float:
        """Power with the clock up and little at work."""
        row = self.sustained(AWAKE)
        if row is None:
            name = self.energy.device["name"]
            raise GpuError(
                f"the board of {name} counts no energy, which a GPU file needs",
                "a board with an energy counter (NVML)",
            )
        return float(row["power_w"])


def sourced(value: str | float, source: str) -> dict[str, str | float]:
    """A number with where it comes from."""
    return {"value": value, "source": source}


def tensor(found: Found) -> dict[str, dict[str, Any]]:
    """FLOP a cycle a multiprocessor of each path and type that was measured."""
    text: dict[str, dict[str, Any]] = {}
    for path, kinds in TENSOR.items():
        for kind, name in kinds.items():
            shape = name.split(".")[0]
            rows = [
                r for r in found.ceilings.rows
                if r["what"] == name
                or (path == "wgmma" and shape in r["what"] and name.split(".")[2] in r["what"])
            ]  # fmt: skip
            if rows:
                best = max(rows, key=lambda r: r["per_cycle_sm"])
                note = "; its bf16 form" if kind == "f16" and ".bf16" in best["what"] else ""
                text.setdefault(path, {})[kind] = sourced(
                    rounded(best["per_cycle_sm"]),
                    f"ceilings ({best['what']}, {best['threads']} threads{note})",
                )
    return text


def alone(found: Found) -> dict[str, dict[str, Any]]:
    """The same of one warp a scheduler on mma.sync, where that is less."""
    text = {}
    for kind, name in TENSOR["mma"].items():
        rows = found.rows(name, lambda r: r["threads"] == 128)
        if rows and rows[0]["per_cycle_sm"] < 0.99 * found.most(name, "per_cycle_sm"):
            text[kind] = sourced(rounded(rows[0]["per_cycle_sm"]), "ceilings (128 threads)")
    return {"mma": text} if text else {}


def operations(found: Found) -> dict[str, Any]:
    """Lane operations a cycle a multiprocessor."""
    text = {}
    for name, rows in LANES.items():
        what = next((w for w in rows if found.rows(w)), rows[0])
        text[name] = sourced(rounded(found.most(what, "per_cycle_sm")), f"ceilings ({what})")
    return text


def waits(found: Found) -> dict[str, Any]:
    """Cycles from an instruction to what needs its result, where they were measured."""
    text = {}
    for name in WAITS:
        rows = found.rows(f"wait.{name}")
        if rows:
            cycles = rounded(min(float(r["cycles_each"]) for r in rows))
            text[name] = sourced(cycles, "ceilings (one chain, one warp)")
    beside = [
        float(row["lost_cycles"])
        for row in found.rows("mma.beside")
        if row["cycles_each"] < 2 * row["alone_cycles_each"]
    ]
    if beside:
        which = "what an instruction takes from it; the median of those that leave it half its rate"
        text["mma_issue"] = sourced(rounded(median(beside)), f"ceilings (mma.beside: {which})")
    lone = found.rows("wgmma.m64n128k16.bf16.shared", lambda r: r["threads"] == 128)
    if lone:
        row = lone[0]
        best = row["cycles_each"] - 2 * 64 * 128 * 16 / found.most(row["what"], "per_cycle_sm")
        text["wgmma"] = sourced(
            rounded(best * row["ilp"]),
            f"ceilings (what {row['ilp']} of one warpgroup take beyond the rate)",
        )
    chases = sorted(found.rows("latency"), key=lambda r: r["buffer_bytes"])
    if chases:
        for name, row in (("l2", chases[0]), ("memory", chases[-1])):
            size = f"{row['buffer_bytes'] >> 20} MiB"
            text[name] = sourced(rounded(row["cycles_each"]), f"ceilings (dependent loads, {size})")
    barriers = {r["threads"] // 32: r["cycles_each"] for r in found.rows("bar.sync")}
    if len(barriers) > 1:
        few, many = min(barriers), max(barriers)
        slope = (barriers[many] - barriers[few]) / (many - few)
        where = f"ceilings (bar.sync of {few} and {many} warps)"
        text["barrier"] = sourced(rounded(barriers[few] - slope * few), where)
        text["barrier_warp"] = sourced(rounded(slope), where)
    slots = found.rows("launch.slot")
    if slots:
        cycles = min(float(row["cycles_each"]) for row in slots)
        text["slot"] = sourced(rounded(cycles), "ceilings (launch.slot, fewest threads)")
    return text


def bandwidths(found: Found) -> dict[str, dict[str, Any]]:
    """Shared memory, L2 and the memory behind it."""
    device = found.ceilings.device
    held = device["l2_bytes"]
    large = int(found.most("hbm.read", "buffer_bytes"))
    memory: dict[str, Any] = {
        "capacity": sourced(f"{device['memory_bytes']} B", "device"),
    }
    for name, what in (("reads", "hbm.read"), ("writes", "hbm.write"), ("copies", "hbm.copy")):
        best = found.most(what, "per_s", lambda r: r["buffer_bytes"] == large)
        memory[name] = sourced(rounded(best, "B/s"), f"ceilings ({large >> 20} MiB)")
    if found.rows("hbm.panels"):
        rate = found.most("hbm.panels", "per_s", lambda r: r["pitch_bytes"] == PITCH)
        memory["panels"] = sourced(rounded(rate, "B/s"), f"ceilings (rows of {PITCH} bytes)")
    own = found.most("l2.read.own", "per_s", lambda r: r["buffer_bytes"] < held)
    reach = found.most("l2.read.own", "buffer_bytes", lambda r: r["per_s"] > 0.8 * own)
    both = min(found.rows("l2.read.shared"), key=lambda r: r["buffer_bytes"], default=None)
    all_read = {} if both is None else {
        "shared_bandwidth": sourced(
            rounded(both["per_s"], "B/s"),
            f"ceilings (l2.read.shared: {both['buffer_bytes'] >> 20} MiB read by all)",
        )
    }  # fmt: skip
    shared = max(found.most(x, "per_cycle_sm") for x in ("ldmatrix.x4", "ld.shared.v4"))
    return {
        "shared": {"bandwidth": sourced(rounded(shared), "ceilings (16-byte loads)")},
        "l2": {
            "capacity": sourced(f"{held} B", "device"),
            "reach": sourced(
                f"{reach:.0f} B", "ceilings (l2.read.own: the largest buffer at 0.8 of its rate)"
            ),
            "bandwidth": sourced(rounded(own, "B/s"), "ceilings (l2.read.own: a slice a block)"),
            **all_read,
        },
        "memory": memory,
    }


def joules(found: Found, what: str, note: str = "") -> dict[str, Any] | None:
    """Energy of one operation or byte above what the board draws awake, and its clock."""
    row = found.sustained(what)
    if row is None:
        return None
    each = max(0.0, row["power_w"] - found.awake_w) / row["per_s"]
    text = sourced(rounded(each, "J"), f"energy ({what}{note})")
    clock = row["sustained"]["sm_hz"]
    if clock and clock < 0.99 * found.ceilings.device["max_sm_hz"]:
        text["clock"] = rounded(clock, "Hz")
    return text


def energies(found: Found) -> dict[str, Any]:
    """Of tensor cores by FLOP, lane operations and bytes."""
    named = {"ex2": "ex2.approx.f32", "fma": "fma.f32", "add": "add.f32", "cvt": "cvt.bf16x2.f32"}
    moved = {"shared": "ldmatrix.x4", "l2": "l2.read.own", "read": "hbm.read", "write": "hbm.write"}
    lanes = {name: joules(found, what) for name, what in named.items()}
    lanes["max"] = joules(found, "add.f32", "; max was not measured apart")
    paths = {
        path: {
            kind: joules(found, what)
            or joules(found, what.replace(".f16", ".bf16"), "; its bf16 form")
            for kind, what in kinds.items()
        }
        for path, kinds in TENSOR.items()
    }
    text = {
        "tensor": {path: _given(kinds) for path, kinds in paths.items()},
        "operations": _given(lanes),
        "bytes": _given({name: joules(found, what) for name, what in moved.items()}),
    }
    text["tensor"] = {path: kinds for path, kinds in text["tensor"].items() if kinds}
    return text


def _given(texts: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Those that were measured."""
    return {name: text for name, text in texts.items() if text is not None}


def power(found: Found) -> dict[str, Any]:
    """The cap, what is drawn idle and awake, and how the cap acts."""
    idle = found.sustained("idle")
    text = {
        "cap": sourced(rounded(found.ceilings.about["board"]["power_limit_w"], "W"), "device"),
        "idle": sourced(rounded(idle["power_w"] if idle else found.awake_w, "W"), "energy"),
        "awake": sourced(rounded(found.awake_w, "W"), f"energy ({AWAKE})"),
    }
    begins = acts_s(list(found.rows("clock.acting")))
    if begins is not None:
        text["acts"] = sourced(
            rounded(begins, "s"), "ceilings (clock.acting: trains up to so long keep their clock)"
        )
    for row in found.rows("power.train"):
        late = response_s(list(row["seconds"]))
        hungry = found.sustained(row["op"])
        if late is None or hungry is None:
            continue
        text["response"] = sourced(
            rounded(late, "s"), f"ceilings (a train of {row['op']} keeps its first rate so long)"
        )
        first = row["work"] / sorted(row["seconds"][:3])[1]
        clock = hungry["sustained"]["sm_hz"] * first / hungry["per_s"]
        each = (hungry["power_w"] - found.awake_w) / hungry["per_s"]
        drawn = found.awake_w + first * each * (clock / hungry["sustained"]["sm_hz"]) ** 2
        if drawn > found.ceilings.about["board"]["power_limit_w"]:
            text["peak"] = sourced(
                rounded(drawn, "W"), f"ceilings and energy ({row['op']} at its first rate)"
            )
    return text


def brief(found: Found) -> dict[str, Any] | None:
    """Clocks of tensor work in single launches, by path and length; None where none was read."""
    clocks: dict[str, dict[str, str]] = {}
    for row in found.rows("clock.brief"):
        length = f"{1e6 * row['seconds']:.0f} us"
        clocks.setdefault(row["path"], {})[length] = f"{row['sm_hz'] / 1e9:.3f} GHz"
    return {"source": "ceilings (clock.brief)", "clocks": clocks} if clocks else None


def launches(found: Found) -> dict[str, Any]:
    """Seconds of an empty kernel."""
    text = {}
    for name, what in (("first", "launch.wide"), ("next", "launch.next"), ("host", "launch.host")):
        rows = found.rows(what)
        if rows:
            text[name] = sourced(rounded(rows[0]["seconds"], "s"), f"ceilings ({what})")
    if found.rows("launch.blocks"):
        rate = found.most("launch.blocks", "per_s")
        text["blocks"] = sourced(rounded(rate, "Hz"), "ceilings (launch.blocks)")
    return text


def limits(device: Mapping[str, Any]) -> dict[str, Any]:
    """What may be resident on a multiprocessor."""
    capability = device["capability"]
    if capability not in BLOCKS:
        raise GpuError(f"nothing is known of compute capability {capability}", ", ".join(BLOCKS))
    return {
        "registers": sourced(device["registers_per_sm"], "device"),
        "threads": sourced(device["threads_per_sm"], "device"),
        "blocks": sourced(BLOCKS[capability], "guide"),
        "shared": sourced(f"{device['shared_bytes_per_sm']} B", "device"),
        "block_shared": sourced(f"{device['shared_bytes_per_block']} B", "device"),
        "schedulers": sourced(4, "guide"),
    }


def text(found: Found, name: str = "") -> dict[str, Any]:
    """The document of a GPU file: every number with the row that it is from.

    Raises ``GpuError`` where the record lacks a row that a file needs.
    """
    device, about = found.ceilings.device, found.ceilings.about
    taken = f"{device['name']}, driver {about['board']['driver']}, CuPy {about['versions']['cupy']}"
    busy = [
        float(row["sm_hz"]) for row in found.ceilings.rows
        if row["what"].startswith(("mma.", "wgmma."))
    ]  # fmt: skip
    clock = device["max_sm_hz"]
    document: dict[str, Any] = {
        "gpu": name or slug(device["name"]),
        "about": f"{device['name']}, {device['multiprocessors']} multiprocessors; calibrated",
        "basis": "measured",
        "capability": device["capability"],
        "sources": {
            "device": f"as the driver states it ({taken})",
            "ceilings": f"measured {about['made']} on {taken}; the best of each row's repeats",
            "energy": f"measured {found.energy.about['made']}: the board's counter over about a"
            " second, less what the board draws awake",
            "guide": GUIDE,
        },
        "multiprocessors": sourced(device["multiprocessors"], "device"),
        "clock": sourced(rounded(clock, "Hz"), "device"),
        "multiprocessor": limits(device),
        "tensor": tensor(found),
        "tensor_alone": alone(found),
        "operations": operations(found),
        **bandwidths(found),
        "waits": waits(found),
        "launch": launches(found),
        "power": power(found),
        "energy": energies(found),
    }
    if busy and max(busy) < 0.99 * clock:
        source = "ceilings (highest clock with tensor cores at work)"
        document["tensor_clock"] = sourced(rounded(max(busy), "Hz"), source)
    short = brief(found)
    if short is not None:
        document["brief"] = short
    return document


def listed(records: Sequence[Record]) -> Found:
    """The ceilings and energies among records.

    Raises ``GpuError`` where either is missing.
    """
    ceilings = next((r for r in records if r.what == "ceilings"), None)
    energy = next((r for r in records if r.what == "energy of operations"), None)
    if ceilings is None or energy is None:
        lacking = "ceilings" if ceilings is None else "energies of operations"
        raise GpuError(f"the recorded run has no {lacking}", "ceilings.json and energy.json")
    return Found(ceilings, energy)
