"""What all entry points share: flags without TensorFlow, flagfiles, one-line errors, exit codes.

An entry point ends with `command_line.run(main)`. Exit codes: 0 done, 1 for what is found only
while working, 2 for a wrong command, 130 / 143 after Ctrl-C / SIGTERM.

A flag given on the command line wins over the same one in a flagfile, wherever it stands; so does a
flag of a flagfile over the same one in a flagfile that it names itself.
"""

import contextlib
import itertools
import os
import re
import reprlib
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

from absl import flags

from keras_l2e.errors import UsageError, WorkError

FLAGS = flags.FLAGS
FLAGFILES = Path(__file__).parent / "flagfiles"
LONGEST_NAME = 100
# What absl says of values that it cannot read or misses, and what a user is told instead.
SAID = {
    r"invalid literal for int\(\).*": "a whole number is needed",
    r"could not convert string to float.*": "a number is needed",
    r"\('Non-boolean argument .*": "true or false is needed",
    r"flag --(\w+)=None: (a path is needed|Flag .* must have a value).*": r"--\1 is required",
    r"\n(--\w+ is required)": r"; \1",
}
# After so many looks, so many seconds apart, a signal that stopped nothing is sent again; longer
# than what is tidied up out of sight takes (a generator that is closed waits ten seconds for its
# children at most).
STOP_LOOKS, STOP_SECONDS = 12, 1.0
# TensorFlow's C code may crash if an exception comes up in the Python that it calls back while it
# prepares an operation: 15 of 1,000 stops in a loop of small ones. There a signal is put off, at
# most so many times, so many seconds each; in execute.py the operation itself runs, maybe for long.
FRAGILE = re.compile(r"/tensorflow/python/(?!eager/execute\.py)")
DELAYS, DELAY_SECONDS = 200, 0.005
_delays = iter(range(DELAYS))
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
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        main(parse(sys.argv, positional))
    except (UsageError, flags.Error) as error:
        _fail(2, error)
    except WorkError as error:
        _fail(1, error)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _fail(1, f"{error.strerror or error}{where}")
    except Stopped as stop:
        print("stopped; the same command goes on from what is finished", file=sys.stderr)
        sys.stdout.flush()
        # TensorFlow's threads may still be inside an operation: do not wait for them.
        os._exit(stop.exit_code)


@contextlib.contextmanager
def killed_by_ctrl_c() -> Iterator[None]:
    """Lets Ctrl-C end the process while TensorFlow, in its own code, waits for other machines.

    Python, whose lock is held there, would not see the signal before that code returns; so the
    system ends the process, without a word. (SIGTERM is taken by TensorFlow meanwhile, as a notice
    that the machine goes; here it gets its handler back.) Only for what leaves nothing half done.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def define_path(
    name: str,
    default: str | None,
    text: str,
    optional: bool = False,
    flag_values: flags.FlagValues = FLAGS,
) -> None:
    """Defines a flag that holds a path; only one that is `optional` may keep an empty default."""

    def check(path: str | None) -> bool:
        if optional and path == default:
            return True
        if not path:
            raise flags.ValidationError("a path is needed")
        # flags.cfg must be able to hold it, one line of UTF-8 whose ends do not count.
        if not path.isprintable() or path != path.strip():
            raise flags.ValidationError(
                "a path of printable characters is needed, without a space at its ends"
            )
        if path.startswith("~") and os.path.expanduser(path) == path:
            raise flags.ValidationError(f"there is no home directory {path.partition('/')[0]}")
        return True

    flags.DEFINE_string(name, default, text, flag_values=flag_values)
    flags.register_validator(name, check, flag_values=flag_values)


def check_folder(flag_name: str, path: str) -> Path:
    """The path of a folder that is there or can be made, `~` expanded and `..` taken out.

    Raises:
        UsageError: a file is in the way.
    """
    # new/.. must be seen as the folder that is there, not as a new one.
    folder = Path(os.path.normpath(Path(path).expanduser()))
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir():
        raise UsageError(f"--{flag_name}={path}: {existing} is not a folder")
    return folder


def find_flagfile(path: str) -> Path:
    """The file at `path`, or else the one of that base name that is installed with the package.

    Raises:
        flags.Error: names the path and the installed flagfiles.
    """
    # os.path, unlike pathlib, takes what can be no path for one where nothing is.
    for candidate in (os.path.expanduser(path), FLAGFILES / Path(path).name):
        if path and os.path.exists(candidate) and not os.path.isdir(candidate):
            return Path(candidate)
    installed = ", ".join(sorted(file.name for file in FLAGFILES.glob("*.cfg")))
    raise flags.Error(f"no flagfile {path!r}; installed are {installed}")


def read_flagfile(path: Path) -> list[str]:
    """The flags in a file, one a line, without empty lines and comments (`#` or `//`).

    Raises:
        flags.Error: it cannot be read, is not text, or has a line that is no flag.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise flags.Error(f"flagfile {path} is not UTF-8 text") from None
    except OSError as error:
        raise flags.Error(f"flagfile {path} cannot be read: {error.strerror}") from None
    found = []
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if line.startswith("-"):
            found.append(line)
        elif line and not line.startswith(("#", "//")):
            raise flags.Error(f"{path} line {number}: {line!r} is no flag; flags start with --")
    return found


def parse(
    argv: Sequence[str], positional: bool = False, flag_values: flags.FlagValues = FLAGS
) -> SimpleNamespace:
    """The values of the entry point's own flags, and in `arguments` what is no flag; see `run`.

    Exits after showing the help, if the command line asks for it.

    Raises:
        flags.Error: an unknown flag, a value that is not allowed, a flagfile that cannot be read.
        UsageError: an argument that is no flag, where none is allowed.
    """
    if HELP & set(argv[1:]):
        _print_help(flag_values)
        sys.exit(0)
    arguments = _expand_flagfiles(argv[1:])
    _refuse_long_names(arguments)
    try:
        rest = flag_values([argv[0], *arguments])[1:]
    except flags.Error as error:
        message = str(error)
        for pattern, said in SAID.items():
            message = re.sub(pattern, said, message)
        raise flags.Error(message) from None
    if rest and not positional:
        raise UsageError(f"unexpected argument {rest[0]!r}; flags start with --")
    values = {flag.name: flag.value for flag in _own_flags(flag_values)}
    return SimpleNamespace(**values, arguments=rest)


def clock(seconds: float) -> str:
    """A time span as hours:minutes:seconds.

    >>> clock(3725)
    '1:02:05'
    """
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _refuse_long_names(arguments: Sequence[str]) -> None:
    # absl compares an unknown name with every flag's, by a recursion as deep as it is long.
    for argument in itertools.takewhile("--".__ne__, arguments):
        name = argument.partition("=")[0]
        if name.startswith("-") and len(name) > LONGEST_NAME:
            raise flags.Error(f"unknown flag {reprlib.repr(name)}")


def _expand_flagfiles(arguments: Sequence[str], outer: Sequence[Path] = ()) -> list[str]:
    """The arguments with the flags of every --flagfile put before them."""
    from_files, own, rest = [], [], list(arguments)
    while rest and rest[0] != "--":
        argument = rest.pop(0)
        name, equals, path = argument.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            own.append(argument)
            continue
        if not equals:
            path = rest.pop(0) if rest else ""
        file = find_flagfile(path)
        if file in outer:
            raise flags.Error(f"flagfile {file} names itself")
        from_files += _expand_flagfiles(read_flagfile(file), (*outer, file))
    return [*from_files, *own, *rest]


def _own_flags(flag_values: flags.FlagValues) -> list[flags.Flag]:
    """The flags that are not those of absl itself, in the order of their definition."""
    return [
        flag
        for module, module_flags in flag_values.flags_by_module_dict().items()
        if not module.startswith("absl")
        for flag in module_flags
    ]


def _print_help(flag_values: flags.FlagValues) -> None:
    print(sys.modules["__main__"].__doc__)
    _print_flag("flagfile", "File of flags, one a line, as if given here; those given here win.")
    for flag in _own_flags(flag_values):
        # absl puts the values of an enum before its help: "<a|b>: text".
        values = getattr(flag.parser, "enum_values", [])
        text = flag.help.removeprefix(f"<{'|'.join(values)}>: ")
        if values:
            text += f" One of {', '.join(values)}."
        if flag.default not in (None, ""):
            text += f" Default: {flag.default}."
        _print_flag(flag.name, text)


def _print_flag(name: str, text: str) -> None:
    lines = textwrap.fill(f"--{name}: {text}", 100, initial_indent="  ", subsequent_indent=" " * 6)
    print(lines)


def _stop(signal_number: int, frame) -> None:
    if _is_stopping(sys.exception()):
        return  # It takes a moment: once is enough.
    main_thread = threading.main_thread().ident
    if frame and FRAGILE.search(frame.f_code.co_filename) and next(_delays, None) is not None:
        again = (main_thread, signal_number)
        threading.Timer(DELAY_SECONDS, signal.pthread_kill, again).start()
        return
    threading.Thread(target=_insist, args=(main_thread, signal_number), daemon=True).start()
    raise Stopped(signal_number)


def _insist(main_thread: int, signal_number: int) -> None:
    """Sends the signal again if it stopped nothing.

    C code that calls Python back may swallow an exception: once in some hundred stops TensorFlow
    did so, said "SystemError: ... returned a result with an exception set" and went on.
    """
    misses = 0
    while misses < STOP_LOOKS:
        time.sleep(STOP_SECONDS)
        handled = sys._current_exceptions().get(main_thread)
        if isinstance(handled, tuple):  # Python 3.11: type, exception and traceback.
            handled = handled[1]
        misses = 0 if _is_stopping(handled) else misses + 1
    signal.pthread_kill(main_thread, signal_number)


def _is_stopping(handled: BaseException | None) -> bool:
    """Whether code that runs while this exception is handled runs because of a `Stopped`."""
    while handled and not isinstance(handled, Stopped):
        handled = handled.__context__
    return handled is not None


def _fail(exit_code: int, error) -> None:
    message = " ".join(str(error).split())
    print(f"error: {message}", file=sys.stderr)
    sys.exit(exit_code)
