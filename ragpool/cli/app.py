"""The typer app, and the one place where errors become a line and an exit code.

Exit codes: 0 done; 1 done in part, or failed; 2 the call was wrong; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ragpool import __version__
from ragpool.cli import ask, batch, config, doctor, documents, evaluation, pools, serve, train
from ragpool.cli.common import Interrupted
from ragpool.errors import RagpoolError

# telemetry of the libraries below is off unless the user turned it on; set before any of them is imported
_QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

app = typer.Typer(
    help="Answers over your own documents, from a pool of evidence that is judged before anything is written.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("index")(documents.index)
app.command("search")(documents.search)
app.command("ask")(ask.ask)
app.command("batch")(batch.batch)
app.command("eval")(evaluation.evaluate)
app.command("serve")(serve.serve)
app.command("mcp")(serve.mcp)
app.command("doctor")(doctor.doctor)
app.add_typer(pools.app, name="pool")
app.add_typer(serve.keys, name="keys")
app.add_typer(train.app, name="train")
app.add_typer(config.app, name="config")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ragpool {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the stack trace of an error (anywhere on the line).")
    ] = False,
) -> None:
    """Shared options; --debug is taken out of the line by ``main``."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in line
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        code = app([word for word in line if word != "--debug"], standalone_mode=False)
        if code == Interrupted.exit_code:  # typer ends a Ctrl-C without a word
            _report("interrupted; what was committed is kept", Interrupted.exit_code, debug=False)
    except RagpoolError as error:
        code = _report(str(error), error.exit_code, debug)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone; the interpreter would complain about it at exit
        code = 1
    except typer.Abort:
        code = _report("stopped", 1, debug=False)
    except Exception as error:  # the last stop: a defect becomes one line too, with the way to see more
        if debug:
            raise
        code = _usage(error)
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Exception) -> int:
    show = getattr(error, "show", None)
    if callable(show):  # click's own errors know their text and code
        show()
        return int(getattr(error, "exit_code", 2))
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return _report(f"unexpected {text[:400]} (run again with --debug for the stack trace)", 1, debug=False)


def _report(message: str, code: int, debug: bool) -> int:
    if debug:
        raise
    typer.echo(f"ragpool: {message}", err=True)
    return code
