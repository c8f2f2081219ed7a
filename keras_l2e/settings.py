"""Settings: a default, a help text and the allowed values, said once, as fields of a dataclass.

    @dataclass(frozen=True)
    class Arguments(Settings):
        length: int = integer(4, "Digits of the numbers.")
        task: str = choice("program", TASKS, "Whose examples are shown.")

`command_line.run` makes flags of such a dataclass. What an instance is given, texts of flags or
values from Python, becomes the settings' values by the parsers that absl has for flags.
"""

import dataclasses
import inspect
import math
import os
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeVar

from absl import flags

from keras_l2e.errors import UsageError

T = TypeVar("T")


class Setting(NamedTuple):
    """What is known of one setting.

    Attributes:
        help: a sentence for users.
        parser: makes the value of what is given, or raises ValueError or TypeError; its
            `syntactic_help` says what is allowed, as "a positive integer".
        required: whether it may not be empty, as a default is that stands for none.
    """

    help: str
    parser: flags.ArgumentParser[Any]
    required: bool = False

    @property
    def names(self) -> list[str]:
        """The names that are allowed, sorted; none where others than names are."""
        return sorted(self.parser.allowed) if isinstance(self.parser, _Choice) else []


def integer(default: int, help: str, lower: int = 1, upper: int | None = None) -> int:
    """A field for a whole number from `lower` to `upper`."""
    return _field(default, help, flags.IntegerParser(lower, upper))


def number(default: float, help: str, upper: float | None = None, positive: bool = False) -> float:
    """A field for a finite number from 0 to `upper`, or above 0."""
    return _field(default, help, _Number(upper, positive))


def boolean(default: bool, help: str) -> bool:
    """A field for true or false."""
    return _field(default, help, _Boolean())


def choice(default: str, allowed: Collection[str], help: str, required: bool = False) -> str:
    """A field for one of some names, say the keys of a table, as they are when it is checked."""
    return _field(default, help, _Choice(allowed), required)


def text(default: str, help: str) -> str:
    """A field for any text."""
    return _field(default, help, flags.ArgumentParser())


def path(default: str, help: str, required: bool = False) -> str:
    """A field for a path."""
    return _field(default, help, _Path(), required)


def _field(default: T, *setting: Any) -> T:
    return dataclasses.field(default=default, metadata={"setting": Setting(*setting)})


class _Number(flags.FloatParser):
    """Finite numbers from 0 to a bound, if there is one, or above 0."""

    number_name = "finite number"

    def __init__(self, upper_bound: float | None, positive: bool):
        super().__init__(0, upper_bound)
        self.positive = positive
        if positive:
            self.syntactic_help = f"a positive {self.number_name}"

    def is_outside_bounds(self, val: float) -> bool:
        zero = self.positive and val == 0
        return zero or not math.isfinite(val) or super().is_outside_bounds(val)


class _Boolean(flags.BooleanParser):
    syntactic_help = "true or false"


class _Choice(flags.ArgumentParser[str]):
    """Names; absl's own parser would keep those of today."""

    def __init__(self, allowed: Collection[str]):
        self.allowed = allowed

    @property
    def syntactic_help(self) -> str:  # type: ignore[override]
        return f"one of {', '.join(sorted(self.allowed))}"

    def parse(self, argument: str) -> str:
        if argument not in self.allowed:
            raise ValueError(argument)
        return argument


class _Path(flags.ArgumentParser[str]):
    """Paths that flags.cfg can hold: one line whose ends do not count."""

    syntactic_help = "a path of printable characters, in a home directory that exists,"

    def parse(self, argument: str | os.PathLike[str]) -> str:
        path = os.fspath(argument)
        home = not path.startswith("~") or os.path.expanduser(path) != path
        if not (home and path.isprintable() and path == path.strip()):
            raise ValueError(path)
        return path


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of the dataclasses whose fields are settings.

    Raises:
        UsageError: names the first value that is not allowed, and what is.
    """

    def __post_init__(self) -> None:
        for name, setting in of(type(self)).items():
            given = getattr(self, name)
            if setting.required and not given:
                raise UsageError(f"--{name} is required")
            try:
                # Of NumPy; absl takes Python's own.
                value = setting.parser.parse(given.item() if hasattr(given, "item") else given)
            except (TypeError, ValueError, OverflowError):
                needed = setting.parser.syntactic_help
                raise UsageError(f"--{name}={given}: {needed} is needed") from None
            object.__setattr__(self, name, value)


def of(arguments: type[Settings]) -> dict[str, Setting]:
    """The settings of a dataclass, by name, in order."""
    fields = dataclasses.fields(arguments)
    return {field.name: field.metadata["setting"] for field in fields if field.metadata}


def taken_by(function: Callable[..., object], arguments: object) -> dict[str, Any]:
    """Of an instance's attributes those that a function has parameters for, by name."""
    parameters = inspect.signature(function).parameters
    return {name: getattr(arguments, name) for name in parameters if hasattr(arguments, name)}
