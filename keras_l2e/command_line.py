"""What all entry points share: flags without TensorFlow, one-line errors, exit codes, flagfiles.

An entry point ends with `command_line.run(main)`. Exit codes: 0 done, 1 for what is found only while
working, 2 for a wrong command, 130 / 143 after Ctrl-C / SIGTERM.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

from absl import app, flags

from keras_l2e.errors import UsageError, WorkError

FLAGS = flags.FLAGS
FLAGFILES = Path(__file__).parent / "flagfiles"
HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull"}


class Stopped(BaseException):
    """Ctrl-C or SIGTERM; not an Exception, so that no handler on the way takes it for a failure."""

    def __init__(self, signal_number: int):
        self.exit_code = 128 + signal_number


def run(main: Callable[[SimpleNamespace], None], positional: bool = False) -> None:
    """Parses the command line, calls `main(config)` and turns failures into one line.

    Args:
        main: takes the values of the entry point's own flags as attributes; with `positional` also
            `config.arguments`, the list of arguments that are not flags.
        positional: whether arguments that are not flags are allowed.
    """

    def guarded(argv: Sequence[str]) -> None:
        if argv[1:] and not positional:
            _fail(2, f"unexpected argument {argv[1]!r}; flags start with --")
        config = values()
        config.arguments = list(argv[1:])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        try:
            main(config)
        except UsageError as error:
            _fail(2, error)
        except WorkError as error:
            _fail(1, error)
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            _fail(1, f"{error.strerror or error}{where and ':' + where}")
        except Stopped as stop:
            print("stopped; what is finished is kept, the same command goes on", file=sys.stderr)
            sys.stdout.flush()
            # TensorFlow's threads may still be inside an operation: do not wait for them.
            os._exit(stop.exit_code)

    app.run(guarded, flags_parser=_parse)


def values() -> SimpleNamespace:
    """The values of the entry point's own flags."""
    return SimpleNamespace(**{flag.name: flag.value for flag in own_flags()})


def own_flags() -> list[flags.Flag]:
    """The flags that are not those of absl itself, by name."""
    return sorted(
        (
            flag
            for module, module_flags in FLAGS.flags_by_module_dict().items()
            if not module.startswith("absl")
            for flag in module_flags
        ),
        key=lambda flag: flag.name,
    )


def _parse(argv: Sequence[str]) -> list[str]:
    if HELP & set(argv[1:]):
        _print_help()
        sys.exit(0)
    try:
        return FLAGS(_with_installed_flagfiles(argv))
    except (flags.Error, OSError, UnicodeError) as error:
        _fail(2, error)


def _with_installed_flagfiles(argv: Sequence[str]) -> list[str]:
    """The arguments with each --flagfile's path replaced by the file that is meant by it."""
    resolved = list(argv)
    for i, argument in enumerate(argv[1:], start=1):
        name, equals, path = argument.partition("=")
        if name.lstrip("-") != "flagfile" or not name.startswith("-"):
            continue
        if not equals:
            path = argv[i + 1] if i + 1 < len(argv) else ""
        resolved[i if equals else i + 1 : i + 1 if equals else i + 2] = [
            f"{name}={find_flagfile(path)}" if equals else str(find_flagfile(path))
        ]
    return resolved


def find_flagfile(path: str) -> Path:
    """The file at `path`, or else the one of that base name that is installed with the package.

    Raises:
        flags.Error: names the path and the installed flagfiles.
    """
    for candidate in (Path(path), FLAGFILES / Path(path).name):
        if path and candidate.is_file():
            _check_flagfile(candidate)
            return candidate
    installed = ", ".join(sorted(file.name for file in FLAGFILES.glob("*.cfg")))
    raise flags.Error(f"no flagfile {path!r}; installed are {installed}")


def _check_flagfile(path: Path) -> None:
    # absl passes over such a line in silence.
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith(("-", "#", "//")):
            raise flags.Error(
                f"{path} line {number}: {line.strip()!r} is no flag; flags start with --"
            )


def _print_help() -> None:
    print(sys.modules["__main__"].__doc__)
    for flag in own_flags():
        default = "" if flag.default is None else f" (default: {flag.default_as_str})"
        choices = (
            f" One of {', '.join(flag.parser.enum_values)}."
            if hasattr(flag.parser, "enum_values")
            else ""
        )
        print(f"  --{flag.name}: {flag.help}{choices}{default}")


def _stop(signal_number: int, frame) -> None:
    raise Stopped(signal_number)


def _fail(exit_code: int, error) -> None:
    message = " ".join(str(error).split())
    print(f"error: {message}", file=sys.stderr)
    sys.exit(exit_code)
