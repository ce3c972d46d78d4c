"""Bad cascades and the messages they get, word for word.

Each ``tests/golden/errors/NAME.yaml`` is loaded, and what is wrong with it
compared with ``NAME.txt``.  ``ACCELSIM_UPDATE_GOLDEN=1 pytest`` writes the
texts anew, to be read before they are committed.
"""

import os
from pathlib import Path

import pytest

from accelsim.errors import InputError
from accelsim.load.cascade import load_cascade

FOLDER = Path(__file__).parent.parent / "golden" / "errors"
UPDATE = os.environ.get("ACCELSIM_UPDATE_GOLDEN")


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.yaml")))
def test_messages(name, monkeypatch):
    monkeypatch.chdir(FOLDER)
    with pytest.raises(InputError) as caught:
        load_cascade(f"{name}.yaml")
    found = str(caught.value) + "\n"
    if UPDATE:
        (FOLDER / f"{name}.txt").write_text(found, encoding="utf-8")
    assert found == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def test_every_text_has_its_document():
    assert {p.stem for p in FOLDER.glob("*.txt")} == {p.stem for p in FOLDER.glob("*.yaml")}
