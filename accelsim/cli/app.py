"""The Typer application: one command a verb, and what every command does with a failure.

A command reads its arguments, calls the function of the same name in
``accelsim.explore``, and prints the answer: tables for people, or one JSON
object.  What it needs is imported inside it, so that a command starts as fast
as its own work allows.

Exit status: 0 done, 1 a check or a bound does not hold, 2 bad input.  As
shells have it, 130 for Ctrl-C and 141 for a reader that closed the pipe.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from accelsim import __version__
from accelsim.cli import (
    bounds,
    calibrate,
    compare,
    derive,
    documents,
    estimate,
    exchange,
    language,
    map,
    report,
    simulate,
    sweep,
    systems,
    validate,
)
from accelsim.cli.output import BAD_INPUT, note
from accelsim.errors import InputError

CLOSED_PIPE: Final = 128 + 13


class Verbs(TyperGroup):
    """The commands, with bad input turned into its message and exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
        except InputError as error:
            note(str(error))
            raise typer.Exit(BAD_INPUT) from None
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for the rest)
            raise typer.Exit(CLOSED_PIPE) from None
        except OSError as error:
            note(f"{error.filename or 'accelsim'}: {error.strerror or error}")
            raise typer.Exit(BAD_INPUT) from None
        return answer


app = typer.Typer(
    name="accelsim",
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"accelsim {__version__}")
        raise typer.Exit


@app.callback()
def accelsim(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """How fast, how much energy, how much buffer: attention variants on accelerators in YAML."""


app.command("list")(documents.list_)
app.command("show")(documents.show)
app.command("passes")(language.passes)
app.command("check")(language.check)
app.command("derive")(derive.derive)
app.command("bounds")(bounds.bounds)
app.command("calibrate")(calibrate.calibrate)
app.command("map")(map.map_)
app.command("estimate")(estimate.estimate)
app.command("simulate")(simulate.simulate)
app.command("compare")(compare.compare)
app.command("sweep")(sweep.sweep)
app.command("systems")(systems.systems)
app.command("report")(report.report)
app.command("validate")(validate.validate)
app.command("import")(exchange.import_)
app.command("export")(exchange.export)
app.command("schema")(documents.schema)


def main() -> None:
    """The entry point of the ``accelsim`` command."""
    app(prog_name="accelsim")
