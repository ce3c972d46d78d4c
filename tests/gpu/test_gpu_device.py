"""Without a GPU or without CuPy each thing says what it lacks, in one sentence."""

from __future__ import annotations

import builtins
import ctypes
import sys
import time
import types

import pytest

from accelsim.errors import InputError
from accelsim.gpu import board, device, halves, kernel, library, tensormap
from accelsim.gpu.attention import Mask, Shape
from accelsim.gpu.device import Device, GpuError

H100 = Device("H100", "9.0", 132, 1.98e9, 2.6e9, 5120, 80 << 30, 50 << 20, 228 << 10, 227 << 10,
              65536, 2048, "0000:00:06.0")  # fmt: skip


@pytest.fixture(autouse=True)
def fresh():
    """What is found once is kept for the process; not from one test to the next."""
    for found in (device.cupy, device.device, tensormap._encode):
        found.cache_clear()
    yield
    for found in (device.cupy, device.device, tensormap._encode):
        found.cache_clear()


def without(monkeypatch, name: str, error: ImportError) -> None:
    """Importing ``name`` fails with ``error``."""
    real = builtins.__import__

    def importer(wanted, *rest):
        if wanted.partition(".")[0] == name:
            raise error
        return real(wanted, *rest)

    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(builtins, "__import__", importer)


def pretended(count: int | Exception) -> types.SimpleNamespace:
    """A ``cupy`` that sees so many GPUs."""

    def devices() -> int:
        if isinstance(count, Exception):
            raise count
        return count

    runtime = types.SimpleNamespace(getDeviceCount=devices)
    return types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))


def test_cupy_missing(monkeypatch) -> None:
    without(monkeypatch, "cupy", ModuleNotFoundError("No module named 'cupy'", name="cupy"))
    with pytest.raises(GpuError) as found:
        device.cupy()
    assert str(found.value) == (
        "gpu: running on a GPU needs CuPy, which is not installed\n"
        "  allowed: pip install cupy-cuda12x, or cupy-cuda13x where nvidia-smi says CUDA 13"
    )
    assert isinstance(found.value, InputError)


@pytest.mark.parametrize(
    "error",
    [ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock"), ImportError("libcuda")],
)
def test_cupy_broken(monkeypatch, error) -> None:
    without(monkeypatch, "cupy", error)
    with pytest.raises(GpuError, match=r"^gpu: CuPy does not load: (No module named 'fa|libcuda)"):
        device.cupy()


def test_no_gpu(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", pretended(RuntimeError("cudaErrorNoDevice")))
    with pytest.raises(GpuError, match=r"^gpu: no NVIDIA GPU answers here \(cudaErrorNoDevice\)\n"):
        device.cupy()
    monkeypatch.setitem(sys.modules, "cupy", pretended(0))
    with pytest.raises(
        GpuError, match=r"^gpu: no NVIDIA GPU answers here\n  allowed: a machine with"
    ):
        device.cupy()


def test_no_such_gpu(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", pretended(2))
    with pytest.raises(GpuError, match=r"^gpu: there is no GPU 2\n  allowed: 0 to 1$"):
        device.device(2)


def test_board_without_nvml(monkeypatch) -> None:
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    found = board.Board("0000:00:06.0")
    assert not found.present
    assert found.energy_j() is None
    assert set(found.state().values()) == {None}
    with board.Watch(found) as watch:
        pass
    assert not watch.sm_hz


class Sensors:
    """A board whose counter moves at every third reading."""

    present = True

    def __init__(self) -> None:
        self.readings = 0

    def energy_j(self) -> float:
        self.readings += 1
        return float(self.readings // 3)

    def sm_hz(self) -> float:
        return 1.5e9

    def why(self) -> int:
        return 4


def test_watch_takes_the_counter_where_it_moves() -> None:
    with board.Watch(Sensors(), every_s=0.0) as watch:
        while len(watch.energy_j) < 4:
            time.sleep(0.001)
    energies = [joules for _, joules in watch.energy_j]
    assert energies[:4] == [1, 2, 3, 4]
    assert [t for t, _ in watch.energy_j] == sorted(t for t, _ in watch.energy_j)
    assert set(watch.sm_hz) == {1.5e9}
    assert board.reasons(watch.why) == ["power cap"]


def test_tile_that_does_not_fit_shared_memory() -> None:
    build = kernel.Build("attention_mma.cu", "attention", "sm_90a", (("BN", 256), ("D", 128)))
    kernel.check_shared(build, H100.shared_bytes_per_block, H100)
    with pytest.raises(GpuError) as found:
        kernel.check_shared(build, 300_000, H100)
    assert str(found.value) == (
        "gpu: attention_mma.cu with BN=256, D=128 needs 300000 bytes of shared memory a block,"
        " H100 has 232448\n  allowed: a smaller tile or fewer stages"
    )


class Compiler:
    """An NVRTC that fails, or gives back what it was asked."""

    NVRTCError = RuntimeError

    def __init__(self, log: str = "") -> None:
        self.log, self.compiled = log, 0

    def getVersion(self):  # noqa: N802
        return 13, 0

    def createProgram(self, text, name, headers, names):  # noqa: N802
        assert len(headers) == len(names)
        return text

    def compileProgram(self, program, options):  # noqa: N802
        self.compiled += 1
        if self.log:
            raise RuntimeError("NVRTC_ERROR_COMPILATION")

    def getCUBIN(self, program):  # noqa: N802
        return program.encode()

    def getProgramLog(self, program):  # noqa: N802
        return self.log

    def destroyProgram(self, program):  # noqa: N802
        pass


def with_compiler(monkeypatch, tmp_path, compiler: Compiler) -> None:
    cuda = types.ModuleType("cupy.cuda")
    cuda.nvrtc = compiler
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_kernel_that_does_not_compile(monkeypatch, tmp_path) -> None:
    log = "warning: x\nrows.cu(3): error: identifier is undefined\nmore\0"
    with_compiler(monkeypatch, tmp_path, Compiler(log))
    with pytest.raises(GpuError) as found:
        kernel.compiled(kernel.Build("rows.cu", "rows", "sm_90a"))
    assert str(found.value) == (
        "gpu: rows.cu does not compile for sm_90a: rows.cu(3): error: identifier is undefined"
    )
    assert not list(tmp_path.rglob("*.cubin"))


def test_compiled_once_for_the_same_text_and_options(monkeypatch, tmp_path) -> None:
    compiler = Compiler()
    with_compiler(monkeypatch, tmp_path, compiler)
    build = kernel.Build("rows.cu", "rows", "sm_90a", (("OP", 0),))
    first = kernel.compiled(build)
    assert kernel.compiled(build) == first == dict(kernel.texts("rows.cu"))["rows.cu"].encode()
    assert compiler.compiled == 1
    kernel.compiled(kernel.Build("rows.cu", "rows", "sm_90a", (("OP", 1),)))
    kernel.compiled(kernel.Build("rows.cu", "rows", "sm_80", (("OP", 0),)))
    assert compiler.compiled == 3
    assert len(list((tmp_path / "accelsim" / "kernels").iterdir())) == 3


def driver(registers: int, most_threads: int) -> types.SimpleNamespace:
    """A ``cupy`` whose kernels take so many registers."""
    names = (
        "NUM_REGS",
        "LOCAL_SIZE_BYTES",
        "MAX_THREADS_PER_BLOCK",
        "MAX_DYNAMIC_SHARED_SIZE_BYTES",
    )
    values = {"NUM_REGS": registers, "LOCAL_SIZE_BYTES": 0, "MAX_THREADS_PER_BLOCK": most_threads}
    asked = {f"CU_FUNC_ATTRIBUTE_{name}": name for name in names}
    made = types.SimpleNamespace(
        **asked, funcGetAttribute=lambda name, _: values[name], funcSetAttribute=lambda *_: None
    )
    function = types.SimpleNamespace(ptr=0)
    module = types.SimpleNamespace(load=lambda _: None, get_function=lambda _: function)
    loader = types.SimpleNamespace(Module=lambda: module)
    return types.SimpleNamespace(cuda=types.SimpleNamespace(driver=made, function=loader))


def test_kernel_that_does_not_fit_its_registers(monkeypatch) -> None:
    monkeypatch.setattr(kernel, "cupy", lambda: driver(255, 256))
    monkeypatch.setattr(kernel, "device", lambda: H100)
    monkeypatch.setattr(kernel, "compiled", lambda _: b"")
    build = kernel.Build("rows.cu", "rows", "sm_90a")
    assert kernel.Kernel(build, 256, 100_000).registers == 255
    with pytest.raises(GpuError) as found:
        kernel.Kernel(build, 512)
    assert str(found.value) == (
        "gpu: rows.cu takes 255 registers a thread, so that a block of 512 threads does not fit the"
        " registers of H100\n  allowed: at most 256 threads a block, or a smaller tile"
    )


def test_driver_without_tensor_maps(monkeypatch) -> None:
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(GpuError, match=r"^gpu: the CUDA driver here cannot encode tensor maps\n"):
        tensormap.rows_of(0, "bf16", 128, 64, 1, 64)


def test_tensor_map(monkeypatch) -> None:
    """What the driver is asked for, and what its refusal says."""
    asked: list[object] = []
    encode = lambda *arguments: asked.append(arguments) or (1 if arguments[2] != 3 else 0)  # noqa: E731
    monkeypatch.setattr(tensormap, "_encode", lambda: encode)
    found = tensormap.rows_of(4096, "bf16", 96, 1000, 6, 80)
    assert found.shape == (1,)
    assert found.itemsize == 128
    assert found.ctypes.data % 64 == 0
    (arguments,) = asked
    assert list(arguments[4]) == [96, 1000, 6]
    assert list(arguments[5]) == [192, 192_000]
    assert list(arguments[6]) == [64, 80, 1]
    monkeypatch.setattr(tensormap, "_encode", lambda: lambda *_: 1)
    with pytest.raises(GpuError, match=r"refuses a tensor map of 6 x 1000 x 96 \(1\)$"):
        tensormap.rows_of(4096, "bf16", 96, 1000, 6, 80)


def test_type_that_kernels_do_not_take() -> None:
    with pytest.raises(GpuError, match=r"^gpu: the kernels do not take fp8\n  allowed: bf16, f16$"):
        halves.flag("fp8")


def test_check_fails_on_what_was_not_or_wrongly_written() -> None:
    good = halves.Check(1e-3, 0.1, 8, 0, 0, 6e-3)
    assert good.holds
    for wrong in ((7e-3, 0, 0), (1e-3, 1, 0), (1e-3, 0, 1), (float("nan"), 0, 0)):
        error, unwritten, overrun = wrong
        assert not halves.Check(error, 0.1, 8, unwritten, overrun, 6e-3).holds


def test_library_without_torch(monkeypatch) -> None:
    monkeypatch.setattr(library, "cupy", lambda: None)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(GpuError, match=r"^gpu: library kernels need PyTorch, which is not install"):
        library.torch()
    cuda = types.SimpleNamespace(is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    with pytest.raises(GpuError, match=r"^gpu: the installed PyTorch has no CUDA\n"):
        library.torch()


def test_library_calls_that_are_not_there() -> None:
    shape = Shape(1, 1, 8, 8, 64)
    with pytest.raises(GpuError, match=r"^gpu: library attention here has no window and no offset"):
        library.attention("cudnn-attention", shape, Mask(causal=True, window=4), "bf16")
    with pytest.raises(GpuError, match=r"^gpu: no library kernel torch-sort\n"):
        library.elementwise("torch-sort", 8, 8, "bf16")
