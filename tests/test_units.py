"""Quantities: what people write, what it is worth, and that writing inverts reading."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim import units
from accelsim.errors import InputError, Place

DIMENSIONS = list(units.EXAMPLES)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("3.35 TB/s", "bytes_per_s", 3.35e12),
        ("400 GiB/s", "bytes_per_s", 400 * 2**30),
        ("100 Gbit/s", "bytes_per_s", 12.5e9),
        ("228 KiB", "bytes", 228 * 1024),
        ("16 MB", "bytes", 16e6),
        ("16MiB", "bytes", 16 * 2**20),
        ("  16 bit ", "bytes", 2.0),
        ("512 B", "bytes", 512.0),
        ("940 MHz", "hertz", 940e6),
        ("1.755 GHz", "hertz", 1.755e9),
        ("249.6 pJ", "joules", 249.6e-12),
        ("10 us", "seconds", 10e-6),
        ("10 µs", "seconds", 10e-6),
        ("5 ns", "seconds", 5e-9),
        ("2 s", "seconds", 2.0),
        ("4255.9 um2", "square_metres", 4255.9e-12),
        ("4255.9 µm²", "square_metres", 4255.9e-12),
        ("814 mm^2", "square_metres", 814e-6),
        ("700 W", "watts", 700.0),
        ("0 W", "watts", 0.0),
        ("1.5e3 mW", "watts", 1.5),
        (256, "count", 256.0),
        ("64Ki", "count", 65536.0),
        ("1e6", "count", 1e6),
    ],
)
def test_parse(text, dimension, value):
    assert units.parse(text, dimension) == value


@pytest.mark.parametrize(
    ("text", "dimension", "message", "allowed"),
    [
        (16, "bytes", "a number without a unit: '16'", "16 with a unit, for example 228 KiB"),
        ("16", "seconds", "a number without a unit: '16'", "16 with a unit, for example 10 us"),
        ("-3 TB/s", "bytes_per_s", "a negative quantity: '-3 TB/s'", "0 or more bytes_per_s"),
        ("3 TB", "bytes_per_s", "'TB' is a unit of bytes, not of bytes_per_s", "B/s, kB/s"),
        ("3 KB", "bytes", "unknown unit 'KB' of bytes", "kB, KiB"),
        ("64K", "count", "unknown unit 'K' of count", "k, Ki"),
        ("3 parsec", "seconds", "unknown unit 'parsec' of seconds", "ms, us"),
        ("fast", "hertz", "not a quantity: 'fast'", "example 940 MHz"),
        (True, "count", "not a quantity: 'True'", "example 256"),
        (None, "watts", "not a quantity: 'None'", "example 700 W"),
        ([1], "watts", "not a quantity: '[1]'", "example 700 W"),
        (math.nan, "count", "not a quantity: 'nan'", "example 256"),
        ("1e400 B", "bytes", "too large a quantity: '1e400 B'", "example 228 KiB"),
        pytest.param(10**5000, "count", "too large a quantity: '1e999'", "256", id="huge"),
        ("1e308 EiB", "bytes", "too large a quantity: '1e308 EiB'", "example 228 KiB"),
    ],
)
def test_refused(text, dimension, message, allowed):
    place = Place("m.yaml", 3, 5, "x: y")
    with pytest.raises(InputError) as caught:
        units.parse(text, dimension, place)
    (fault,) = caught.value.faults
    assert fault.message == message
    assert allowed in fault.allowed
    assert fault.place == place


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (2.0, "bytes", "2 B"),
        (1000, "bytes", "1 kB"),
        (1024, "bytes", "1 KiB"),
        (2**24, "bytes", "16 MiB"),
        (0.125, "bytes", "0.125 B"),
        (400 * 2**30, "bytes_per_s", "400 GiB/s"),
        (4255.9e-12, "square_metres", "4255.9 um2"),
        (814e-6, "square_metres", "814 mm2"),
        (249.6e-12, "joules", "249.6 pJ"),
        (0.0, "joules", "0 J"),
        (256, "count", "256"),
        (math.inf, "seconds", "inf s"),
    ],
)
def test_show(value, dimension, text):
    assert units.show(value, dimension) == text


def test_show_rounds_for_people():
    assert units.show(1891.834567, "seconds", digits=4) == "1892 s"
    assert units.show(402653184, "bytes", digits=3) == "384 MiB"
    assert units.show(6.803e12 + 1, "bytes", digits=3) == "6.8 TB"
    assert units.show(999.9e-6, "seconds", digits=2) == "1 ms"


@given(st.floats(min_value=0, max_value=1e300), st.sampled_from(DIMENSIONS))
def test_reading_inverts_writing(value, dimension):
    assert units.parse(units.show(value, dimension), dimension) == value


@given(st.integers(min_value=0, max_value=2**70), st.sampled_from(DIMENSIONS))
def test_reading_inverts_writing_of_integers(value, dimension):
    assert units.parse(units.show(value, dimension), dimension) == float(value)


@given(st.text() | st.integers() | st.floats(), st.sampled_from(DIMENSIONS))
def test_only_input_errors_come_out(text, dimension):
    with contextlib.suppress(InputError):
        assert units.parse(text, dimension) >= 0
