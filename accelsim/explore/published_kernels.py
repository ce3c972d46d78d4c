"""Published kernel times: sums of described kernels on described GPUs, sizes by a row's columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelsim.errors import refuse
from accelsim.explore.estimate_gpu import estimate_kernel
from accelsim.ir.published import Table, Timed
from accelsim.ir.rule import Rule, Value, shown
from accelsim.load.gpu import load_gpu


def seconds(table: Table, scope: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of every quantity of a table that described kernels make up.

    Kernels of one quantity follow each other in one stream: the first launch
    costs what a lone one does, the others what one behind another does.
    Raises InputError for sizes or options that a kernel does not have.

    >>> from accelsim.load.published import load_exhibits
    >>> table = load_exhibits("s2-attention")["s2-attention-kernel"].tables[0]
    >>> found = seconds(table, {**table.configuration(0), "n": 32768})
    >>> 0.05 < found["forward"] < 0.2
    True
    """
    return {name: _stream(parts, scope) for name, parts in table.kernels}


def _stream(parts: tuple[Timed, ...], scope: Mapping[str, Any]) -> float:
    """Seconds of kernels one behind the other; those of no turn have no sizes either."""
    total = launches = 0.0
    first = following = 0.0
    for part in parts:
        times = amount(part.times, scope)
        if not times:
            continue
        arch = _named(part.arch, scope)
        sets = [f"{name}={_shown(option, scope)}" for name, option in part.sets]
        shape = {rank: round(amount(rule, scope)) for rank, rule in part.shape}
        found = estimate_kernel(_named(part.kernel, scope), arch=arch, shape=shape, sets=sets)
        total += times * (found.latency_s - found.launch_s)
        launches += times * len(found.launches)
        cost = load_gpu(arch).launch
        first, following = first or cost.first_s, cost.next_s
    return total + first + max(0.0, launches - 1) * following


def amount(rule: Rule, scope: Mapping[str, Any]) -> float:
    """A rule's value, which must be a number, 0 or more; InputError at its place otherwise.

    >>> from accelsim.ir.rule import rule
    >>> amount(rule("2 * L"), {"L": 32})
    64.0
    """
    value = rule.value(scope)
    if isinstance(value, str) or value < 0:
        raise refuse(f"'{rule.text}' is {shown(value)}", "a number, 0 or more", rule.place)
    return float(value)


def _named(name: str, scope: Mapping[str, Any]) -> str:
    """What stands in the column of a name; the name itself where there is no such column."""
    found = scope.get(name, name)
    return found if isinstance(found, str) else name


def _shown(option: Rule | str, scope: Mapping[str, Any]) -> Value:
    return option if isinstance(option, str) else option.value(scope)
