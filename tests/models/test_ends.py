"""Splits of a cascade's own whose last tile is short: closed forms against the replay."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.problem import bind
from accelsim.load.cascade import cascade_from_text
from accelsim.models.counts import group_transfers
from accelsim.models.nest import Nest
from tests.models.nests import TEXTS, Case, cases
from tests.models.test_counts import holds

QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}
_RUNNING = "".join(f"  - {e}\n" for e in TEXTS["running"][3])
#: ``running`` of ``tests.models.nests``, whose M1 and M0 are parts of one rank here.
SPLIT = cascade_from_text(
    "cascade: running\nranks: [P, M, F]\ninputs: {S: [M, P], V: [M, F]}\noutput: Z\n"
    f"split: {{M: [M1, M0]}}\neinsums:\n{_RUNNING}"
)


@st.composite
def shorter(draw: st.DrawFn, case: Case) -> Case:
    """A case of ``running`` with a short last tile of M, and perhaps of P and F.

    Those whose loops do not go with it are left out.
    """
    sizes = {r: case.problem.extent(r) for r in ("P", "F", "M1", "M0")}
    tiles, tile = sizes["M1"], sizes["M0"]
    assume(tile > 1)
    sizes["M"] = draw(st.integers((tiles - 1) * tile + 1, tiles * tile - 1))
    for rank in ("P", "F"):
        first = dict(case.mapping.parts)[rank][0].trips
        whole = sizes[rank]
        if draw(st.booleans()):
            sizes[rank] = draw(st.integers(whole - whole // first + 1, whole))
    case = replace(case, problem=bind(SPLIT, sizes, imperfect=("M",)))
    try:
        for group in case.mapping.groups:
            group_transfers(Nest(case.problem, case.mapping, group), case.arch, {})
    except InputError:  # out of order
        reject()
    return case


@settings(max_examples=30, **QUIET)
@given(cases(("running",), 4).flatmap(shorter))
def test_transfers_room_and_cycles_equal_the_replay(case: Case) -> None:
    holds(case)
