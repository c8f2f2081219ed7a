"""The page: its modules in Node against the package itself, and all of it in a browser."""

import ast
import itertools
import json
import random
import re
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import drawn
from interpreter_test import BOUNDS, CLASS_CHARACTERS, HOSTILE, PROGRAMS, REFUSED, TOKENS
from traced_run_test import LOOP, WORK

import keras_l2e
from keras_l2e import api, export, page, pretrained
from keras_l2e import config as configs
from keras_l2e.config import Config
from keras_l2e.errors import WorkError
from keras_l2e.language import forms, interpreter, programs, vocabulary
from keras_l2e.language.tasks import TASKS, Difficulty
from keras_l2e.networks import MODELS, models, saved_model


def outcome(compute):
    """As page_in_node.mjs gives it."""
    try:
        return {"value": compute()}
    except interpreter.ProgramError as error:
        return {"error": str(error)}


def draw_programs(*arguments):
    return [example.program for example in drawn(*arguments)]


# The interpreter


def steps_of(program):
    return [
        {"value": str(step.value), "kind": step.kind, "turn": step.turn}
        for step in interpreter.steps(program, registers=True)
    ]


def assert_equal_runs(ask_page, texts):
    """Equal values, steps and messages; of Python's own messages only that there is one."""
    expected = [[outcome(lambda t=t: interpreter.run(t)) for t in texts]]
    expected.append([outcome(lambda t=t: steps_of(t)) for t in texts])
    found = [ask_page("run", [[text] for text in texts])]
    found.append(ask_page("steps", [[text, True] for text in texts]))
    num_equal = 0
    for text, *rows in zip(texts, *expected, *found, strict=True):
        for right, given in zip(rows[:2], rows[2:], strict=True):
            if is_of_python(text):
                assert given.get("error", "").startswith("line "), text
                num_equal += given == right
            else:
                assert given == right, text
                num_equal += 1
    return num_equal / (2 * len(texts))


def is_of_python(text):
    """Whether it is refused in the words of Python's parser, which has other ones every year."""
    try:
        interpreter._check_text(text)
        ast.parse(text)
    except interpreter.ProgramError:
        return False
    except SyntaxError:
        return True
    return text.startswith("match ")  # A keyword in this place alone, of which the page knows not.


@pytest.mark.parametrize("count", [1, pytest.param(42, marks=pytest.mark.slow)])
def test_programs_of_every_difficulty_run_alike(ask_page, count):
    levels = TASKS["program"].difficulties()
    texts = [text for level in levels for text in draw_programs("program", [level], count)]
    assert assert_equal_runs(ask_page, texts) == 1


def test_what_the_interpreter_is_tested_with_runs_alike(ask_page):
    texts = [text for text, _ in [*PROGRAMS, *REFUSED]] + list(HOSTILE.values())
    texts += [make(size + more) for make, size, *_ in BOUNDS.values() for more in (0, 1)]
    # Python's words are met too, but for some of its rarer guesses at what was meant.
    assert assert_equal_runs(ask_page, texts) > 0.9


def mutated(count):
    rng = random.Random("page_test/mutated")
    pieces = ["", *CLASS_CHARACTERS, *TOKENS]
    texts = [text for text, _ in PROGRAMS] + draw_programs("program", [Difficulty(5, 2)], 40)
    for _ in range(count):
        text = rng.choice(texts)
        for _ in range(rng.randint(1, 3)):
            start = rng.randint(0, len(text))
            text = text[:start] + rng.choice(pieces) + text[start + rng.randint(0, 3) :]
        yield text
        yield f"a=7\nx=2\nprint({''.join(rng.choices(pieces, k=rng.randint(1, 12)))})"


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_altered_programs_run_alike_or_are_refused(ask_page, count):
    assert assert_equal_runs(ask_page, list(mutated(count))) > 0.9


# Texts


TYPED = [
    *("", " \n", "print(12+34)", "\ufeffprint(3) \t\r\n", "\r\ni=1;\r\n\r\n  print(i) ", "a\rb"),
    *("print(1/2)", 'it\'s "3"', "print(\u00b2)", "print(1\x00)", "\ud800", "\U0001f600", "a\xa0b"),
    *(
        "print(12 + 34)",
        "i=38;\nprint((i-12))",
        "print((1 if 2<3 else 4))",
        "for x in range(3):i+=1",
    ),
    *("print( 3)", " if  if ", "print(" + "9" * 60 + ")", "\u2028", "\\", "\n\n\nprint(\n3)"),
]


def test_what_is_typed_is_cleaned_and_refused_alike(ask_page):
    cleaned = [forms.clean(text) for text in TYPED]
    assert ask_page("clean", [[text] for text in TYPED]) == [{"value": text} for text in cleaned]
    for white_space in {task.white_space for task in TASKS.values()}:
        interface = {"white_space": white_space, "longest_program": 60}
        network = SimpleNamespace(interface=SimpleNamespace(**interface))
        reasons = [api.TrainedNetwork.why_unreadable(network, text) for text in cleaned]
        found = ask_page("whyUnreadable", [[text, interface] for text in cleaned])
        assert found == [{"value": reason} for reason in reasons]


def test_characters_and_input_forms_are_the_same(ask_page):
    ids = [vocabulary.BOS, *vocabulary.encode(vocabulary.CHARACTERS), vocabulary.EOS]
    assert ask_page("ids", [[vocabulary.CHARACTERS]]) == [{"value": ids}]
    text = "i=38;\nprint((i-12))"
    for form in forms.INPUT_FORMS:
        once = ([*vocabulary.encode(part), vocabulary.EOS] for part in forms.read(text, form))
        assert ask_page("read", [[text, form]]) == [{"value": [*itertools.chain(*once)]}]


@pytest.mark.parametrize("name", forms.TARGET_FORMS)
def test_work_and_answer_are_found_alike(ask_page, name):
    form, rng = forms.TARGET_FORMS[name], random.Random(name)
    texts = []
    for difficulty in [Difficulty(1), Difficulty(5, 2), Difficulty(12, 10)] * 20:
        written = form.write(TASKS["program"].generate(rng, difficulty))
        place = rng.randrange(len(written))
        texts += [written, written[:place] + rng.choice(";-:<5(\n") + written[place + 1 :]]
    for ended in (True, False):
        answers = ask_page("answerIn", [[text, name, ended] for text in texts])
        assert answers == [{"value": form.answer(text, ended)} for text in texts]
    if form.work:
        work = ask_page("workIn", [[text, name] for text in texts])
        expected = [form.work(text).split(";") for text in texts]
        # Nothing is one empty value in Python.
        assert [found["value"] or [""] for found in work] == expected


@pytest.mark.parametrize(("work", "lines"), WORK.items())
def test_the_first_wrong_value_is_marked(ask_page, work, lines):
    steps = steps_of(LOOP)[1::2]
    ((found,),) = [
        one.values() for one in ask_page("compareWork", [[work.split(";"), steps, True]])
    ]
    marks = [line.endswith("the first wrong value") for line in lines]
    assert [line["isFirstWrong"] for line in found] == marks
    assert [line["turn"] for line in found[:2]] == [1, 2]
    ((unknown,),) = [one.values() for one in ask_page("compareWork", [[["1"], None, True]])]
    assert unknown[0]["computed"] is None and not unknown[0]["isFirstWrong"]


@pytest.mark.parametrize("task", page.KNOWN["task"])
def test_difficulties_are_the_same(ask_page, task):
    texts = draw_programs(task, TASKS[task].difficulties(), 150)
    texts += [*TYPED, "print(12+345)", "print((8827*77))", "print(1+2+3)", "print((i*j))", "12a"]
    difficulties = [TASKS[task].difficulty_of(text) for text in texts]
    found = ask_page("difficultyOf", [[task, text] for text in texts])
    assert found == [{"value": difficulty and [*difficulty]} for difficulty in difficulties]


@pytest.mark.parametrize("task", ["copy", "reverse", "double"])
def test_digits_are_answered_alike(ask_page, task):
    texts = ["120", "7", "", "print(1)", "1 2"]
    expected = [outcome(lambda t=t: TASKS[task].answer(t)) for t in texts]
    assert ask_page("trueOutput", [[task, text] for text in texts]) == expected


def test_what_is_said_of_a_program(ask_page):
    facts = {"task": "addition", "target_length": 3, "target_nesting": 1, "measured": {"2,1": "ok"}}
    said = {
        "print(12+34)": "ok",
        "print(123+345)": "",
        "print(1234+5678)": "it was not trained on length 4",
        "print(12+345)": "its sums were of two numbers of as many digits, these have 2 and 3",
        "print((12+34))": "it was not trained on programs written so",
        "print(12+)": "",
    }
    found = ask_page("remark", [[text, facts] for text in said])
    assert found == [{"value": text} for text in said.values()]


# The networks


def test_the_page_knows_what_it_says_it_knows(ask_page):
    tables = {"task": "TASKS", "model": "MODELS", "target_form": "FORMS"}
    for setting, table in tables.items():
        assert ask_page("names", [[table]]) == [{"value": [*page.KNOWN[setting]]}]
    assert set(page.KNOWN["task"]) == set(TASKS)
    # A page of the others is refused in one line.
    assert set(page.KNOWN["model"]) == set(MODELS) - {"transformer", "universal_transformer"}
    assert set(page.KNOWN["target_form"]) == set(forms.TARGET_FORMS)


@pytest.mark.parametrize("name", pretrained.names())
@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_answers_as_the_saved_model_does(ask_page, tmp_path, name, many):
    folder = pretrained.find(name)
    # The same network as `programs`, but 2,000 texts of its work take minutes.
    count = (500 if name == "programs_9_3" else 2_000) if many else 200
    config, network = configs.read(folder), models.load(folder / "model.keras")
    page.write([page.describe(name, folder, config, network)], tmp_path / "page.html")
    texts = draw_programs(config.task, config.levels, count)
    module = saved_model.Module(network, config.interface)
    served = saved_model.serve_many(module, texts, forms.shows_work(config.target_form))
    found = [
        one["value"] for one in ask_page("answer", [[0, t] for t in texts], tmp_path / "page.html")
    ]
    written = ["".join(one["written"]).removesuffix("EOS") for one in found]
    all_written = served.get("work", served["output"])
    assert written == [text.decode() for text in all_written]
    probabilities = [one["probability"] for one in found]
    # Products of many probabilities; TensorFlow sums float32 in another order.
    np.testing.assert_allclose(probabilities, served["probability"], atol=5e-4)


SMALL = {
    "task": "program",
    "target_length": 2,
    "hidden_dim": 12,
    "embedding_dim": 5,
    "num_heads": 3,
}
SHAPES = [
    {"num_layers": 2, "input_form": "reverse_double"},
    *({"num_layers": layers, "tie_encoder_decoder": True} for layers in (1, 2)),
    *(
        {"model": "attention", "own_past": past, "second_lstm": second, "input_form": "reverse"}
        for past, second in itertools.product([True, False], repeat=2)
    ),
]


def decisive(config):
    """A network whose weights are drawn, so far apart that it does not waver."""
    network, rng = models.build(config.model, vocabulary.SIZE, config), np.random.default_rng(1)
    for variable in network.trainable_variables:
        variable.assign(rng.normal(size=variable.shape, scale=0.8))
    return network


def test_networks_of_every_shape_write_alike(ask_page, tmp_path):
    """Characters, probabilities and runners-up of up to 30 steps, whether or not they end there."""
    configs_of = [Config(**SMALL, **shape) for shape in SHAPES]
    networks = [decisive(config) for config in configs_of]
    parts = [
        page.describe("x", tmp_path, config, network)
        for config, network in zip(configs_of, networks, strict=True)
    ]
    page.write(parts, tmp_path / "page.html")
    texts = draw_programs("program", [Difficulty(2)], 20)
    lengths = set()
    for i, (config, network) in enumerate(zip(configs_of, networks, strict=True)):
        module = saved_model.Module(network, config.interface._replace(longest_written=29))
        steps = {name: x.numpy() for name, x in module.decode_steps(tf.constant(texts)).items()}
        found = ask_page("answer", [[i, text, 30] for text in texts], tmp_path / "page.html")
        for row, one in enumerate(one["value"] for one in found):
            # The SavedModel says nothing of an id that is no character.
            count = len(one["written"])
            characters = [text.decode() for text in steps["characters"][row]]
            assert one["written"] == characters[:count], SHAPES[i]
            assert not any(characters[count:])
            shown = [place for place in range(count) if characters[place]]
            for name, key in (
                ("probabilities", "probabilities"),
                ("best", "candidate_probabilities"),
            ):
                values = np.array(one[name])[shown]
                np.testing.assert_allclose(values, steps[key][row][shown], atol=1e-4)
            best = steps["candidates"][row].astype(str)[shown, 0].tolist()
            assert [one["candidates"][place][0] for place in shown] == best
            lengths.add(count)
    assert len(lengths) > 5 and 30 in lengths


# The command


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The page of two networks, by the entry point, into a folder that is not there yet."""
    output = tmp_path_factory.mktemp("page") / "new/two.html"
    names = "addition_9,programs_5_2"
    export.main(export.Arguments(format="page", pretrained=names, output=str(output)))
    return output


def test_a_page_holds_the_networks_that_are_named(exported):
    facts = json.loads(
        re.search(r'<script id="networks".*?>(.*)</script>', exported.read_text())[1]
    )
    assert [one["name"] for one in facts] == ["addition_9", "programs_5_2"]
    assert facts[0]["measured"]["9,1"] == "exact_match 0.9989 at length 9"


@pytest.mark.parametrize("setting", page.KNOWN)
def test_what_the_page_does_not_know_is_refused(command, tmp_path, monkeypatch, setting):
    monkeypatch.setitem(page.KNOWN, setting, ("toy",))
    value = getattr(configs.read(pretrained.find("addition_9")), setting)
    output = tmp_path / "page.html"
    assert command("export", "--format=page", "--pretrained=addition_9", f"--output={output}") == (
        2,
        "",
        f"error: addition_9 has {setting} {value}, which a page does not know; it knows toy\n",
    )
    assert not output.exists()


# The file


def test_a_page_is_one_file_that_loads_nothing(tmp_path, installed):
    assert not {"/*", "<!-- networks"} & set(page.script().split("\n"))
    assert "import " not in page.script().replace("important", "")
    (tmp_path / "script.mjs").write_text(page.script() + "start();\n")
    check = [installed("node"), "--check", tmp_path / "script.mjs"]
    subprocess.run(check, check=True, capture_output=True)
    html = (page.FOLDER / "page.html").read_text()
    assert "default-src 'none'" in html
    for word in ("http:", "https:", "src=", "href=", "@import", "url("):
        assert word not in html.replace("default-src=", "")
    for path in page.FOLDER.glob("*.mjs"):
        text = path.read_text()
        assert not [word for word in ("innerHTML", "fetch(", "eval(", "http") if word in text]


def test_names_and_programs_are_no_html(tmp_path):
    config = Config(**SMALL)
    part = page.describe("</script><b>", tmp_path, config, decisive(config))
    page.write([part], tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "</script><b>" not in html and r"\u003c/script>\u003cb>" in html


def test_examples_are_held_out_and_of_every_kind(tmp_path):
    config = Config(**SMALL, target_nesting=2)
    facts = page.describe("x", tmp_path, config, decisive(config)).facts
    assert facts["measured"] == {} and facts["kind"] == "operation"
    kinds = {tuple(example["difficulty"]): set() for example in facts["examples"]}
    for example in facts["examples"]:
        kinds[tuple(example["difficulty"])].add(example["kind"])
        for program in example["programs"]:
            level = Difficulty(*example["difficulty"])
            assert programs.split_of(program) == "test"
            assert example["kind"] in TASKS["program"].kinds_of(program, level)
    assert [*kinds] == config.levels
    assert all(set(programs.OPERATIONS) <= found for found in kinds.values())


def test_rates_are_those_of_the_evaluation(tmp_path):
    rates = pretrained.rates(pretrained.find("addition_9"))
    assert rates[Difficulty(9)] == pretrained.measured("addition_9", "print(123456789+987654321)")
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(WorkError, match=r"evaluation.json: no JSON"):
        pretrained.rates(tmp_path)


# In a browser


def text_of(name):
    return f"document.getElementById('{name}').textContent"


ANSWERED = text_of("said")
CANDIDATES = (
    "[...document.getElementById('candidate-lines').rows].map((row) => "
    "[row.cells[0].textContent, Number(row.cells[2].textContent)])"
)


@pytest.mark.slow
def test_a_browser_shows_what_the_network_answers(exported, use_page, addition_9):
    program = "print(123456+987654)"
    answer, step = addition_9.execute(program), addition_9.steps(program)[1]
    *_, said, predicted, true, verdict, remark, _, candidates = use_page(
        exported,
        [
            ["type", program],
            ["press", "Enter", 2],
            ["wait", ANSWERED],
            *(["evaluate", text_of(x)] for x in ("said", "predicted", "true", "verdict", "remark")),
            ["point", "#predicted :nth-child(2)"],
            ["evaluate", CANDIDATES],
        ],
    )
    right = "right" if answer.right else "wrong"
    *words, probability = said.rsplit(" ", 1)
    assert words == [f"predicted {answer.output}, true {answer.true_output}, {right}, probability"]
    assert float(probability) == pytest.approx(answer.probability, abs=2e-4)
    assert (predicted, true) == (f"{answer.output}EOS", answer.true_output)
    assert verdict.startswith(f"{right} \u00b7 probability {probability} \u00b7 ")
    assert remark == pretrained.measured("addition_9", program)
    assert candidates[0] == [step.character, pytest.approx(step.probability, abs=2e-4)]
    assert sorted(value for _, value in candidates) == [value for _, value in candidates[::-1]]
    assert len(candidates) == 5


@pytest.mark.slow
def test_a_page_is_used_by_keys_by_touch_and_by_its_examples(exported, use_page):
    refused = ["print(12 + 34)", "<b>print(12+34)</b>"]
    program = "i=38;\nprint((i-12))"
    answer = keras_l2e.load("programs_5_2").execute(program)
    choose = (
        "document.getElementById('network').selectedIndex = 1;"
        "document.getElementById('network').dispatchEvent(new Event('change'))"
    )
    found = use_page(
        exported,
        [
            ["type", refused[0]],
            ["click", "#execute"],
            ["evaluate", f"[{text_of('refusal')}, document.getElementById('answer').hidden]"],
            ["type", refused[1]],
            ["press", "Enter", 2],
            ["evaluate", f"[{text_of('refusal')}, document.querySelector('b')]"],
            ["evaluate", choose],
            ["type", program],
            ["click", "#execute"],
            ["wait", ANSWERED],
            ["evaluate", ANSWERED],
            ["click", "#execute"],
            ["click", "#execute"],  # It is still writing.
            ["evaluate", f"[{text_of('execute')}, {ANSWERED}]"],
            ["screen", {"width": 390, "height": 844, "phone": True, "dark": True}],
            ["tap", "#kinds button:last-child"],
            ["wait", f"{ANSWERED} && document.getElementById('program').value.indexOf('i=38')"],
            ["evaluate", f"[document.getElementById('program').value, {ANSWERED}]"],
            ["evaluate", "document.documentElement.scrollWidth"],
            ["evaluate", "document.getElementById('predicted').firstChild.focus()"],
            ["press", "ArrowRight"],
            ["evaluate", text_of("candidates-of")],
            ["evaluate", "document.activeElement === document.querySelector('#predicted .shown')"],
        ],
    )
    white_space = TASKS["addition"].white_space
    reasons = [forms.why_unknown(text, white_space) for text in refused]
    said = [f"This network cannot read it: {reason}." for reason in reasons]
    assert (found[2], found[5]) == ([said[0], True], [said[1], None])
    assert found[10].startswith(f"predicted {answer.output}, true {answer.true_output}, ")
    assert found[13] == ["Execute", ""]
    example, said = found[17]
    assert programs.split_of(example) == "test"
    assert f", true {interpreter.run(example)}, " in said
    assert found[18] == 390  # Nothing is wider than the screen.
    assert found[21:] == ["Character 2", True]
