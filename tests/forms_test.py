import random

import pytest

from keras_l2e.language import forms
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import TASKS, Difficulty


@pytest.mark.parametrize(
    ("input_form", "texts"),
    [
        ("none", ["1+23"]),
        ("reverse", ["32+1"]),
        ("double", ["1+23", "1+23"]),
        ("reverse_double", ["32+1", "32+1"]),
    ],
)
def test_input_forms(input_form, texts):
    assert forms.read("1+23", input_form) == texts


@pytest.mark.parametrize("name", forms.TARGET_FORMS)
@pytest.mark.parametrize("task", TASKS)
def test_the_answer_is_found_in_what_is_written(name, task):
    form, rng = forms.TARGET_FORMS[name], random.Random(task)
    if form.work and not TASKS[task].steps:
        with pytest.raises(ValueError, match=f"target form {name}: the task {task} has nothing"):
            forms.check(task, name)
        return
    for difficulty in [Difficulty(1), Difficulty(4)] * 50:
        example = TASKS[task].generate(rng, difficulty)
        written = form.write(example)
        assert form.answer(written) == example.target
        if form.work:
            assert form.work(written) == example.trace
        assert len(written) <= form.longest(TASKS[task].longest(difficulty))
    assert form.answer("") == ""


def test_columns_of_bytes():
    examples = Example([b"print(1+2)", b"print(5+5)"], [b"3", b"10"], [b"3", b"10"])
    assert forms.write_all(examples, "answer") == [b"3", b"10"]
    assert forms.write_all(examples, "reversed_trace") == [b"3;3", b"01;10"]
    assert forms.write_all(Example([], [], []), "answer") == []
