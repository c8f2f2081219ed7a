"""Trained networks in Python: what `keras_l2e.load`, `execute` and `train` do and give."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from keras_l2e import config as configs
from keras_l2e import devices, hub, pretrained, tables
from keras_l2e.config import Config
from keras_l2e.errors import UsageError
from keras_l2e.language import forms
from keras_l2e.language.interpreter import ProgramError
from keras_l2e.language.tasks import TASKS

if TYPE_CHECKING:
    import keras


class Answer(NamedTuple):
    """What a network makes of a program.

    Attributes:
        output: the answer it wrote; "" if it could not read the program.
        probability: that it gave to all it wrote.
        work: the values it wrote before the answer, as `interpreter.trace` has them, read from its
            target form; "" if it writes none.
        right: whether the answer is the true one; None if that is unknown.
        true_output: what the program prints; None if it is none that can be executed.
    """

    output: str
    probability: float
    work: str
    right: bool | None
    true_output: str | None


class Step(NamedTuple):
    """One step of writing.

    Attributes:
        character: the one written, "EOS" for the end.
        probability: that it was given.
        candidates: the most probable characters with their probabilities, best first.
    """

    character: str
    probability: float
    candidates: list[tuple[str, float]]


class TrainedNetwork:
    """A trained network, of a run, of an exported SavedModel or one that comes with the package."""

    def __init__(self, folder: Path):
        """Loads it; see `keras_l2e.load`."""
        self.folder = folder
        devices.load_tensorflow()
        from keras_l2e.networks import saved_model

        if (folder / configs.NAME).is_file():
            from keras_l2e.networks import models

            self.interface = configs.read_finished(folder).interface
            self._model: keras.Model | None = models.load(configs.network_in(folder))
            self._functions: Any = saved_model.Module(self._model, self.interface)
        else:
            self._model = None
            self._functions, self.interface = saved_model.load(folder)

    @property
    def model(self) -> "keras.Model":
        """The `keras.Model`, inputs `encoder_token_ids` and `decoder_token_ids`, output logits."""
        if self._model is None:
            raise UsageError(
                f"{self.folder} is a SavedModel; only a run's folder has a keras.Model"
            )
        return self._model

    @property
    def config(self) -> Config:
        """The settings of its training run."""
        return configs.read(self.folder)

    @functools.cached_property
    def history(self) -> list[dict[str, Any]]:
        """The lines of its history.jsonl, one an epoch."""
        return tables.read_history(self.folder / "history.jsonl")

    @functools.cached_property
    def evaluation(self) -> dict[str, Any]:
        """The content of its evaluation.json."""
        return tables.read_evaluation(self.folder / "evaluation.json")

    @overload  # A text is a sequence of texts, too.
    def execute(self, program: str) -> Answer: ...  # type: ignore[overload-overlap]

    @overload
    def execute(self, program: Sequence[str]) -> list[Answer]: ...

    def execute(self, program: str | Sequence[str]) -> Answer | list[Answer]:
        """Answers a program, or several at once, which is quicker."""
        if isinstance(program, str):
            return self.execute([program])[0]
        from keras_l2e.networks import saved_model

        program = list(map(forms.clean, program))
        # What stands for a byte of a command line that is no UTF-8 is unreadable, no error.
        texts = [text.encode(errors="replace") for text in program]
        work = self.form.work
        found = saved_model.serve_many(self._functions, texts, work is not None)
        outputs = [output.decode() for output in found["output"]]
        works = [work(text.decode()) for text in found["work"]] if work else [""] * len(outputs)
        return list(map(self._answer, program, outputs, works, found["probability"].tolist()))

    @property
    def form(self) -> forms.TargetForm:
        """What it writes."""
        return forms.TARGET_FORMS[self.interface.target_form]

    def _answer(self, program: str, output: str, work: str, probability: float) -> Answer:
        try:
            true_output = TASKS[self.interface.task].answer(program)
        except ProgramError:
            return Answer(output, probability, work, None, None)
        return Answer(output, probability, work, output == true_output, true_output)

    def steps(self, program: str) -> list[Step]:
        """How it writes its answer, step by step; no step if it cannot read the program."""
        import tensorflow as tf

        text = forms.clean(program).encode(errors="replace")
        found = self._functions.decode_steps(tf.constant([text]))
        columns = [found[name][0].numpy() for name in ("characters", "probabilities")]
        tops = [found[f"candidate{x}"][0].numpy() for x in ("s", "_probabilities")]
        return [
            Step(
                character.decode(),
                float(probability),
                [(name.decode(), float(p)) for name, p in zip(names, values, strict=True)],
            )
            for character, probability, names, values in zip(*columns, *tops, strict=True)
            if character
        ]

    def why_unreadable(self, program: str) -> str | None:
        """Why it cannot read a program; None if it can."""
        program = forms.clean(program)
        if reason := forms.why_unknown(program, self.interface.white_space):
            return reason
        if len(program) > (most := self.interface.longest_program):
            return f"{len(program)} characters; this network was trained on at most {most}"
        return None


def find(place: str | Path) -> Path:
    """The folder of a network: of a finished run, a SavedModel, one of this name or on a hub.

    Raises:
        UsageError: it is none of these.
        WorkError: it cannot be downloaded.
    """
    if str(place).startswith(hub.SCHEMES):
        return hub.download(str(place))
    path = Path(os.path.expanduser(place))  # Of an unknown user it is left as it is.
    if (path / configs.NAME).is_file():
        configs.network_in(path)
        return path
    for folder in (path / "saved_model", path):
        if (folder / "saved_model.pb").is_file():
            return folder
    if str(place) in pretrained.names():
        return pretrained.find(str(place))
    raise UsageError(
        f"no model in {place}: neither a finished training run, nor an exported one, nor one that "
        f"comes with the package ({', '.join(pretrained.names())})"
    )
