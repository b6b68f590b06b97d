"""Share one-line errors, exit codes, signals and the parser among the scripts.

Light on purpose: `--help`, and a mistake in the arguments, must not wait for torch and transformers to import.
"""

import argparse
import atexit
import difflib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from recipe.errors import CheckFailed, Interrupted, RecipeWarning, UsageError, disk_refusal, signal_of
from recipe.machine import forget_leftover_launch, is_main_process, let_threads_sleep, silence_libraries

DEFAULT_RUN = "runs/quickstart"
SPLITS = ("train", "validation", "test")
# Seconds.
FREED_AFTER = 0.05


class OneLineErrors:
    """Makes an `ArgumentParser` raise `UsageError` for a mistake instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Raise the parser's complaint as a `UsageError`."""
        raise UsageError(message)

    def parse_known_flags(self: Any, argv: list[str]) -> argparse.Namespace:
        """Return the parsed `argv`.

        Raises:
            UsageError: A flag is unknown (names the nearest known one), lacks its value or has one of the wrong type.
        """
        namespace: argparse.Namespace
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            kind = "flag" if unknown[0].startswith("-") else "argument"
            raise UsageError(unknown_name(kind, unknown[0].split("=")[0], self._option_string_actions))
        return namespace


class Parser(OneLineErrors, argparse.ArgumentParser):
    """Parses a script's flags."""

    def __init__(self, description: str | None = None, **settings: Any) -> None:
        """Show `description`, a script's docstring, as it is written; take no abbreviated flags."""
        kept = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=kept, allow_abbrev=False, **settings)


class RunFolderParser(Parser):
    """Parses the flags of a script that works on a run's folder."""

    def __init__(self, description: str | None) -> None:
        """Take `--run`."""
        super().__init__(description)
        self.add_argument("--run", type=Path, default=DEFAULT_RUN, help="the run's folder (default: %(default)s)")

    def add_files(self, test: str = "") -> None:
        """Take the flags that say where a run's own files are now; `test` ends the help of the test file's."""
        for split in SPLITS:
            words = f"where the run's {split} file is now{test if split == 'test' else ''}"
            self.add_argument(f"--{split}_file", nargs="+", metavar="FILE", help=words)
        self.add_argument("--corrections", nargs="+", metavar="FILE", help="where the run's corrections are now")

    @staticmethod
    def files_of(flags: argparse.Namespace) -> dict[str, list[str]]:
        """Return what the flags of `add_files` were given, by split, and as `corrections`."""
        named = {split: getattr(flags, f"{split}_file") for split in SPLITS} | {"corrections": flags.corrections}
        return {split: given for split, given in named.items() if given}


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest known one."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"unknown {kind} {name!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else "")


def run(main: Callable[[list[str]], None]) -> NoReturn:
    """Call `main` with the command line and exit.

    Exit codes: 0 done, 1 a check failed, 2 a mistake in what was asked, 130 Ctrl-C, 143 SIGTERM.
    """
    forget_leftover_launch()
    silence_libraries()
    let_threads_sleep()
    warnings.simplefilter("default", RecipeWarning)
    warnings.showwarning = _show_warning
    _at_signals(partial(_unwind, os.getpid()))
    sys.unraisablehook = _signal_again
    if isinstance(sys.stdout, TextIOWrapper):
        # A review may hold a character that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _outcome(main)
    except (KeyboardInterrupt, SystemExit) as error:
        # Of a signal that came at main's end, before signals were ignored.
        code = _report(error)
    _at_signals(lambda *_: os._exit(code))
    # Not `sys.exit`: where a parquet read stops early, Arrow's threads abort the interpreter at its end, in most runs
    # (pyarrow 26, exit code 134), even once the reader was garbage-collected.
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


def _outcome(main: Callable[[list[str]], None]) -> int:
    """Call `main` with the command line and return the exit code; signals are ignored from then on."""
    try:
        main(sys.argv[1:])
        sys.stdout.flush()
        _at_signals(signal.SIG_IGN)
        return 0
    except BaseException as error:
        return _report(error)


def _at_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line on standard error, in the main process only."""
    if is_main_process():
        print(f"{Path(sys.argv[0]).name}: warning: {message}", file=sys.stderr)


def _report(error: BaseException) -> int:
    """Print `error` in one line, in the main process only, and return the exit code; raise a defect again.

    Signals are ignored from then on: a launcher may send one again, which is not to cut off the line.
    """
    _at_signals(signal.SIG_IGN)
    if isinstance(error, UsageError | CheckFailed | Interrupted):
        message, code = str(error), error.code
    elif isinstance(error, KeyboardInterrupt):
        message, code = "interrupted", 128 + signal.SIGINT
    elif isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
        message, code = "ended by SIGTERM", error.code
    elif isinstance(error, BrokenPipeError):
        # The reader of our output (`| head`) has left.
        return 0
    elif isinstance(error, Exception) and (refusal := disk_refusal(error)):
        message, code = refusal, UsageError.code
    else:
        # Python waits for other threads before it exits; a signal must still end it.
        _at_signals(signal.SIG_DFL)
        raise error
    # Whoever reads the errors may have left.
    with suppress(OSError):
        if is_main_process():
            print(f"{Path(sys.argv[0]).name}: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _unwind(main_process: int, number: int, frame: FrameType | None) -> None:
    """End this process by an exception, so that it stops what it started and removes what is half-written."""
    if os.getpid() != main_process:
        # A data-loader worker inherits this handler; it must not run the main process's cleanup.
        os._exit(128 + number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _signal_again(dropped: Any) -> None:
    """Send the signal again whose exception Python has dropped, as it does while an object is freed."""
    if not (number := signal_of(dropped.exc_value)):
        return sys.__unraisablehook__(dropped)
    # Later, because a long garbage collection frees many objects. To the process, because a signal to the timer's own
    # thread wakes no main thread that waits.
    again = threading.Timer(FREED_AFTER, os.kill, [os.getpid(), number])
    again.daemon = True
    again.start()


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
        for line in stream:
            number += 1
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
