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
from typing import Annotated, Any, Final, NoReturn

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
from accelsim.cli.output import BAD_INPUT, note, print_faults
from accelsim.errors import InputError, Place, refuse

CLOSED_PIPE: Final = 128 + 13
#: What Typer raises for arguments that it cannot read.
UsageError: Any = typer.BadParameter.__mro__[1]


class Verbs(TyperGroup):
    """The commands, with bad input turned into its message and exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        as_json = "--json" in ctx.args  # those of the command, which has not read them yet
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
        except InputError as error:
            _refuse(error, as_json)
        except UsageError as error:
            if as_json:
                print_faults(refuse(error.format_message()))
            raise  # Typer tells it with the command's usage
        except BrokenPipeError:
            _forget_output()
            raise typer.Exit(CLOSED_PIPE) from None
        except OSError as error:
            if error.filename is None:
                _forget_output()
            place = Place(str(error.filename or "standard output"))
            _refuse(refuse(error.strerror or str(error), place=place), as_json)
        except MemoryError:
            _refuse(refuse("there is not enough memory for that", "smaller sizes"), as_json)
        return answer


def _refuse(error: InputError, as_json: bool) -> NoReturn:
    """Tell what is wrong, and end with the status of bad input."""
    note(str(error))
    if as_json:
        print_faults(error)
    raise typer.Exit(BAD_INPUT) from None


def _forget_output() -> None:
    """Send what is left in the buffer nowhere: where it should go nobody reads, or is no room."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for the rest)


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
