"""What all entry points share: flags from a dataclass, one-line errors, exit codes.

An entry point ends with `command_line.run(main, Arguments)`, where Arguments is a dataclass of
settings. Exit codes: 0 done, 1 for what is found only while working, 2 for a wrong command,
130 / 143 after Ctrl-C / SIGTERM. A flag given on the command line wins over the same one in a
flagfile, wherever it stands.
"""

import contextlib
import dataclasses
import difflib
import functools
import os
import signal
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from absl import flags

from keras_l2e import devices, settings
from keras_l2e.errors import UsageError, WorkError

Arguments = TypeVar("Arguments", bound=settings.Settings)

FLAGFILES = Path(__file__).parent / "flagfiles"
HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull"}


def run(main: Callable[[Arguments], object], arguments: type[Arguments]) -> None:
    """Parses the command line, calls `main(arguments(...))` and turns failures into one line.

    Args:
        main: the entry point's work.
        arguments: its settings; if it has a field `arguments`, this takes the list of
            what is no flag, which else is refused.
    """
    signal.signal(signal.SIGTERM, _stop)
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.simplefilter("default")  # TensorFlow and TFDS warn of themselves.
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where they were closed.
        stream.reconfigure(errors="backslashreplace")  # Not every terminal shows every path.
    try:
        if HELP & set(sys.argv[1:]):
            print(format_help(arguments, sys.modules[main.__module__].__doc__))
        else:
            main(parse(arguments, sys.argv))
        print(end="", flush=True)  # Else a full disk is noticed after the end, where nobody looks.
    except UsageError as error:
        _fail(2, error)
    except WorkError as error:
        _fail(1, error)
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # Python would try to write the rest, and complain.
            sys.stdout = None
        where = f": {error.filename}" if error.filename else ""
        _fail(1, f"{error.strerror or error}{where}")
    except KeyboardInterrupt as stop:
        with contextlib.suppress(OSError):  # The same Ctrl-C may have ended who reads it.
            print("stopped; the same command goes on from what is finished", file=sys.stderr)
            print(end="", flush=True)
        # TensorFlow's threads may still be inside an operation: do not wait for them.
        os._exit(128 + (stop.args[0] if stop.args else signal.SIGINT))
    except Exception as error:
        if (message := devices.explain(error)) is None:
            raise
        _fail(1, message)


def _stop(signal_number: int, frame) -> None:
    raise KeyboardInterrupt(signal_number)


def _fail(exit_code: int, error) -> None:
    message = " ".join(str(error).split())
    print(f"error: {message}", file=sys.stderr)
    sys.exit(exit_code)


def parse(arguments: type[Arguments], argv: Sequence[str]) -> Arguments:
    """An instance of the dataclass `arguments` from a command line, its first word left out.

    Raises:
        UsageError: an unknown flag, a value that is not allowed, a flagfile that cannot be read, an
            argument that is no flag where none is taken.
    """
    known, flag_values = settings.of(arguments), flags.FlagValues()
    flag_values.set_gnu_getopt(True)
    for name, setting in known.items():
        # A text, of which `arguments` makes the value.
        flag = flags.Flag(flags.ArgumentParser(), None, name, None, setting.help)
        flag.boolean = isinstance(setting.parser, flags.BooleanParser)
        flags.DEFINE_flag(flag, flag_values)
    try:
        # Unknown flags stay among the rest: absl seeks those like one recursively, letter by
        # letter, and a long one is too deep for it.
        rest = flag_values([argv[0], *_flagfiles_first(argv[1:])], known_only=True)[1:]
    except (flags.Error, ValueError) as error:
        raise UsageError(error) from None
    rest = _without_flags(rest, known)
    values: dict = {name: flag_values[name].value for name in known if flag_values[name].present}
    if any(field.name == "arguments" for field in dataclasses.fields(arguments)):
        values["arguments"] = rest
    elif rest:
        raise UsageError(f"unexpected argument {rest[0]!r}; flags start with --")
    return arguments(**values)


def _without_flags(rest: Sequence[str], known: Iterable[str]) -> list[str]:
    """What absl left of a command line, if no flag is left; all behind -- is none."""
    end = rest.index("--") if "--" in rest else len(rest)
    for argument in rest[:end]:
        if argument.startswith("-") and (name := argument.strip("-").partition("=")[0][:40]):
            similar = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean --{similar[0]}?" if similar else ""
            raise UsageError(f"unknown flag --{name}{meant}")
    return [*rest[:end], *rest[end + 1 :]]


def _flagfiles_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with every --flagfile found and put before the others, which so win."""
    files, others = [], []
    rest = iter(arguments)
    for argument in rest:
        name, equals, path = argument.partition("=")
        if argument == "--":
            others += [argument, *rest]
        elif name in ("--flagfile", "-flagfile"):
            files.append(f"--flagfile={find_flagfile(path if equals else next(rest, ''))}")
        else:
            others.append(argument)
    return [*files, *others]


def find_flagfile(path: str) -> Path:
    """The file at `path`, or else the one of that base name that is installed with the package.

    Raises:
        UsageError: names the path and the installed flagfiles.
    """
    # os.path, unlike pathlib, takes what can be no path for one where nothing is.
    for candidate in (os.path.expanduser(path), FLAGFILES / Path(path).name):
        if path and os.path.exists(candidate) and not os.path.isdir(candidate):
            return Path(candidate)
    installed = ", ".join(sorted(file.name for file in FLAGFILES.glob("*.cfg")))
    raise UsageError(f"no flagfile {path!r}; installed are {installed}")


def format_help(arguments: type[settings.Settings], description: str | None = None) -> str:
    """What an entry point does, and its flags."""
    texts = {"flagfile": "File of flags, one a line, as if given here; those given here win."}
    for name, setting in settings.of(arguments).items():
        default = arguments.__dataclass_fields__[name].default
        said = [setting.help]
        if setting.names:
            said.append(f"One of {', '.join(setting.names)}.")
        if default != "":
            said.append(f"Default: {default}.")
        elif setting.required:
            said.append("Required.")
        texts[name] = " ".join(said)
    fill = functools.partial(
        textwrap.fill, width=100, initial_indent="  ", subsequent_indent=" " * 6
    )
    lines = [fill(f"--{name}: {text}") for name, text in texts.items()]
    return "\n".join([description or "", *lines])  # Python -OO has no docstrings.


def check_folder(name: str, path: str) -> Path:
    """The path of a folder that is there or can be made, `~` expanded and `..` taken out.

    Args:
        name: of the flag that holds it.
        path: its value.

    Raises:
        UsageError: a file is in the way, or it is no path of this machine.
    """
    if "://" in path:
        raise UsageError(f"--{name}={path}: a folder of this machine is needed")
    folder = _normal(path)
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir():
        raise UsageError(f"--{name}={path}: {existing} is not a folder")
    return folder


def check_new(name: str, path: str) -> Path:
    """The path of a file or folder that is not there and can be made, as of `check_folder`.

    Raises:
        UsageError: it is there, a file is in the way, or it is no path of this machine.
    """
    if _normal(path).exists():
        raise UsageError(f"--{name}={path} exists; name a new one")
    return check_folder(name, path)


def _normal(path: str) -> Path:
    # new/.. must be seen as the folder that is there, not as a new one.
    return Path(os.path.normpath(Path(path).expanduser()))
