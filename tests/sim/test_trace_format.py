"""A trace is one that Perfetto reads: every field it needs, and slices of a track that nest."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from accelsim.explore.simulate import simulate


def strict(text: str) -> Any:
    """JSON without the numbers that JSON has no word for."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("design", ["fusemax", "flat", "unfused", "fusemax-architecture"])
def test_slices_nest_and_tracks_are_named(design: str, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    simulate(design=design, model="BERT", seq="1K", trace=file)
    trace = strict(file.read_text(encoding="utf-8"))
    events = trace["traceEvents"]
    cycle = 1e6 / trace["otherData"]["clock_hz"]
    tracks: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        assert event["ph"] in ("M", "X", "C")
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        if event["ph"] == "M":
            continue
        assert event["ts"] >= 0
        if event["ph"] == "C":
            assert all(value >= 0 for value in event["args"].values())
        else:
            assert event["dur"] >= 0
            at = event["pid"], event["tid"]
            tracks[at].append((event["ts"], event["ts"] + event["dur"]))
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert set(tracks) <= named
    assert {e["pid"] for e in events if e["name"] == "process_name"} == {e["pid"] for e in events}
    for slices in tracks.values():
        around: list[float] = []
        for begin, end in sorted(slices, key=lambda one: (one[0], -one[1])):
            while around and around[-1] <= begin + cycle / 2:
                around.pop()
            assert not around or end <= around[-1] + cycle / 2
            around.append(end)
