import pytest

from keras_l2e.language import interpreter
from keras_l2e.language.traces import Step
from keras_l2e.training.failures import Failure, first_wrong, table

LOOP = "e=58308\nfor x in range(2):e+=65807\nprint(e)"  # 124115;189922
PRODUCT = "print((17*22753))"  # 159271;227530;386801
CHAIN = "b=(7-59);\nprint((b+3))"  # -52;-49
LITERAL = "a=(1+2)\nprint(44)"  # 3;44
CHOICE = "print((8 if 5>9 else (3*4)))"  # 12;12


@pytest.mark.parametrize(
    ("program", "work", "failure"),
    [
        (LOOP, "124115;189923", Failure("round", "digit", turn=2, digit=1)),
        (LOOP, "924115;189922", Failure("round", "digit", turn=1, digit=6)),
        (LOOP, "24115;189922", Failure("round", "digit", turn=1, digit=6)),
        (LOOP, "124115", Failure("round", "ended", turn=2)),
        (LOOP, "189922", Failure("round", "left out", turn=1)),
        (LOOP, "124115;189922;255729", Failure("end", "went on")),
        (LOOP, "124115;189922", Failure("answer", "digit")),
        (LOOP, "", Failure("round", "ended", turn=1)),
        (PRODUCT, "159271;227531;386801", Failure("tens", "digit", digit=1)),
        (PRODUCT, "159371;227530;386901", Failure("units", "digit", digit=3)),
        (PRODUCT, "159271;227530", Failure("product", "ended")),
        (CHAIN, "52;55", Failure("difference", "sign")),
        (CHAIN, "-52;-59", Failure("sum", "digit", digit=2)),
        (CHAIN, "-49", Failure("difference", "left out")),
        (LITERAL, "3;34", Failure("printed", "digit", digit=2)),
        (CHOICE, "12;8", Failure("choice", "digit", digit=1)),
    ],
)
def test_the_first_wrong_step(program, work, failure):
    assert first_wrong(work, interpreter.steps(program)) == failure


def test_what_a_step_is():
    assert interpreter.steps(LOOP) == [
        Step(124115, "round", 1, (58308, 65807), "e"),
        Step(189922, "round", 2, (124115, 65807), "e"),
    ]
    kinds = [step.kind for step in interpreter.steps(PRODUCT)]
    assert kinds == ["units", "tens", "product"]
    assert interpreter.steps(LITERAL) == [Step(3, "sum", 0, (1, 2)), Step(44, "printed")]
    assert [step.kind for step in interpreter.steps(CHOICE)] == ["product", "choice"]


def test_a_table_counts_steps_faults_and_places():
    failures = [Failure("round", "digit", turn, 1) for turn in (3, 3, 12)]
    failures += [Failure("sum", "left out"), Failure("round", "ended", 2)]
    assert table(failures) == [
        {
            "step": "round",
            "fault": "digit",
            "num_examples": 3,
            "turns": {"3": 2, "12": 1},
            "digits": {"1": 3},
        },
        {"step": "round", "fault": "ended", "num_examples": 1, "turns": {"2": 1}, "digits": {}},
        {"step": "sum", "fault": "left out", "num_examples": 1, "turns": {}, "digits": {}},
    ]
    assert table([]) == []
