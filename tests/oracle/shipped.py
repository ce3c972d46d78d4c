"""Which shipped cascades the general tests run over."""

from __future__ import annotations

from accelsim.load import catalog


def textbook_cascades() -> tuple[str, ...]:
    """Those that may have any sizes; published systems have tests of their own (tests/systems)."""
    return tuple(
        name
        for name in catalog.names("cascade")
        if catalog.find("cascade", name).parent.name != "systems"
    )
