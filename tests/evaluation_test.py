import numpy as np
import pytest

from keras_l2e import evaluate
from keras_l2e.language.tasks import TASKS, Difficulty
from keras_l2e.training.scoring import Scores


@pytest.mark.parametrize(
    ("program", "target", "found"),
    [
        ("print(12+3)", "12", True),
        ("print(12+3)", "3", True),
        ("print(12+3)", "1", False),
        ("print(12+3)", "15", False),
        ("print((3-12))", "-9", False),
        ("print((0-5))", "-5", False),
        ("f=40\nfor x in range(2):f+=5\nprint(f)", "5", True),
        ("f=40\nfor x in range(2):f+=5\nprint(f)", "50", False),
    ],
)
def test_an_answer_in_the_program_is_a_whole_number_of_it(program, target, found):
    assert evaluate.answer_in_program(program, target) is found


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("print((41-3))", {"pair", "equality", "without product or loop"}),
        ("print(((1 if 3<4 else 2)+5))", {"ifstat", "pair", "without product or loop"}),
        ("print((41*3))", {"smallmul", "equality"}),
        ("a=7\nfor x in range(3):a+=5\nprint((a+1))", {"small_loop", "pair"}),
    ],
)
def test_programs_without_products_and_loops_are_a_kind_of_their_own(program, found):
    kinds = evaluate.operations(program, nesting=2)
    assert sorted(kinds) == sorted(found)


def test_a_breakdown_counts_every_example_at_each_of_its_kinds():
    texts = ["print(1+0)", "print(8+9)", "print(2+0)", "print(3+4)"]
    scores = Scores(
        num_right=np.array([2, 1, 0, 2]),
        num_tokens=np.array([2, 3, 2, 2]),
        targets=["1", "17", "2", "7"],
        outputs=["1", "16", "3", "7"],
    )
    kinds = [["zero"], ["carry", "odd"], ["zero"], ["odd"]]
    rows = evaluate._breakdown("kind", kinds, "addition", Difficulty(1), texts, scores)
    names = ("kind", "length", "num_examples", "exact_match", "answer_in_program")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("carry", 1, 1, 0.0, 0.0),
        ("odd", 1, 2, 0.5, 0.0),
        ("zero", 1, 2, 0.5, 1.0),
    ]
    assert [row["token_accuracy"] for row in rows] == pytest.approx([1 / 3, 3 / 5, 2 / 4])


def test_nothing_lies_beyond_the_hardest():
    """The difficulties that a network is tried on, though it was not trained on them."""
    for name, task in TASKS.items():
        assert evaluate._beyond(name, task.difficulties()[-1]) == []
    assert evaluate._beyond("addition", Difficulty(63)) == [(64, 1)]
    assert evaluate._beyond("copy", Difficulty(3)) == [(4, 1), (5, 1)]
    assert evaluate._beyond("program", Difficulty(12, 3)) == [(12, 4)]
    assert evaluate._beyond("program", Difficulty(4, 10)) == [(5, 10)]
    assert evaluate._beyond("program", Difficulty(4, 3)) == [(5, 3), (4, 4)]
