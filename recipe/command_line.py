"""What every script shares at the command line: one-line errors, exit codes and quiet libraries.

Light on purpose: `--help`, and a mistake in the arguments, must not wait for torch and transformers to import.
"""

import argparse
import atexit
import difflib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from recipe.errors import CheckFailed, Interrupted, UsageError, disk_refusal
from recipe.machine import is_main_process, silence_libraries

DEFAULT_RUN = "runs/quickstart"
# Seconds until a signal is looked at again that came while this process was being forked.
AFTER_FORK = 0.1


class _Fork:
    """Whether this process is being forked, so that Python runs hooks from which nothing can be raised."""

    under_way = False


_FORK = _Fork()


class OneLineErrors:
    """Mixed into an `ArgumentParser`: a mistake raises `UsageError` instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Raise the parser's complaint as a `UsageError`.

        Raises:
            UsageError: Always.
        """
        raise UsageError(message)

    def parse_known_flags(self: Any, argv: list[str]) -> argparse.Namespace:
        """Return the parsed `argv`, refusing what the parser does not know.

        Raises:
            UsageError: A flag is unknown (names the nearest known one), lacks its value or has one of the wrong type.
        """
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            kind = "flag" if unknown[0].startswith("-") else "argument"
            raise UsageError(unknown_name(kind, unknown[0].split("=")[0], self._option_string_actions))
        return namespace


class Parser(OneLineErrors, argparse.ArgumentParser):
    """An `ArgumentParser` for the scripts that work on a run's folder and need no transformers to read their flags."""

    def __init__(self, description: str | None) -> None:
        """Show `description`, a script's docstring, as it is written; take `--run`, and no abbreviated flags."""
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        self.add_argument("--run", type=Path, default=DEFAULT_RUN, help="the run's folder (default: %(default)s)")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that is not known, with the nearest one that is."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"unknown {kind} {name!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else "")


def run(main: Callable[[list[str]], None]) -> NoReturn:
    """Call `main` with the command line and exit.

    Exit codes: 0 done, 1 a check failed, 2 a mistake in what was asked, 130 Ctrl-C, 143 SIGTERM.
    """
    silence_libraries()
    # So that either ends what was started and removes what is half-written, and workers end without a word.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, partial(_end, os.getpid()))
    # Not functions of Python's, in which a handler might run before they have done anything.
    forking = [partial(setattr, _FORK, "under_way", value) for value in (True, False)]
    os.register_at_fork(before=forking[0], after_in_parent=forking[1])
    if isinstance(sys.stdout, TextIOWrapper):
        # A review may hold what the terminal's encoding has no character for.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main(sys.argv[1:])
    except UsageError as error:
        _exit_with(error, 2)
    except CheckFailed as error:
        _exit_with(error, 1)
    except Interrupted as stopped:
        _exit_with(stopped, stopped.code)
    except SystemExit as end:
        if end.code != 128 + signal.SIGTERM:
            raise
        _exit_with("ended by SIGTERM", end.code)
    except KeyboardInterrupt:
        _exit_with("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output (`| head`) has left; Python would complain once more while closing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if not (refusal := disk_refusal(error)):
            raise
        _exit_with(refusal, 2)
    sys.exit(0)


def _end(main_process: int, number: int, *_: object) -> None:
    """Unwind whatever is running, with the exit code that a shell gives a process ended by the signal.

    Raises:
        KeyboardInterrupt: It was Ctrl-C.
        SystemExit: It was SIGTERM.
    """
    if os.getpid() != main_process:
        # A worker that inherited this, and holds locks that others wait for, has nothing to clear up or to say.
        os._exit(128 + number)
    if _FORK.under_way:
        # What is raised now would be lost in a hook, logging's own for one, and the work go on: a moment later, then.
        signal.signal(signal.SIGALRM, lambda *_: _end(main_process, number))
        signal.setitimer(signal.ITIMER_REAL, AFTER_FORK)
        return
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def read_lines(stream: TextIOWrapper) -> Iterator[str]:
    """Yield a text stream's lines without their ends; an empty line counts as an empty review.

    Raises:
        UsageError: The stream is a terminal, where nobody would know that input is awaited, or not UTF-8.
    """
    if stream.isatty():
        raise UsageError("no review given: pass some as arguments, or one per line on standard input")
    # In a C locale Python would pass on bytes that are not UTF-8, at which the tokenizer fails.
    stream.reconfigure(encoding="utf-8-sig", errors="strict")
    number = 0
    try:
        for number, line in enumerate(stream, start=1):
            yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 after line {number}: {error}") from error
    if not number:
        print("no review on standard input", file=sys.stderr)


def require_utf8(texts: list[str]) -> list[str]:
    """Return `texts`, unless the command line that brought them was not UTF-8.

    Raises:
        UsageError: Names the text.
    """
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise UsageError(f"the review {ascii(text)} is not UTF-8") from None
    return texts


def _exit_with(message: object, code: int) -> NoReturn:
    """Say `message` in one line on standard error, from one process only, and exit with `code`."""
    if is_main_process():
        one_line = " ".join(str(message).split())
        print(f"{Path(sys.argv[0]).name}: error: {one_line}", file=sys.stderr)
    # Arrow's threads, where a read broke off, would abort the interpreter while it takes itself apart, with a code and
    # a message of their own; what clears up at exit is run all the same.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)
