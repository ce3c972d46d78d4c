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
_HEAD: Final = re.compile(r"\s*([A-Za-z]\w*)\s*(?:\[([^\]]*)\])?\s*=\s*(.*)", re.S)
_ACCESS: Final = re.compile(r"([A-Za-z]\w*)\s*\[([^\]]*)\]")
_NAMES: Final = re.compile(r"[a-z]\w*")
#: A name that is no access, outside brackets.
_BARE: Final = re.compile(r"\b([A-Za-z]\w*)\b(?!\s*[\[(])(?![^\[]*\])")
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

    A tensor without ranks may stand without brackets.  Raises InputError at
    expressions that mean something else than sums of products (``take``), at
    sums of terms that are reduced over different ranks, and at tensors that
    are not declared.
    """
    einsum = found.value["einsum"]
    declared = einsum.get("declaration") or {}
    expressions = einsum.get("expressions") or []
    if not isinstance(expressions, list) or not expressions:
        message = "no list of expressions"
        raise found.refuse(("einsum", "expressions"), message, "- Z[m,n] = A[k,m] * B[k,n]")
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
            message = f"{taken[1]}(...) has no counterpart: what it keeps depends on the data"
            raise found.refuse(at, message, "products and sums")
        body = _BARE.sub(r"\1[]", head[3])
        accesses = _ACCESS.findall(body)
        for tensor, _ in [(head[1], ""), *accesses]:
            if tensor not in declared:
                raise found.refuse(at, f"{tensor} is not declared", ", ".join(declared))
        for tensor in [head[1]] * (head[2] is None) + _BARE.findall(head[3]):
            if declared[tensor]:
                ranks_of = ", ".join(str(r) for r in declared[tensor])
                raise found.refuse(at, f"{tensor} has ranks {ranks_of} and no index", "T[m,n]")
        _alike(found, at, head[2] or "", body)
        written.append(head[1])
        read += [tensor for tensor, _ in accesses]
        lines.append(" ".join(f"{head[1]}[{head[2] or ''}] = {body}".split()))
    for tensor in {t for t in written if written.count(t) > 1}:
        at = ("einsum", "expressions", len(written) - 1 - written[::-1].index(tensor))
        raise found.refuse(at, f"{tensor} is written twice", "one Einsum a tensor")
    inputs = [t for t in dict.fromkeys(read) if t not in written]
    results = [t for t in written if t not in read]
    used = {t: [str(r) for r in declared[t]] for t in dict.fromkeys([*inputs, *written])}
    letters = {v.upper() for line in lines for _, inside in _ACCESS.findall(line)
               for v in _NAMES.findall(inside)}  # fmt: skip
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


def _alike(found: Foreign, at: tuple[str | int, ...], written: str, body: str) -> None:
    """Refuse a sum whose terms are reduced over different ranks.

    There each term is reduced by itself; an Einsum here is reduced as a whole,
    and would count a term once for every element of a rank that it lacks.
    """
    own = set(_NAMES.findall(written))
    terms = re.split(r"[+-](?![^\[]*\])", body)
    reduced = [
        {v for _, inside in _ACCESS.findall(term) for v in _NAMES.findall(inside)} - own
        for term in terms
        if _ACCESS.search(term)
    ]
    if any(one != reduced[0] for one in reduced):
        told = " and ".join(", ".join(sorted(one)) or "none" for one in reduced)
        message = f"the terms are summed over different indices: {told}"
        raise found.refuse(at, message, "an Einsum for each term, and one that adds them")
