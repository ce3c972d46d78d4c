"""``derive``: the better cascade, found by algebra."""

from __future__ import annotations

from accelsim.cli.options import Cascade, Json
from accelsim.cli.output import print_json, print_text


def derive(cascade: Cascade, as_json: Json = False) -> None:
    """Find cascades that equal this one with fewer passes, confirmed by execution, best first."""
    from accelsim.explore.derive import derive as search
    from accelsim.report.derive import derive as prose

    result = search(cascade).to_dict()
    return print_json(result) if as_json else print_text(prose(result))
