"""The ``accelsim`` command, also ``python -m accelsim``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it without a word even while it is being imported."""
    try:
        from accelsim.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
