"""Settings: a default, a help text and the allowed values, said once, as fields of a dataclass.

    @dataclass(frozen=True)
    class Arguments:
        length: int = integer(4, "Digits of the numbers.")
        task: str = choice("program", TASKS, "Whose examples are shown.")

`command_line.run` makes flags of such a dataclass; `check` holds an instance that was made in
Python to the same rules.
"""

import dataclasses
import inspect
import math
import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from keras_l2e.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

# With this as `remote` a path may begin with any scheme.
ANYWHERE = ("",)


class Setting(NamedTuple):
    """What is known of one setting.

    Attributes:
        help: a sentence for users.
        kind: type of the value: int, float, bool or str.
        needed: says which values are allowed, as "a whole number, 1 or more".
        allows: whether a value of this type is allowed.
        required: whether it must be given: an empty default stands for a missing value.
        names: where names are allowed, gives them, sorted.
    """

    help: str
    kind: type
    needed: Callable[[], str]
    allows: Callable[[Any], bool]
    required: bool = False
    names: Callable[[], list[str]] = list

    def parse(self, text: str) -> object:
        """The value that a flag's text stands for; ValueError says what is needed."""
        try:
            value: object = _BOOLEANS[text.lower()] if self.kind is bool else self.kind(text)
        except (ValueError, KeyError):
            raise ValueError(f"{self.needed()} is needed") from None
        return self.check(value)

    def check(self, value: object) -> object:
        """The value itself, converted where nothing is lost; ValueError says what is needed."""
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind or not self.allows(value):
            raise ValueError(f"{self.needed()} is needed")
        return value


_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def integer(default: int, help: str, lower: int = 1, upper: int | None = None) -> int:
    """A field for a whole number from `lower` to `upper`."""
    limit = math.inf if upper is None else upper
    span = f", {lower} or more," if upper is None else f" from {lower} to {upper}"
    return _field(
        default,
        Setting(help, int, lambda: f"a whole number{span}", lambda value: lower <= value <= limit),
    )


def number(default: float, help: str, upper: float = math.inf, positive: bool = False) -> float:
    """A field for a finite number from 0 to `upper`, or above 0."""
    needed = "a finite number" + (" above 0" if positive else ", 0 or more,")
    if upper < math.inf:
        needed = f"a number from 0 to {upper:g}"

    def allows(value: float) -> bool:
        return math.isfinite(value) and 0 <= value <= upper and (value > 0 or not positive)

    return _field(default, Setting(help, float, lambda: needed, allows))


def boolean(default: bool, help: str) -> bool:
    """A field for true or false."""
    return _field(default, Setting(help, bool, lambda: "true or false", lambda value: True))


def choice(default: str, allowed: Collection[str], help: str, required: bool = False) -> str:
    """A field for one of some names, say the keys of a table, as they are when it is checked."""
    return _field(
        default,
        Setting(
            help,
            str,
            lambda: f"one of {', '.join(sorted(allowed))}",
            lambda value: value in allowed or (required and not value),
            required,
            lambda: sorted(allowed),
        ),
    )


def text(default: str, help: str) -> str:
    """A field for any text."""
    return _field(default, Setting(help, str, lambda: "a text", lambda value: True))


def path(default: str, help: str, required: bool = False, remote: tuple[str, ...] = ()) -> str:
    """A field for a path of this machine; where the default is empty, so may the value be.

    flags.cfg must be able to hold it: one line whose ends do not count. A place that is elsewhere,
    as gs://bucket/folder, is allowed if it begins with one of `remote`.
    """

    def allows(value: str) -> bool:
        if not value:
            return not default
        home = not value.startswith("~") or os.path.expanduser(value) != value
        here = "://" not in value or value.startswith(remote)
        return value.isprintable() and value == value.strip() and home and here

    places = ["of this machine", *(f"{scheme}..." for scheme in remote)]
    where = "" if remote == ANYWHERE else f" {' or '.join(places)},"
    needed = f"a path{where} of printable characters, in a home directory that exists,"
    return _field(default, Setting(help, str, lambda: needed, allows, required))


def _field(default: T, setting: Setting) -> T:
    return dataclasses.field(default=default, metadata={"setting": setting})


def of(arguments: "DataclassInstance | type[DataclassInstance]") -> dict[str, Setting]:
    """The settings of a dataclass or of its instance, by name, in order."""
    fields = dataclasses.fields(arguments)
    return {field.name: field.metadata["setting"] for field in fields if field.metadata}


def taken_by(function: Callable[..., object], arguments: object) -> dict[str, Any]:
    """Of an instance's attributes those that a function has parameters for, by name."""
    parameters = inspect.signature(function).parameters
    return {name: getattr(arguments, name) for name in parameters if hasattr(arguments, name)}


def check(arguments: "DataclassInstance") -> None:
    """Holds an instance to its settings' rules; converts values where nothing is lost.

    Raises:
        UsageError: names the first value that is not allowed, and what is.
    """
    for name, setting in of(arguments).items():
        value = getattr(arguments, name)
        if setting.required and not value:
            raise UsageError(f"--{name} is required")
        try:
            object.__setattr__(arguments, name, setting.check(value))
        except ValueError as error:
            raise UsageError(f"--{name}={value}: {error}") from None
