"""How a command ends: its error as a line on stderr, and one of the documented exit codes."""

import os
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from batchsent.errors import EXIT_BUG, BatchsentError, PipeClosed
from batchsent.memory import memory_errors
from batchsent.standard_streams import open_missing
from batchsent.terminal.reporters import json_line, write_line
from batchsent.text import printable
from batchsent.urls import redacted

if TYPE_CHECKING:
    from batchsent.run.models import Models


def run_and_exit(group: click.Group, arguments: list[str] | None, models: "Models | None") -> None:
    """Run a command of the group and end the process with one of the documented codes."""
    words = sys.argv[1:] if arguments is None else arguments
    as_json = wants_json_log(words)
    code = EXIT_BUG
    try:
        open_missing()
        leave_out_accelerate(words)
        with memory_errors():
            code = group.main(arguments, standalone_mode=False, obj=models) or 0
            sys.stdout.flush()
    except click.exceptions.Exit as error:
        code = error.exit_code
    except SystemExit:  # click has answered a shell that completes a command line
        code = 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = 130
        say_error("stopped by SIGINT", None, code, as_json=as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        code = 2
        print(error.format_message(), file=sys.stderr)  # noqa: T201 (help, as it is)
    except click.ClickException as error:
        code = 2
        say_error(error.format_message(), usage_hint(error), 2, as_json=as_json)
    except BrokenPipeError:
        code = PipeClosed.exit_code
    except BatchsentError as error:
        code = error.exit_code
        if not isinstance(error, PipeClosed) and not error.reported_by_rank:
            say_error(error.message, error.hint, code, as_json=as_json, **error.details)
        if error.exit_immediately:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    except OSError as error:  # without a name it is stdout, which is full or gone
        code = 5
        name = "stdout" if error.filename is None else printable(error.filename)
        say_error(f"{name}: {error.strerror or error}", None, code, as_json=as_json)
    except Exception as error:  # noqa: BLE001 (the last border: a bug still ends with its documented code)
        import traceback

        if os.environ.get("BATCHSENT_TRACEBACK") or not as_json:
            print(redacted(traceback.format_exc()), end="", file=sys.stderr)  # noqa: T201
        say_error(
            f"a bug in batchsent: {type(error).__name__}: {error}",
            "please report it with the traceback and what `batchsent info --check` prints",
            code,
            as_json=as_json,
        )
    finally:
        leave(code)


def wants_json_log(arguments: list[str]) -> bool:
    """Tell whether errors go to stderr as JSON.

    The words themselves are looked at: click stops at the first option that it cannot parse, which
    may stand before this one.
    """
    return "--log-format=json" in arguments or ("--log-format", "json") in pairwise(arguments)


def leave_out_accelerate(arguments: list[str]) -> None:
    """Keep accelerate, which only training uses, out of a process that scores.

    transformers imports it wherever it is installed. The process ends with its command, so nothing
    that comes later misses it.
    """
    if arguments[:1] in (["batch"], ["predict"]):
        sys.modules.setdefault("accelerate", None)  # type: ignore[arg-type]  # Python's mark of a module that is not there


def usage_hint(error: click.ClickException) -> str | None:
    """Return where to read on."""
    context = getattr(error, "ctx", None)
    return f"see {context.command_path} --help" if context is not None else None


def say_error(message: str, hint: str | None, code: int, *, as_json: bool, **details: Any) -> None:
    """Print an error to stderr, safe for a terminal, or as the last line of a JSON log."""
    try:
        if as_json:
            facts = {"exit_code": code, "message": message, "hint": hint, **details}
            write_line(json_line("exit_error", "error", **facts))
        else:
            lines = [f"batchsent: {text}" for text in message.splitlines()] + (
                [f"  {hint}"] if hint else []
            )
            print("\n".join(printable(line) for line in lines), file=sys.stderr)  # noqa: T201
    except OSError:
        pass  # nobody listens


def leave(code: int) -> None:
    """End the process with `code`.

    A thread may still be blocked reading a pipe, or in the middle of a forward pass: on the way out
    of an error the interpreter is not asked to wait for it.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 5
            # Python would complain once more when it closes the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if code in {0, 3}:
        sys.exit(code)
    os._exit(code)
