"""The text of ``kernels/wgmma.cuh``: one inline-assembly function a width of ``wgmma``.

``wgmma.mma_async`` names every accumulator register of a thread, N / 2 of
them, so each width N needs its own statement.  The header is kept as a file,
so that the kernels also compile with nvcc alone; a test holds it against this
text.  Write it anew with ``python -m accelsim.gpu.wgmma_text``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: Widths (numbers of columns of B) that the kernels use.
WIDTHS: Final = (64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 256)

_HEAD: Final = """\
// Written by accelsim/gpu/wgmma_text.py; change it there.
// wgmma of one warpgroup: d (64 x N, float32) = or += a (64 x 16) b (16 x N).
#pragma once

template <int N> struct Wgmma;
"""

_STRUCT: Final = """
template <> struct Wgmma<{n}> {{
  // a and b from shared memory, both with the contraction contiguous.
  static DEVICE void shared(float (&d)[{half}], u64 a, u64 b, int add) {{
    asm volatile(
        "{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{a2}, 0;\\n"
        "wgmma.mma_async.sync.aligned.m64n{n}k16.f32." TYPE "." TYPE
        " {{"
{names}
        "}}, %{a0}, %{a1}, p, 1, 1, 0, 0;\\n}}\\n"
        :
{outputs}
        : "l"(a), "l"(b), "r"(add));
  }}
  // a from registers, b from shared memory with its columns contiguous; always adds.
  static DEVICE void registers(float (&d)[{half}], const u32 *a, u64 b) {{
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n{n}k16.f32." TYPE "." TYPE
        " {{"
{names}
        "}}, {{%{a0}, %{a1}, %{a2}, %{a3}}}, %{a4}, 1, 1, 1, 1;\\n"
        :
{outputs}
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }}
}};
"""

_NARROW: Final = """
// {bits}: d (64 x {n}) += a (64 x 32) b (32 x {n}), both from shared memory.
struct Wgmma{name} {{
  static DEVICE void shared({kind} (&d)[{half}], u64 a, u64 b) {{
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n{n}k32.{types}"
        " {{"
{names}
        "}}, %{a0}, %{a1}, 1{tail};\\n"
        :
{outputs}
        : "l"(a), "l"(b));
  }}
}};
"""

#: 8-bit forms, at one width, for the microbenchmarks: name, C++ type, PTX types, constraint, tail.
_EIGHT: Final = (
    ("S8", "int", "s32.s8.s8", "+r", "", "8-bit integers"),
    ("E4M3", "float", "f32.e4m3.e4m3", "+f", ", 1, 1", "8-bit floats"),
)


def _rows(items: list[str], each: int, indent: str, quote: str = "") -> str:
    """Items joined by commas, ``each`` a line."""
    lines = [", ".join(items[i : i + each]) for i in range(0, len(items), each)]
    ends = [", "] * (len(lines) - 1) + [""]
    if quote:
        return "\n".join(f"{indent}{quote}{x}{e}{quote}" for x, e in zip(lines, ends, strict=True))
    return "\n".join(f"{indent}{x}{e.strip()}" for x, e in zip(lines, ends, strict=True))


def text() -> str:
    """The header."""
    parts = [
        _HEAD,
        '\n#if BF16\n#define TYPE "bf16"\n#else\n#define TYPE "f16"\n#endif\n',
    ]
    for n in WIDTHS:
        half = n // 2
        names = _rows([f"%{i}" for i in range(half)], 16, " " * 8, '"')
        outputs = _rows([f'"+f"(d[{i}])' for i in range(half)], 6, " " * 10)
        numbers = {f"a{i}": half + i for i in range(5)}
        parts.append(_STRUCT.format(n=n, half=half, names=names, outputs=outputs, **numbers))
    n = 128
    names = _rows([f"%{i}" for i in range(n // 2)], 16, " " * 8, '"')
    for name, kind, types, constraint, tail, bits in _EIGHT:
        outputs = _rows([f'"{constraint}"(d[{i}])' for i in range(n // 2)], 6, " " * 10)
        parts.append(
            _NARROW.format(
                name=name, kind=kind, types=types, tail=tail, bits=bits, n=n, half=n // 2,
                names=names, outputs=outputs, a0=n // 2, a1=n // 2 + 1,
            )
        )  # fmt: skip
    parts.append("\n#undef TYPE\n")
    return "".join(parts)


if __name__ == "__main__":
    (Path(__file__).parent / "kernels" / "wgmma.cuh").write_text(text(), encoding="utf-8")
