"""What is shown is what the pipeline makes."""

import random

import pytest
import tensorflow as tf

from keras_l2e import show
from keras_l2e.data import pipeline as input_pipeline
from keras_l2e.language.tasks import INPUT_FORMS, TASKS, Difficulty


@pytest.mark.parametrize("form", INPUT_FORMS)
def test_the_encoder_s_ids_are_those_of_the_pipeline(form):
    rng = random.Random(1)
    for name, task in TASKS.items():
        difficulty = Difficulty(4, 2 if name == "program" else 1)
        for _ in range(20):
            program, _ = task.generate(rng, difficulty)
            ids = input_pipeline.encode_programs(tf.constant([program]), form)
            assert show.encoder_ids(program, form) == ids.numpy()[0].tolist()


def test_copy_read_twice():
    assert show.show("copy", Difficulty(5), "double", count=1).splitlines() == [
        "program  84802",
        "target   84802",
        "                    8   4   8   0   2 EOS   8   4   8   0   2 EOS",
        "encoder_token_ids  16  12  16   8  10  42  16  12  16   8  10  42",
        "                  BOS   8   4   8   0   2",
        "decoder_token_ids  41  16  12  16   8  10",
        "                    8   4   8   0   2 EOS",
        "labels             16  12  16   8  10  42",
    ]


def test_every_task_difficulty_and_form_fits_the_page():
    for name, task in TASKS.items():
        for form in INPUT_FORMS:
            text = show.show(name, Difficulty(task.max_length, task.max_nesting), form, count=5)
            assert text.count("encoder_token_ids") == text.count("labels") == 5
            # All but the text of programs, which is as long as it is.
            names = ("encoder", "decoder", "labels", " " * show.NAME_WIDTH)
            shown = [line for line in text.splitlines() if line.startswith(names)]
            assert max(map(len, shown)) <= 100
    assert "\\n" in show.show("program", Difficulty(2, 3), count=10)


def test_command(run_command):
    process = run_command("show", "--task=copy", "--input_form=reverse", "--length=3", "--count=2")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == show.show("copy", Difficulty(3), "reverse", count=2) + "\n"
