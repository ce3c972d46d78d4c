"""TeAAL specifications (Nayak et al., TeAAL, MICRO 2023): the Einsums become a cascade.

A specification has ``einsum`` with ``declaration`` (tensors and their ranks)
and ``expressions``.  Its mapping, format, architecture and bindings have no
counterpart in a cascade and are named.
"""

from __future__ import annotations

import re
from typing import Any, Final

from accelsim.load.foreign import Foreign, Imported

#: Sections of a specification that a cascade has no place for.
OTHERS: Final = ("mapping", "format", "architecture", "bindings")
_HEAD: Final = re.compile(r"\s*([A-Za-z]\w*)\s*\[([^\]]*)\]\s*=\s*(.*)", re.S)
_ACCESS: Final = re.compile(r"([A-Za-z]\w*)\s*\[([^\]]*)\]")
_TAKE: Final = re.compile(r"\b(take|dot)\s*\(")


def is_teaal(value: Any) -> bool:
    """Whether a document looks like a TeAAL specification.

    >>> is_teaal({"einsum": {"declaration": {}, "expressions": []}})
    True
    """
    einsum = value.get("einsum") if isinstance(value, dict) else None
    return isinstance(einsum, dict) and "expressions" in einsum


def teaal(found: Foreign, name: str) -> Imported:
    """The cascade of a TeAAL specification.

    Raises InputError at expressions that mean something else than sums of
    products (``take``), and at tensors that are not declared.
    """
    einsum = found.value["einsum"]
    declared = einsum.get("declaration") or {}
    expressions = einsum.get("expressions") or []
    notes = [f"{part}: not part of a cascade, left out" for part in OTHERS if part in found.value]
    written: list[str] = []
    read: list[str] = []
    lines = []
    for n, text in enumerate(expressions):
        at = ("einsum", "expressions", n)
        head = _HEAD.fullmatch(str(text))
        if head is None:
            raise found.refuse(at, f"{str(text)!r} is no Einsum", "Z[m,n] = A[k,m] * B[k,n]")
        if (taken := _TAKE.search(head[3])) is not None:
            raise found.refuse(at, f"{taken[1]}(...) has no counterpart", "products and sums")
        accesses = _ACCESS.findall(head[3])
        for tensor, _ in [(head[1], ""), *accesses]:
            if tensor not in declared:
                raise found.refuse(at, f"{tensor} is not declared", ", ".join(declared))
        written.append(head[1])
        read += [tensor for tensor, _ in accesses]
        lines.append(" ".join(str(text).split()))
    for tensor in {t for t in written if written.count(t) > 1}:
        at = ("einsum", "expressions", len(written) - 1 - written[::-1].index(tensor))
        raise found.refuse(at, f"{tensor} is written twice", "one Einsum a tensor")
    inputs = [t for t in dict.fromkeys(read) if t not in written]
    results = [t for t in written if t not in read]
    used = {t: [str(r) for r in declared[t]] for t in dict.fromkeys([*inputs, *written])}
    letters = {v.upper() for line in lines for _, inside in _ACCESS.findall(line)
               for v in re.findall(r"[a-z]\w*", inside)}  # fmt: skip
    ranks = list(dict.fromkeys([*(r for own in used.values() for r in own), *sorted(letters)]))
    notes += [f"{t}: declared and not used, left out" for t in declared if t not in used]
    document: dict[str, Any] = {
        "cascade": name,
        "source": "a TeAAL specification",
        "ranks": ranks,
        "inputs": {t: used[t] for t in inputs},
        **({"output": results[0]} if len(results) == 1 else {"outputs": results}),
        "einsums": lines,
    }
    return Imported(document, {}, tuple(notes))
