"""The ``bounds`` verb and command: keys, ends, refusals, the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import accelsim
from accelsim.cli.app import app
from accelsim.errors import InputError

MATMUL = ["bounds", "matmul", "--shape", "M=32,N=32,K=32"]


def test_json_has_the_keys_of_the_design() -> None:
    result = CliRunner().invoke(app, [*MATMUL, "--capacity", "1KiB", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    keys = {"compulsory_bytes", "lower_bytes", "attainable_bytes", "live_bytes", "ops"}
    assert keys <= found.keys()
    assert found["compulsory_bytes"] == 3 * 32 * 32 * 2
    assert found["compulsory_bytes"] <= found["lower_bytes"] <= found["attainable_bytes"]
    assert found["ops"] == 32**3
    assert found["curve"] == []


def test_the_curve_falls_to_the_compulsory_traffic() -> None:
    found = accelsim.bounds("matmul", shape="M=32,N=32,K=32", curve=True)
    moved = [p.attainable_bytes for p in found.curve]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] == found.compulsory_bytes
    assert found.holds


def test_words_of_another_size_scale_every_number() -> None:
    two = accelsim.bounds("softmax", shape="B=2,M=64", capacity="64 B", word="2 B")
    four = accelsim.bounds("softmax", shape="B=2,M=64", capacity="128 B", word="32 bit")
    assert four.lower_bytes == 2 * two.lower_bytes
    assert four.attainable_bytes == 2 * two.attainable_bytes
    assert four.live_bytes == 2 * two.live_bytes


def test_nothing_attains_what_no_mapping_fits() -> None:
    result = CliRunner().invoke(app, [*MATMUL, "--capacity", "4B", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["attainable_bytes"] is None


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"capacity": "1 B"}, "a capacity of 1 B holds no word of 2 B"),
        ({"capacity": 0.0}, "a capacity of 0 bytes"),
        ({"word": "0 B"}, "a word of 0 bytes"),
        ({"capacity": "16"}, "a number without a unit: '16'"),
    ],
)
def test_quantities_that_do_not_fit_are_refused(
    keywords: dict[str, str | float], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        accelsim.bounds("matmul", shape="M=4,N=4,K=4", **keywords)
    assert message in str(caught.value)


def test_people_get_a_table_and_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "new" / "slope.png"
    result = CliRunner().invoke(app, [*MATMUL, "--capacity", "1KiB", "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    for word in (
        "compulsory",
        "lower bound",
        "attainable",
        "live footprint",
        "Traffic by capacity",
    ):
        assert word in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


STORED = """cascade: stored
ranks: [I, J, E]
inputs: {Q: [I, E], K: [J, E], KEEP: [I, J]}
output: S
einsums: ["S[i,j] = Q[i,e] * K[j,e] where KEEP[i,j]"]
"""


def test_formats_and_densities_in_bounds(tmp_path: Path) -> None:
    """By hand: 64 x 32 of Q, K and 64 x 64 of KEEP and S."""
    path = tmp_path / "stored.yaml"
    path.write_text(STORED)
    asked = {"shape": "I=64,J=64,E=32", "capacity": "1MiB"}
    plain = accelsim.bounds(str(path), **asked)
    assert plain.compulsory_bytes == 2 * (2 * 64 * 32 + 2 * 64 * 64)
    assert plain.ops_by_class["mac"] == 64 * 64 * 32
    more = "formats: {K: int4-g128}\ndensity: {KEEP: {value: 0.25, source: assumed}}\neinsums"
    path.write_text(STORED.replace("einsums", more))
    found = accelsim.bounds(str(path), **asked)
    saved = 64 * 32 * (2 - 4.15625 / 8) + 2 * 0.75 * 64 * 64  # K in fewer bits, S where it is
    assert found.compulsory_bytes == pytest.approx(plain.compulsory_bytes - saved)
    assert found.ops_by_class["mac"] == 64 * 64 * 32 / 4
    assert found.lower_bytes <= found.compulsory_bytes <= found.attainable_bytes
    assert found.attainable_bytes < plain.attainable_bytes


def test_a_short_last_tile_counts_what_is_there() -> None:
    shape = "B=1,H=1,P=8,E=4,F=4"
    short, even = (
        accelsim.bounds("attention-1pass", shape=f"{shape},M={m},M0=4", capacity="256 B")
        for m in (13, 16)
    )
    assert short.compulsory_bytes == 2 * (2 * 8 * 4 + 2 * 13 * 4)
    assert short.holds
    assert even.holds
    assert short.lower_bytes <= even.lower_bytes
    assert short.ops_by_class["mac"] == 2 * 13 * 8 * 4
    assert short.ops_by_class["exp"] == 13 * 8 + 4 * 8  # of scores, and a correction a tile
    whole = accelsim.bounds("attention-1pass", shape=f"{shape},M=12,M0=4")
    assert whole.compulsory_bytes < short.compulsory_bytes < even.compulsory_bytes


ALONE = """
cascade: alone
ranks: [P, M]
inputs: {S: [M, P]}
output: Z
split: {M: [M1, M0]}
einsums:
  - L[m0,p] = S[m1,m0,p] :: max(m1)
  - Z[p] = L[m0,p] :: max(m0)
"""


def test_a_tensor_over_inner_parts_alone_has_no_short_last_tile(tmp_path: Path) -> None:
    file = tmp_path / "alone.yaml"
    file.write_text(ALONE, encoding="utf-8")
    asked: dict[str, str] = {"shape": "P=2,M=10,M0=4"}
    message = "L is there for M0 alone, so that the last tile of M cannot be short"
    for verb, more in (
        (accelsim.bounds, {}),
        (accelsim.check, {}),
        (accelsim.map_, {"arch": "teaching"}),
    ):
        with pytest.raises(InputError, match=message):
            verb(file, **asked, **more)
    assert accelsim.bounds(file, shape="P=2,M=12,M0=4").holds
