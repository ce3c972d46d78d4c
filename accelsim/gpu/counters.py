"""What Nsight Compute counts of a kernel: bytes by level, instructions, cycles.

The profiler runs a program again under its own control, so that it is found,
started and read here, and the program tells its kernels in order.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any, Final

from accelsim.gpu.device import GpuError

#: Metrics and what records call them.
METRICS: Final = {
    "dram__bytes_read.sum": "dram_read_bytes",
    "dram__bytes_write.sum": "dram_write_bytes",
    "lts__t_bytes.sum": "l2_bytes",
    "lts__t_sectors_srcunit_tex.sum": "l2_sectors_from_sm",
    "l1tex__m_xbar2l1tex_read_bytes.sum": "to_sm_bytes",
    "l1tex__m_l1tex2xbar_write_bytes.sum": "from_sm_bytes",
    "gpu__time_duration.sum": "duration_ns",
    "sm__cycles_elapsed.max": "cycles",
    "sm__inst_executed_pipe_xu.sum": "xu_instructions",
    "smsp__inst_executed.sum": "instructions",
    "smsp__inst_executed_pipe_alu.sum": "alu_instructions",
    "smsp__average_warps_issue_stalled_wait_per_issue_active.ratio": "fixed_waits",
    "smsp__average_warps_issue_stalled_short_scoreboard_per_issue_active.ratio": "short_waits",
    "smsp__average_warps_issue_stalled_dispatch_stall_per_issue_active.ratio": "dispatch_waits",
    "smsp__average_warps_issue_stalled_math_pipe_throttle_per_issue_active.ratio": "pipe_waits",
    "smsp__average_warps_issue_stalled_no_instruction_per_issue_active.ratio": "fetch_waits",
    "smsp__average_warps_issue_stalled_branch_resolving_per_issue_active.ratio": "branch_waits",
    "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio": "barrier_waits",
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio": "long_waits",
}
METHOD: Final = (
    "Nsight Compute, kernel replay, caches flushed before each kernel, clocks left alone"
)
#: Columns of the profiler's table: number, kernel, grid, metric, value.
_NUMBER, _KERNEL, _GRID, _METRIC, _VALUE = 0, 4, 8, 12, 14


def profiler() -> str:
    """Where ``ncu`` is; ``GpuError`` in one sentence where it is not."""
    found = shutil.which("ncu")
    if found is None:
        raise GpuError(
            "bytes are counted by Nsight Compute, and there is no ncu here",
            "ncu on the PATH (it comes with the CUDA toolkit)",
        )
    return found


def command(program: Sequence[str], kernels: Iterable[str], ncu: str = "ncu") -> list[str]:
    """The profiler's command line for a program: kernels of these names, clocks left alone.

    >>> command(["python", "x.py"], ["split", "merge"])[:5]
    ['ncu', '--clock-control', 'none', '-k', 'regex:split|merge']
    """
    return [
        ncu, "--clock-control", "none", "-k", f"regex:{'|'.join(kernels)}",
        "--metrics", ",".join(METRICS), "--csv", *program,
    ]  # fmt: skip


def counted(program: Sequence[str], kernels: Iterable[str]) -> list[dict[str, Any]]:
    """Run a program under the profiler: its kernels in launch order, as ``table`` reads them.

    Raises ``GpuError`` with the profiler's first line of complaint.
    """
    words = command(program, kernels, profiler())
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    told = [line for line in ran.stdout.splitlines() if line.startswith("==ERROR==")]
    if ran.returncode or told:
        lines = [*told, *ran.stderr.splitlines(), f"exit status {ran.returncode}"]
        raise GpuError(f"Nsight Compute failed: {lines[0].removeprefix('==ERROR==').strip()}")
    return table(ran.stdout.splitlines())


def table(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Kernels in launch order from the profiler's table: name, grid and metrics.

    >>> table(['"0","1","python","host","split","1","7","(128, 1, 1)","(4, 8, 1)","0","9.0",'
    ...        '"Section","dram__bytes_read.sum","byte","1,024"'])
    [{'kernel': 'split', 'grid': '(4, 8, 1)', 'dram_read_bytes': 1024}]
    """
    found: dict[int, dict[str, Any]] = {}
    for line in csv.reader(lines):
        if len(line) > _VALUE and line[_NUMBER].isdigit():
            start = {"kernel": line[_KERNEL], "grid": line[_GRID]}
            kernel = found.setdefault(int(line[_NUMBER]), start)
            if line[_METRIC] in METRICS:
                value = float(line[_VALUE].replace(",", ""))
                ratio = line[_METRIC].endswith(".ratio")
                kernel[METRICS[line[_METRIC]]] = value if ratio else int(value)
    return [found[number] for number in sorted(found)]
