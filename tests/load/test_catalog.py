"""Shipped documents are found by name in a checkout and in a wheel; others by path."""

import pytest

from accelsim.errors import InputError, Place
from accelsim.load import catalog


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Data folders of our own, inside the package as a wheel has them."""
    package = tmp_path / "accelsim"
    for name in (
        "einsum_cascades/attention-3pass.yaml",
        "einsum_cascades/linear/retention.yml",
        "einsum_cascades/README.md",
        "arch_configs/spatial/fusemax-cloud.yaml",
        "arch_configs/gpu/h100.yaml",
        "arch_configs/mappings/fusemax.yaml",
        "arch_configs/designs/flat.yaml",
    ):
        path = package / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x: 1\n")
    monkeypatch.setattr(catalog, "__file__", str(package / "load" / "catalog.py"))
    monkeypatch.chdir(tmp_path)
    catalog.files.cache_clear()
    yield package
    catalog.files.cache_clear()


def test_names(shipped):
    assert catalog.names("cascade") == ("attention-3pass", "retention")
    assert catalog.names("arch") == ("fusemax-cloud", "h100")
    assert catalog.names("mapping") == ("fusemax",)
    assert catalog.names("design") == ("flat",)
    assert catalog.folder("validation") == shipped / "data" / "validation"


def test_a_package_of_the_same_name_beside_ours_hides_nothing(shipped):
    (shipped.parent / "validation").mkdir()
    assert catalog.folder("validation") == shipped / "data" / "validation"


def test_in_a_checkout_the_folders_stand_beside_the_package(shipped):
    (shipped / "data").rename(shipped / "elsewhere")
    assert catalog.folder("validation") == shipped.parent / "validation"


def test_find(shipped, tmp_path):
    assert catalog.find("cascade", "retention").name == "retention.yml"
    mine = tmp_path / "mine.yaml"
    mine.write_text("x: 1")
    assert catalog.find("arch", mine) == mine
    assert catalog.find("arch", "mine.yaml").resolve() == mine


@pytest.mark.parametrize(
    ("kind", "name", "message", "allowed"),
    [
        (
            "cascade",
            "attention-3pas",
            "unknown cascade 'attention-3pas'",
            "attention-3pass? (attention-3pass, retention)",
        ),
        ("arch", "tpu", "unknown arch 'tpu'", "fusemax-cloud, h100"),
        ("arch", "accelsim", "unknown arch 'accelsim'", "fusemax-cloud, h100"),
        ("design", "no/such.yaml", "no such file: 'no/such.yaml'", "flat"),
        ("mapping", "a\0b", "unknown mapping 'a\\x00b'", "fusemax"),
    ],
)
def test_unknown(shipped, kind, name, message, allowed):
    place = Place("d.yaml", 2, 3)
    with pytest.raises(InputError) as caught:
        catalog.find(kind, name, place)
    (fault,) = caught.value.faults
    assert (fault.place, fault.message, fault.allowed) == (place, message, allowed)


def test_nothing_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "__file__", str(tmp_path / "accelsim" / "load" / "catalog.py"))
    catalog.files.cache_clear()
    with pytest.raises(InputError, match="the path of a file"):
        catalog.find("cascade", "x")
    catalog.files.cache_clear()
