import itertools
import operator
import random
from collections import Counter

import pytest

from keras_l2e.language import programs
from keras_l2e.language.interpreter import ProgramError
from keras_l2e.language.tasks import TASKS, Difficulty, carry_chain, grid

HARDEST = {"program": Difficulty(12, 10), "control": Difficulty(12, 10)}
HARDEST |= {"addition": Difficulty(64)}
HARDEST |= dict.fromkeys(("copy", "reverse", "double"), Difficulty(65))
# Of every task some difficulties, the easiest and the hardest among them.
SOME = [
    (task, difficulty)
    for task, hardest in HARDEST.items()
    for difficulty in (Difficulty(1), Difficulty(2), Difficulty(9), hardest)
]


def draw_many(task, difficulty, count):
    rng = random.Random(f"{task}/{difficulty}")
    return [TASKS[task].generate(rng, difficulty) for _ in range(count)]


def operands(example):
    a, b = example.program.removeprefix("print(").removesuffix(")").split("+")
    return a, b


class Lowest:
    """Stands in for an rng whose every draw is the lowest possible."""

    def randrange(self, *bounds):
        return 0 if len(bounds) == 1 else bounds[0]


class Highest:
    """Stands in for an rng whose every draw is the highest possible."""

    def randrange(self, *bounds):
        return bounds[-1] - 1


@pytest.mark.parametrize(
    ("task", "length", "lowest", "highest"),
    [
        ("addition", 1, ("print(0+0)", "0", "0"), ("print(9+9)", "18", "18")),
        (
            "addition",
            64,
            (f"print(1{'0' * 63}+1{'0' * 63})", *[f"2{'0' * 63}"] * 2),
            (f"print({'9' * 64}+{'9' * 64})", *[f"1{'9' * 63}8"] * 2),
        ),
        ("copy", 1, ("0", "0", ""), ("9", "9", "")),
        ("copy", 65, ("0" * 65, "0" * 65, ""), ("9" * 65, "9" * 65, "")),
        ("reverse", 2, ("00", "00", ""), ("99", "99", "")),
        ("double", 2, ("00", "0000", ""), ("99", "9999", "")),
        # The first operation is pair, its first side of the coin plus; the highest is ifstat.
        (
            "program",
            1,
            ("print((1+1))", "2", "2"),
            ("print((10 if 10<10 else 10))", "10", "10"),
        ),
    ],
)
def test_both_ends(task, length, lowest, highest):
    assert TASKS[task].generate(Lowest(), Difficulty(length)) == lowest
    assert TASKS[task].generate(Highest(), Difficulty(length)) == highest


@pytest.mark.parametrize(("task", "difficulty"), SOME)
def test_what_is_drawn(task, difficulty):
    """Its answer, its difficulty, its characters, its length, and that it follows from the rng."""
    found, drawn = TASKS[task], draw_many(task, difficulty, 300)
    longest = found.longest(difficulty)
    for program, target, trace in drawn:
        assert found.answer(program) == target
        assert set(target) <= set(found.output_characters)
        assert all(map(operator.le, map(len, (program, target, trace)), longest))
        steps = found.steps(program) if found.steps else []
        assert trace == ";".join(str(step.value) for step in steps)
    difficulties = [found.difficulty_of(example.program) for example in drawn]
    if found.max_nesting > 1:
        # Numbers may be short and operations leave no trace, or there is one digit more: at length
        # 1 a factor may be 4, which is no longer than a literal.
        assert tuple(map(max, zip(*difficulties, strict=True))) == difficulty
    else:
        assert set(difficulties) == {difficulty}
    assert draw_many(task, difficulty, 300) == drawn
    assert TASKS[task].generate(random.Random("another"), HARDEST[task]) not in drawn


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("text", ["", "print(", "1 2"])
def test_what_is_none_of_its_texts_has_no_answer(task, text):
    with pytest.raises(ProgramError):
        TASKS[task].answer(text)


@pytest.mark.parametrize("task", TASKS)
def test_even_the_easiest_difficulty_has_examples_of_every_split(task):
    """Copy has ten texts of length 1."""
    drawn = draw_many(task, Difficulty(1), 1_000)
    assert {programs.split_of(example.program) for example in drawn} == set(programs.SPLITS)


def test_chance_is_one_of_the_characters_of_an_answer_or_its_end():
    chances = [TASKS[name].chance() for name in ("program", "addition", "copy")]
    assert chances == [1 / 12, 1 / 11, 1 / 11]


@pytest.mark.parametrize(
    ("task", "difficulty", "longest"),
    [
        # The largest value is 10+10*4; a sign may stand before it. The work has a value a round.
        (
            "program",
            Difficulty(1),
            (len("a=10\nfor x in range(4):a+=10\nprint(a)"), len("-50"), 4 * len("-50;")),
        ),
        ("addition", Difficulty(64), (len("print(+)") + 128, 65, 65)),
        ("copy", Difficulty(65), (65, 65, 0)),
        ("reverse", Difficulty(65), (65, 65, 0)),
        ("double", Difficulty(65), (65, 130, 0)),
    ],
)
def test_longest(task, difficulty, longest):
    assert TASKS[task].longest(difficulty) == longest


@pytest.mark.parametrize("task", TASKS)
def test_longer_and_deeper_examples_are_longer(task):
    """So the longest text of a run is that of its target difficulty."""
    sizes = {d: TASKS[task].longest(d) for d in TASKS[task].difficulties()}
    for (one, small), (other, large) in itertools.product(sizes.items(), repeat=2):
        if one.length <= other.length and one.nesting <= other.nesting:
            assert all(map(operator.le, small, large))


# Difficulties


def test_difficulties_of_each_task():
    assert set(TASKS) == set(HARDEST)
    for name, hardest in HARDEST.items():
        assert TASKS[name].difficulties() == grid(hardest)
        for difficulty in grid(hardest):
            TASKS[name].check(difficulty)


def test_the_grid_goes_through_all_lengths_before_it_nests_deeper():
    assert grid(Difficulty(3, 2)) == [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]
    assert grid(Difficulty(1, 3)) == [(1, 1), (1, 2), (1, 3)]


@pytest.mark.parametrize(
    ("task", "text", "difficulty"),
    [
        ("addition", "print(107+123)", Difficulty(3)),
        ("addition", "print(7+123)", None),
        ("addition", "print(0+0)", Difficulty(1)),
        ("addition", "print(07+1)", None),
        ("addition", "print(7+1)\n", None),
        ("copy", "007", Difficulty(3)),
        ("copy", "", None),
        ("double", "12", Difficulty(2)),
        ("control", "print((12 if 3>4 else 5))", Difficulty(2)),
        ("control", "a=5\nfor x in range(9):a+=3\nprint((a if 3>4 else 5))", Difficulty(3, 2)),
        ("control", "a=5\nfor x in range(9):a+=(3-1)\nprint(a)", None),
        ("control", "print(12)", None),
        ("program", "print(10)", Difficulty(1)),
        ("program", "i=8;\nprint(((i+2)*3))", Difficulty(1, 2)),
        ("program", "print((3*88))", Difficulty(2)),
        ("program", "print((123*88))", Difficulty(22)),
        ("program", "print(((3+12345)*20))", Difficulty(5, 2)),
        ("program", "print((21*(3+12345)))", Difficulty(6, 2)),
        ("program", "a=5\nfor x in range(9):a+=3\nprint(a)", Difficulty(3)),
        ("program", "a=5;b=7;print((a*b))", None),
        ("program", "print(3*4)", None),
        ("program", "a=5;print(a+3)", None),
        ("program", "print(3 if 1<2 else 4)", None),
        ("program", "print(7+1)", None),
        ("program", "print((7+1", None),
    ],
)
def test_difficulty_of(task, text, difficulty):
    assert TASKS[task].difficulty_of(text) == difficulty


# Kinds, and texts that are never drawn


@pytest.mark.parametrize(
    ("task", "text", "difficulty", "kinds"),
    [
        ("program", "print((3*(52-7)))", Difficulty(2, 2), {"pair", "smallmul"}),
        (
            "program",
            "a=5;\nprint((a+(7 if 3>4 else 5)))",
            Difficulty(1, 3),
            {"vars", "ifstat", "equality", "without product or loop"},
        ),
        ("program", "a=5\nfor x in range(3):a+=2\nprint(a)", Difficulty(1), {"small_loop"}),
        ("addition", "print(567+433)", Difficulty(3), {3}),
        ("copy", "007", Difficulty(3), set()),
        (
            "control",
            "a=5\nfor x in range(9):a+=3\nprint((a if 3>4 else 5))",
            Difficulty(3, 2),
            {"ifstat", "small_loop"},
        ),
    ],
)
def test_kinds(task, text, difficulty, kinds):
    assert set(TASKS[task].kinds_of(text, difficulty)) == kinds
    assert bool(TASKS[task].kind) == bool(kinds)


@pytest.mark.parametrize(
    ("program", "longest"),
    [
        ("print(5+5)", 1),
        ("print(567+433)", 3),
        # A carry that is passed on by nines.
        ("print(999+1)", 3),
        # Two runs: of the lowest digit, and of three in the middle.
        ("print(0555006+0555006)", 3),
        (f"print({'9' * 64}+{'9' * 64})", 64),
    ],
)
def test_carry_chain(program, longest):
    assert carry_chain(program) == longest


def test_untrained_sums_have_unequal_digits():
    counts = {task: len(list(TASKS[task].untrained(Difficulty(4)))) for task in HARDEST}
    assert counts == {**dict.fromkeys(HARDEST, 0), "addition": 3}
    for shorter, found in enumerate(TASKS["addition"].untrained(Difficulty(4)), start=1):
        assert (found.name, found.label) == ("unequal_digits", {"shorter": shorter})
        rng = random.Random(shorter)
        drawn = [found.draw(rng) for _ in range(300)]
        lengths = Counter(tuple(map(len, operands(example))) for example in drawn)
        assert set(lengths) == {(4, shorter), (shorter, 4)} and min(lengths.values()) > 100
        assert all(TASKS["addition"].answer(program) == target for program, target, _ in drawn)
