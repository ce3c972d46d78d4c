"""Tables of published choices: values of a mapping's rules, looked up by sizes and machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from accelsim.errors import Fault, InputError, one_of
from accelsim.load import catalog
from accelsim.load.mapping_text import ChoicesText, Scalar
from accelsim.load.source import Document, read, validate


def choices(
    table: Document, let: Iterable[str]
) -> tuple[Mapping[tuple[Scalar, ...], dict[str, Scalar]], tuple[str, ...]]:
    """The table's values by case, and the names whose values make a case.

    ``let`` are the mapping's own values, which alone can be chosen.  Raises
    InputError with every row and column that does not fit.

    >>> from accelsim.load.source import from_text
    >>> choices(from_text('''
    ... choices: own
    ... source: nobody
    ... when: [M]
    ... let: [M0]
    ... rows: [[1024, 64], [4096, 128]]
    ... '''), ["M0", "M1"])
    ({(1024,): {'M0': 64}, (4096,): {'M0': 128}}, ('M',))
    """
    text = validate(table, ChoicesText)
    known, faults = list(let), []
    rows: dict[tuple[Scalar, ...], dict[str, Scalar]] = {}
    width = len(text.when) + len(text.let)
    for i, row in enumerate(text.rows):
        if len(row) != width:
            faults.append(Fault(table.place(("rows", i)), f"{len(row)} columns", f"{width}"))
            continue
        key = tuple(row[: len(text.when)])
        if key in rows:
            faults.append(Fault(table.place(("rows", i)), "this case is given twice", "once"))
        rows[key] = dict(zip(text.let, row[len(text.when) :], strict=True))
    for i, name in enumerate(text.let):
        if name not in known:
            place = table.place(("let", i))
            faults.append(Fault(place, f"the mapping has no value '{name}'", one_of(known)))
    if faults:
        raise InputError(faults)
    return rows, tuple(text.when)


def table_of(document: Document, path: Path) -> Document | None:
    """The document of choices that a mapping document names, None if it names none.

    It stands beside the mapping's file, or among the shipped ones.  Raises
    InputError where there is no such file.

    >>> path = catalog.files("mapping")["flat"]
    >>> table_of(read(path), path).value["choices"]
    'flat'
    """
    wanted = document.value.get("choices") if isinstance(document.value, dict) else None
    if not isinstance(wanted, str):
        return None
    shipped = catalog.folder("arch_configs") / "choices" / f"{wanted}.yaml"
    for file in (path.parent / f"{wanted}.yaml", shipped):
        if file.is_file() and file != path:
            return read(file)
    place = document.place(("choices",))
    raise InputError([Fault(place, f"no choices file '{wanted}'", "arch_configs/choices")])
