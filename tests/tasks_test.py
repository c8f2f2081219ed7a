import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_l2e.language import interpreter, programs, tasks
from keras_l2e.language.tasks import TASKS, Difficulty, carry_chain, grid

HARDEST = {"program": Difficulty(12, 10), "addition": Difficulty(64), "copy": Difficulty(65)}


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


# One row per task and end of its range.
@pytest.mark.parametrize(
    ("task", "difficulty", "lowest", "highest"),
    [
        ("addition", Difficulty(1), ("print(0+0)", "0"), ("print(9+9)", "18")),
        ("addition", Difficulty(2), ("print(10+10)", "20"), ("print(99+99)", "198")),
        (
            "addition",
            Difficulty(64),
            (f"print(1{'0' * 63}+1{'0' * 63})", f"2{'0' * 63}"),
            (f"print({'9' * 64}+{'9' * 64})", f"1{'9' * 63}8"),
        ),
        ("copy", Difficulty(1), ("0", "0"), ("9", "9")),
        ("copy", Difficulty(2), ("00", "00"), ("99", "99")),
        ("copy", Difficulty(65), ("0" * 65, "0" * 65), ("9" * 65, "9" * 65)),
        # The first operation is pair, its first side of the coin plus; the highest is ifstat.
        (
            "program",
            Difficulty(1),
            ("print((1+1))", "2"),
            ("print((10 if 10<10 else 10))", "10"),
        ),
    ],
)
def test_both_ends(task, difficulty, lowest, highest):
    assert TASKS[task].generate(Lowest(), difficulty) == lowest
    assert TASKS[task].generate(Highest(), difficulty) == highest


@pytest.mark.parametrize("length", [1, 2, 3, 9, 20, 64])
def test_both_numbers_of_a_sum_have_the_length_asked_for(length):
    for example in draw_many("addition", Difficulty(length), 500):
        a, b = operands(example)
        assert len(a) == len(b) == length
        assert length == 1 or "0" not in (a[0], b[0])
        assert example.target == str(int(a) + int(b)) == interpreter.run(example.program)


def test_numbers_of_one_digit_are_uniform_from_0_to_9():
    n = 10_000
    digits = Counter(
        digit for example in draw_many("addition", Difficulty(1), n) for digit in operands(example)
    )
    assert set(digits) == set("0123456789")
    tolerance = 4 * math.sqrt(2 * n * 0.1 * 0.9)
    assert all(abs(count - 2 * n * 0.1) <= tolerance for count in digits.values())


@pytest.mark.parametrize("length", range(1, 66))
def test_copies_have_the_length_asked_for(length):
    for program, target in draw_many("copy", Difficulty(length), 20):
        assert program == target
        assert len(program) == length
        assert set(program) <= set("0123456789")


def test_every_digit_of_a_copy_is_uniform_the_leading_one_too():
    n = 10_000
    drawn = draw_many("copy", Difficulty(5), n)
    tolerance = 4 * math.sqrt(n * 0.1 * 0.9)
    for position in range(5):
        counts = Counter(program[position] for program, _ in drawn)
        assert all(abs(counts[digit] - n * 0.1) <= tolerance for digit in "0123456789")


@pytest.mark.parametrize("task", TASKS)
def test_examples_follow_from_the_rng_alone(task):
    difficulty = Difficulty(9)
    assert draw_many(task, difficulty, 50) == draw_many(task, difficulty, 50)
    rng = random.Random("another")
    other = [TASKS[task].generate(rng, difficulty) for _ in range(50)]
    assert not set(other) & set(draw_many(task, difficulty, 50))


@pytest.mark.parametrize("task", TASKS)
def test_the_answer_of_what_is_drawn_is_its_target(task):
    for difficulty in (Difficulty(1), Difficulty(5), HARDEST[task]):
        for program, target in draw_many(task, difficulty, 200):
            assert TASKS[task].answer(program) == target


def test_answers_to_other_texts():
    assert TASKS["program"].answer("print(2*3)") == "6"
    assert TASKS["addition"].answer("print(12+34)") == "46"
    assert TASKS["copy"].answer("0120") == "0120"
    for task in ("program", "addition"):
        with pytest.raises(interpreter.ProgramError, match="line 1"):
            TASKS[task].answer("print(open)")


@pytest.mark.parametrize(
    ("task", "difficulty", "longest"),
    [
        # The largest value is 10+10*4; a sign may stand before it.
        ("program", Difficulty(1), (len("a=10\nfor x in range(4):a+=10\nprint(a)"), len("-50"))),
        ("addition", Difficulty(1), (len("print(1+2)"), 2)),
        ("addition", Difficulty(64), (len("print(+)") + 128, 65)),
        ("copy", Difficulty(1), (1, 1)),
        ("copy", Difficulty(65), (65, 65)),
    ],
)
def test_longest(task, difficulty, longest):
    assert TASKS[task].longest(difficulty) == longest


@pytest.mark.parametrize("task", TASKS)
def test_nothing_is_longer_than_the_longest(task):
    for difficulty in (Difficulty(1), Difficulty(2), Difficulty(9), HARDEST[task]):
        longest = TASKS[task].longest(difficulty)
        drawn = draw_many(task, difficulty, 300)
        if task != "program":
            drawn.append(TASKS[task].generate(Highest(), difficulty))
            assert (len(drawn[-1].program), len(drawn[-1].target)) == longest
        for program, target in drawn:
            assert len(program) <= longest[0]
            assert len(target) <= longest[1]


@pytest.mark.parametrize("task", TASKS)
def test_longer_and_deeper_programs_are_longer(task):
    """So the longest text of a run is that of its target difficulty."""
    sizes = {d: TASKS[task].longest(d) for d in TASKS[task].difficulties()}
    for (one, small), (other, large) in itertools.product(sizes.items(), repeat=2):
        if one.length <= other.length and one.nesting <= other.nesting:
            assert small[0] <= large[0]
            assert small[1] <= large[1]


# Difficulties


def test_difficulties_of_each_task():
    assert set(TASKS) == set(HARDEST)
    for name, hardest in HARDEST.items():
        assert TASKS[name].difficulties() == grid(hardest)


def test_the_grid_goes_through_all_lengths_before_it_nests_deeper():
    assert grid(Difficulty(3, 2)) == [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]
    assert grid(Difficulty(3)) == [(1, 1), (2, 1), (3, 1)]
    assert grid(Difficulty(1, 3)) == [(1, 1), (1, 2), (1, 3)]


@pytest.mark.parametrize(
    ("task", "difficulty", "message"),
    [
        ("program", Difficulty(13, 1), "length 13 is out of range; allowed 1..12"),
        ("program", Difficulty(0, 1), "length 0 is out of range; allowed 1..12"),
        ("program", Difficulty(1, 11), "nesting 11 is out of range; allowed 1..10"),
        ("program", Difficulty(1, 0), "nesting 0 is out of range; allowed 1..10"),
        ("addition", Difficulty(65), "length 65 is out of range; allowed 1..64"),
        ("addition", Difficulty(1, 2), "nesting 2 is out of range; allowed 1..1"),
        ("copy", Difficulty(66), "length 66 is out of range; allowed 1..65"),
        ("copy", Difficulty(-1), "length -1 is out of range; allowed 1..65"),
    ],
)
def test_other_difficulties_are_refused(task, difficulty, message):
    with pytest.raises(ValueError) as caught:
        TASKS[task].check(difficulty)
    assert str(caught.value) == message


@pytest.mark.parametrize("task", TASKS)
def test_every_difficulty_of_a_task_passes_its_check(task):
    for difficulty in TASKS[task].difficulties():
        TASKS[task].check(difficulty)


# Carries


@pytest.mark.parametrize(
    ("program", "longest"),
    [
        ("print(12+34)", 0),
        ("print(5+5)", 1),
        ("print(567+433)", 3),
        # A carry that is passed on by nines.
        ("print(999+1)", 3),
        ("print(1+999)", 3),
        # Two runs: of the lowest digit, and of three in the middle.
        ("print(0555006+0555006)", 3),
        ("print(505+505)", 1),
        ("print(5055+5055)", 2),
        (f"print({'9' * 64}+{'9' * 64})", 64),
        ("print(0+0)", 0),
    ],
)
def test_carry_chain(program, longest):
    assert carry_chain(program) == longest


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_carries_lower_the_sum_of_digits_by_nine_each(a, b):
    """Kummer: the carries are as many as nines are lost; a chain is some of them."""
    num_carries = (sum(map(int, str(a))) + sum(map(int, str(b))) - sum(map(int, str(a + b)))) // 9
    longest = carry_chain(f"print({a}+{b})")
    assert longest <= num_carries
    assert (longest == 0) == (num_carries == 0)


@pytest.mark.parametrize("task", TASKS)
def test_examples_of_every_split_are_drawn(task):
    """Even of the smallest class: copy has ten texts of length 1."""
    drawn = draw_many(task, Difficulty(1), 1_000)
    assert {programs.split_of(example.program) for example in drawn} == set(programs.SPLITS)


@pytest.mark.parametrize("task", TASKS)
def test_difficulty_of_what_was_drawn(task):
    for difficulty in (Difficulty(1), Difficulty(2), Difficulty(9), HARDEST[task]):
        found = [TASKS[task].difficulty_of(e.program) for e in draw_many(task, difficulty, 300)]
        # Programs may have short numbers and operations that leave no trace, or one more digit: at
        # length 1 a multiplier may be 4, which is no longer than a literal.
        lengths, nestings = zip(*found, strict=True)
        assert (max(lengths), max(nestings)) == difficulty
        if task != "program":
            assert set(found) == {difficulty}


@pytest.mark.parametrize(
    ("task", "text", "difficulty"),
    [
        ("addition", "print(107+123)", Difficulty(3)),
        ("addition", "print(7+123)", None),
        ("addition", "print(0+0)", Difficulty(1)),
        ("addition", "print(07+1)", None),
        ("addition", "print((7+1))", None),
        ("addition", "print(7+1)\n", None),
        ("copy", "007", Difficulty(3)),
        ("copy", "", None),
        ("copy", "7a", None),
        ("program", "print(10)", Difficulty(1)),
        ("program", "print(11)", Difficulty(2)),
        ("program", "i=8;\nprint(((i+2)*3))", Difficulty(1, 2)),
        ("program", "print((3*88))", Difficulty(2)),
        ("program", "print((123*88))", Difficulty(22)),
        ("program", "print(((3+12345)*20))", Difficulty(5, 2)),
        ("program", "print((21*(3+12345)))", Difficulty(6, 2)),
        ("program", "a=5\nfor x in range(9):a+=3\nprint(a)", Difficulty(3)),
        ("program", "a=5;b=7;print((a*b))", None),
        ("program", "print(3*4)", None),
        ("program", "print(3*4*5)", None),
        ("program", "a=5;print(a+3)", None),
        ("program", "print(3 if 1<2 else 4)", None),
        ("program", "print(7+1)", None),
        ("program", "print((7+1", None),
    ],
)
def test_difficulty_of(task, text, difficulty):
    assert TASKS[task].difficulty_of(text) == difficulty


@pytest.mark.parametrize(
    ("program", "long"),
    [
        ("print(5+4)", False),
        ("print(5+5)", True),
        ("print(999+101)", True),
        ("print(119+119)", False),
        ("print(199+199)", True),
        ("print(1005+1005)", False),
        ("print(1055+1055)", True),
    ],
)
def test_a_long_carry_runs_through_half_of_the_digits(program, long):
    assert tasks.has_long_carry(program) == long


def test_unequal_sums():
    rng = random.Random(1)
    drawn = [tasks.draw_unequal_sum(rng, digits=5, shorter=2) for _ in range(300)]
    lengths = Counter(tuple(map(len, operands(example))) for example in drawn)
    assert set(lengths) == {(5, 2), (2, 5)} and min(lengths.values()) > 100
    assert all(str(sum(map(int, operands(e)))) == e.target for e in drawn)
    assert any(operands(tasks.draw_unequal_sum(rng, 2, 1))[0] == "0" for _ in range(300))
