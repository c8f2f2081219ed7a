"""What is shown is what the network gets."""

import importlib
import random

import pytest
import tensorflow as tf

from keras_l2e.language import forms
from keras_l2e.language.tasks import TASKS, Difficulty
from keras_l2e.networks import text

show = importlib.import_module("keras_l2e.show")


@pytest.mark.parametrize("form", forms.INPUT_FORMS)
def test_the_encoder_s_ids_are_those_of_the_pipeline(form):
    rng = random.Random(1)
    for name, task in TASKS.items():
        difficulty = Difficulty(4, 2 if name == "program" else 1)
        for _ in range(20):
            program = task.generate(rng, difficulty).program
            ids = text.encode_programs(tf.constant([program]), form)
            assert show.encoder_ids(program, form) == ids.numpy()[0].tolist()


def test_copy_read_twice(command):
    found = command("show", "--task=copy", "--input_form=double", "--length=5", "--count=1")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [
        "program  84802",
        "target   84802",
        "                    8   4   8   0   2 EOS   8   4   8   0   2 EOS",
        "encoder_token_ids  16  12  16   8  10  42  16  12  16   8  10  42",
        "                  BOS   8   4   8   0   2",
        "decoder_token_ids  41  16  12  16   8  10",
        "                    8   4   8   0   2 EOS",
        "labels             16  12  16   8  10  42",
    ]


@pytest.mark.parametrize("target_form", forms.TARGET_FORMS)
def test_every_task_difficulty_and_form_fits_the_page(target_form):
    for name, task in TASKS.items():
        if forms.TARGET_FORMS[target_form].work and not task.steps:
            with pytest.raises(ValueError, match=f"the task {name} has nothing to compute"):
                show.show(show.Arguments(name, 1, target_form=target_form))
            continue
        for form in forms.INPUT_FORMS:
            shown = show.show(
                show.Arguments(name, task.max_length, task.max_nesting, form, target_form, count=5)
            )
            assert shown.count("encoder_token_ids") == shown.count("labels") == 5
            # All but the text of programs, which is as long as it is.
            names = ("encoder", "decoder", "labels", " " * show.NAME_WIDTH)
            lines = [line for line in shown.splitlines() if line.startswith(names)]
            assert max(map(len, lines)) <= 100
    assert "\\n" in show.show(show.Arguments("program", 2, 3, count=10))


def test_a_target_form_of_its_own_is_shown_beside_the_target(monkeypatch):
    doubled = forms.TargetForm(lambda example: example.target * 2, lambda longest: 99)
    monkeypatch.setitem(forms.TARGET_FORMS, "doubled", doubled)
    shown = show.show(show.Arguments("copy", 3, target_form="doubled", count=1)).splitlines()
    assert shown[1].split() == ["target", target := shown[0].split()[1]]
    assert shown[2].split() == ["written", target * 2]
    assert shown[-2].split() == [*target, *target, "EOS"]
