"""``simulate``: the witness of a mapping, beside what the model says of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from accelsim.errors import refuse
from accelsim.explore.estimate import Name, bind
from accelsim.files import write
from accelsim.ir.problem import Problem
from accelsim.models.estimate import estimate as price
from accelsim.models.turns import in_turn_s
from accelsim.sim.run import Simulation
from accelsim.sim.run import simulate as run
from accelsim.sim.trace import Recorder

#: More points than this are not executed.
MOST_POINTS: Final = 1 << 24
#: Sums of many numbers differ by this much, relative to their size.
ROUNDING: Final = 1e-9
#: An execution equals the interpreter within this, relative to the largest magnitude.
TOLERANCE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A simulation and the model's estimate of the same.

    ``holds``: the estimate is not above the simulated cycles, which are not
    above the time of every task and transfer one after the other; the bytes
    at every level are the same; and the tensors equal the interpreter's where
    they were executed (``max_rel_error``, else None).  ``in_turn_cycles`` are
    those of the model step by step (``models.turns``).
    """

    simulation: Simulation
    estimate_cycles: float
    estimate_bytes: dict[str, float]
    max_rel_error: float | None = None
    in_turn_cycles: float | None = None

    @property
    def cycles(self) -> int:
        """Cycles of the simulation."""
        return self.simulation.cycles

    @property
    def holds(self) -> bool:
        """Whether model and simulation agree as they must."""
        found = self.simulation
        bounded = self.estimate_cycles <= found.cycles * (1 + ROUNDING)
        same = all(
            abs(found.traffic_bytes[level] - size) <= ROUNDING * size
            for level, size in self.estimate_bytes.items()
        )
        equal = self.max_rel_error is None or self.max_rel_error <= TOLERANCE
        return bounded and found.cycles <= found.serial_cycles and same and equal

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim simulate``."""
        found = self.simulation.to_dict()
        found["estimate_cycles"] = self.estimate_cycles
        found["over_estimate"] = self.cycles / self.estimate_cycles - 1
        found["in_turn_cycles"] = self.in_turn_cycles
        found["estimate_traffic_bytes"] = self.estimate_bytes
        found["max_rel_error"] = self.max_rel_error
        found["holds"] = self.holds
        return found


def simulate(
    cascade: Name | None = None,
    *,
    full: bool = False,
    execute: bool = False,
    seed: int = 0,
    trace: str | Path | None = None,
    **parts: Any,
) -> Witnessed:
    """Run a mapping tile by tile in whole cycles, and say what the model makes of it.

    Keywords are those of ``estimate``.  ``full`` runs every step instead of
    skipping those that repeat.  ``execute`` computes the tensors task by task
    on random inputs (``seed``) and compares them with the interpreter; it is
    for small sizes and runs every step.  ``trace`` names a file for a Chrome
    trace.  Raises InputError as ``estimate`` does, and where the schedule has
    no room to repeat.

    >>> found = simulate(design="fusemax", model="BERT", seq=1024)
    >>> found.holds, found.cycles
    (True, 1915306)
    """
    problem, machine, mapping = bind(cascade, verb="simulate", **parts)
    priced = price(problem, machine, mapping)
    recorder = Recorder() if trace is not None else None
    error = None
    if execute:
        from accelsim.ir.reference import random_inputs
        from accelsim.sim.execute import Executor, largest_difference

        _small(problem)
        inputs = random_inputs(problem, seed)
        executor = Executor(problem, mapping, inputs)
        found = run(problem, machine, mapping, recorder=recorder, execute=executor.task)
        names = problem.cascade.tensors
        error = largest_difference(problem, inputs, executor.tensors, names)
    else:
        found = run(problem, machine, mapping, full=full, recorder=recorder)
    if trace is not None and recorder is not None:
        write(Path(trace), json.dumps(recorder.chrome(machine.clock_hz)).encode())
    cycles = priced.latency_s * machine.clock_hz
    turns = in_turn_s(problem, machine, mapping, priced) * machine.clock_hz
    return Witnessed(found, cycles, dict(priced.traffic_bytes), error, turns)


def _small(problem: Problem) -> None:
    """Refuse to execute what would take too long."""
    points = sum(problem.dense_points(e) for e in problem.cascade.einsums)
    if points > MOST_POINTS:
        raise refuse(
            f"{points} points are too many to execute one tile after the other",
            f"at most {MOST_POINTS}: a smaller --shape, or no --execute",
        )
