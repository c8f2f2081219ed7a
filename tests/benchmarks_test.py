"""Benchmarks, which take minutes or hours, would run: what they use of the package is there."""

import ast
import importlib
import json
import random
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import keras_l2e
from keras_l2e import config, settings
from keras_l2e.config import Config
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import TASKS, Difficulty
from keras_l2e.networks import MODELS
from keras_l2e.paper import cells as paper_cells

FOLDER = Path(__file__).parent.parent / "benchmarks"
PACKAGE = Path(keras_l2e.__file__).parent
SHARED = {"measuring", "variations"}
each_script = pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))


def parse(name):
    return ast.parse((FOLDER / f"{name}.py").read_text())


def source_of(module):
    """The path of a module of the package or of a benchmark, None of any other."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    candidates = [path.with_suffix(".py"), path / "__init__.py", FOLDER / f"{module}.py"]
    return next((candidate for candidate in candidates if candidate.exists()), None)


def top_level_names(path):
    names = {"__doc__", "__file__"}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            found = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
            names |= {n.id for n in found if isinstance(n.ctx, ast.Store)}
    return names


@each_script
def test_what_is_used_of_other_modules_is_there(name):
    """Also in functions, which no test calls."""
    tree, modules, used = parse(name), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "keras_l2e":
            for alias in node.names:
                if source_of(full := f"{node.module}.{alias.name}"):
                    modules[alias.asname or alias.name] = full
                else:
                    used.add((node.module, alias.name))
        elif isinstance(node, ast.Import):
            modules |= {a.name: a.name for a in node.names if (FOLDER / f"{a.name}.py").exists()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules:
            used.add((modules[ast.unparse(node.value)], node.attr))
    assert used or name == "measuring"
    assert not {
        f"{module}.{name}"
        for module, name in used
        if not (path := source_of(module)) or name not in top_level_names(path)
    }


@each_script
def test_a_docstring_says_how_to_run_it(name, benchmark):
    module = benchmark(name)
    if name not in SHARED:
        assert f"python benchmarks/{name}.py" in module.__doc__
        assert callable(module.main)


@each_script
def test_flags_are_there(name):
    """Those of its own, and those that it gives to commands of the package."""
    texts = [node.value for node in ast.walk(parse(name)) if isinstance(node, ast.Constant)]
    flags = {found[1] for text in texts if (found := re.match(r"--([a-z_]+)", str(text)))}
    own = re.findall(r'add_argument\(\s*"--([a-z_]+)', (FOLDER / f"{name}.py").read_text())
    known = {"flagfile", *own}
    for command in ("train", "evaluate", "export", "execute", "reproduce", "show"):
        module = importlib.import_module(f"keras_l2e.{command}")
        known |= set(settings.of(getattr(module, "Arguments", config.Run)))
    importlib.reload(keras_l2e)  # The commands' modules hide its functions of the same names.
    assert flags <= known


def test_summary(benchmark):
    found = benchmark("measuring").summary([3.0, 1.0, 8.0])
    assert found == {"median": 3.0, "min": 1.0, "max": 8.0, "repeats": [3.0, 1.0, 8.0]}


# Those that train


@pytest.fixture
def traces(benchmark):
    """The benchmark, whose target form is there for the time of a test."""
    module = benchmark("traces")
    before = set(module.TARGET_FORMS)
    module.register()
    yield module
    for name in module.TARGET_FORMS.keys() - before:
        del module.TARGET_FORMS[name]


@pytest.mark.parametrize("name", ["levers", "width"])
def test_each_cell_can_be_trained_and_changes_something(benchmark, name):
    cells = list(benchmark(name).cells().values())
    assert len({cell.name for cell in cells}) == len({cell.flagfile() for cell in cells}) > 7
    for cell in cells:
        if not cell.flags.keys() & {*config.REMOVED}:
            Config(**cell.flags)
    # Of levers, batches that grow see fewer examples, as the module says.
    even = [cell for cell in cells if not cell.flags.get("first_batch_size")]
    assert len({cell.num_examples for cell in even}) == 1 and len(cells) - len(even) <= 1


def test_rates_are_tried_beyond_that_of_the_figure(benchmark):
    tried = defaultdict(list)
    for (name, rate), cell in benchmark("rates").cells().items():
        assert Config(**cell.flags).learning_rate == rate
        tried[name, cell.flags["model"]].append(rate)
    assert Counter(model for _, model in tried) == dict.fromkeys(MODELS, 2)
    figure = [cell for name in ("cpu", "paper") for cell in paper_cells.cells("models", name)]
    for (name, model), rates in tried.items():
        largest = [0.02] if model in ("lstm", "attention") else []
        assert rates == [0.001, 0.002, 0.004, 0.01, *largest], name
        for tasks in (("copy", "reverse", "double"), ("addition",), ("control", "program")):
            taken = {
                cell.flags["learning_rate"]
                for cell in figure
                if cell.flags["model"] == model and cell.flags["task"] in tasks
            }
            assert len(taken) == 1 and taken.pop() in rates[1:-1], (name, tasks)


def test_rates_are_judged_by_all_levels_of_the_last_epochs(benchmark, tmp_path):
    lines = [
        {
            "num_examples": 10 * epoch,
            "levels": [
                {"token_accuracy": right, "exact_match": right / 2} for right in (epoch, epoch + 1)
            ],
        }
        for epoch in range(1, 9)
    ]
    (tmp_path / "history.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    expected = {"num_examples": 80, "token_accuracy": 8, "exact_match": 4}
    assert benchmark("rates").measure(tmp_path) == expected


def test_lengths_are_drawn_by_network_and_strategy(benchmark):
    lengths = benchmark("lengths")
    rows = [{"length": n, "exact_match": 1 / n} for n in lengths.lengths(3)]
    runs = [
        {"task": task, "target_form": form, "model": model, "strategy": strategy, "seed": seed}
        | {"network": f"{model} {size}", "target_length": 3, "rows": rows}
        for task, form in (("copy", "answer"), ("program", "reversed_trace"))
        for model, size in (("lstm", "1 x 8"), ("attention", "1 x 8"), ("attention", "1 x 16"))
        for strategy in ("mix", "review")
        for seed in (1, 2)
    ]
    table = lengths.format_tables(runs)
    assert re.findall("^## .*$", table, re.MULTILINE) == [
        "## copy, trained up to 3",
        "## program, work, trained up to 3",
    ]
    assert table.count("| attention 1 x 16 | review | 2 | 1.000 | 0.500 | 0.333 |") == 2
    first, second, empty = lengths.draw(runs).axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["copy", "program, work"]
    assert not empty.get_visible()
    # One line for each seed of a network and a strategy: a mean of 0 and 1 would be no network's.
    assert len(first.lines) == 12 and first.lines[0].get_xydata().tolist()[1] == [2, 0.5]
    assert len({line.get_color() for line in first.lines}) == 3


@pytest.fixture
def finished(tmp_path):
    """A finished run of four epochs; a stop cost it the time of one, and half a line of another."""
    history, timing = [], [{"epoch": 2, "seconds": 99.0}]
    for epoch, accuracies in enumerate([(0.9, 0.1), (0.96, 0.2), (0.94, 0.3), (0.98, 0.4)], 1):
        levels = [
            {"length": length, "nesting": 1, "token_accuracy": accuracy}
            for length, accuracy in enumerate(accuracies, start=1)
        ]
        history.append({"epoch": epoch, "num_examples": 10 * epoch, "levels": levels})
        timing.append({"epoch": epoch, "seconds": 2.5})
    lines = [json.dumps(line) for line in timing]
    lines[1] = lines[1][:9] + lines[1]
    for name, text in (("history", map(json.dumps, history)), ("timing", lines)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(text) + "\n")
    rates = {"token_accuracy": 0.5, "exact_match": 0.25}
    (tmp_path / "evaluation.json").write_text(json.dumps({"rows": [rates] * 7}))
    return tmp_path


def test_what_a_run_has_come_to(benchmark, finished):
    variations = benchmark("variations")
    found = variations.measure_levels(finished)
    assert (found["num_examples"], found["seconds"], len(found["rows"])) == (40, 10.0, 7)
    assert found["mastered"] == [
        {"length": 1, "num_examples": 20, "seconds": 5.0},
        {"length": 2, "num_examples": None, "seconds": None},
    ]


def test_runs_that_failed_are_named(benchmark, tmp_path):
    levers, variations = benchmark("levers"), benchmark("variations")
    arguments = variations.argparse.Namespace(workdir=tmp_path, data_dir="D", draw_only=False)
    wanted = dict(list(levers.cells().items())[:1])
    command = [sys.executable, "-c", "import sys; sys.exit('no space left')"]
    with pytest.raises(SystemExit, match=r"error: 1 of 1 cells failed; lever_00: no space left"):
        variations.collect(arguments, "levers", wanted, command=command)
    arguments.draw_only = True
    with pytest.raises(SystemExit, match=r"error: no run in .*levers is done"):
        variations.collect(arguments, "levers", wanted)


@pytest.mark.parametrize("name", ["levers", "traces", "width"])
def test_published_runs_are_drawn_again(benchmark, name, traces, tmp_path, monkeypatch):
    published = FOLDER.parent / "results"
    command = [name, "--draw_only", f"--workdir={published}", f"--output={tmp_path}"]
    monkeypatch.setattr("sys.argv", command)
    benchmark(name).main()
    assert (tmp_path / f"{name}.md").read_text() == (published / name / f"{name}.md").read_text()
    assert not (tmp_path / f"{name}.json").exists()
    if name != "levers":
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_the_width_decides_how_long_sums_get(benchmark):
    width = benchmark("width")
    mastered = [{"length": length, "num_examples": 30 * length} for length in (1, 2, 5)]
    assert width.longest([*mastered, {"length": 6, "num_examples": None}]) == 5
    assert width.longest([{"length": 1, "num_examples": None}]) == 0


@pytest.mark.parametrize(
    ("program", "written"),
    [
        ("e=5\nfor x in range(12):e+=65\nprint(e)", "130;650;780;785"),
        ("e=5\nfor x in range(4):e-=65\nprint(e)", "260;-255"),
        ("e=5\nfor x in range(1):e+=65\nprint(e)", "70"),
        ("e=5\nfor x in range(2):e+=(3*20)\nprint(e)", "60;120;125"),
        ("e=5\nfor x in range(3):e+=2\nf=e\nfor x in range(2):f-=1\nprint(f)", "6;11;2;9"),
        ("e=(5+6)\nfor x in range(2):e+=20\nprint((e-1))", "11;40;51;50"),
        ("print((17*22753))", "159271;227530;386801"),
    ],
)
def test_loops_as_one_product(traces, program, written):
    steps = traces.products(Example(program, "", ""))
    assert ";".join(str(step.value) for step in steps) == written


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("without_complements", "2:32<51;e21-;1:32<51;e72-;-27"),
        ("without_comparisons", "2:51;e88-;1:51;e37-;-27"),
        ("without_counters", "77<51;e88-;77<51;e37-;-27"),
        ("with_operands", "2:(12-44)77<51;(3-51)e88-;1:(12-44)77<51;(88--51)e37-;-27"),
        ("without_names", "2:77<51;88-;1:77<51;37-;-27"),
        ("loops_as_products", "77<51;03;e37-;-27"),
    ],
)
def test_one_thing_changed_of_what_is_written(traces, name, written):
    program = "e=3\nfor x in range(2):e-=(8 if 21>44 else 15)\nprint(e)"
    form = traces.TARGET_FORMS[name]
    assert form.write(Example(program, "-27", "")) == written


def test_the_work_is_found_in_what_is_written(traces):
    rng = random.Random(0)
    names = traces.FORMS.keys() - {"loops_as_products"}  # Whose work is no trace of the program.
    for difficulty in (Difficulty(1, 2), Difficulty(3, 2), Difficulty(5, 3)):
        for _ in range(100):
            example = TASKS["program"].generate(rng, difficulty)
            for name in names:
                form = traces.TARGET_FORMS[name]
                written = form.write(example)
                assert form.work(written) == example.trace, name
                assert len(written) <= form.longest(TASKS["program"].longest(difficulty)), name


def test_runs_of_traces_can_be_trained_and_change_something(traces):
    cells = traces.cells()
    assert len({cell.flagfile() for cell in cells.values()}) == len(cells)
    for cell in cells.values():
        Config(**cell.flags)
        assert cell.num_examples >= traces.EXAMPLES


def test_leading_digits_are_left_out(traces):
    example = Example("print((20*(1234-1208)))", "520", "")
    written = {
        "register_trace": "6200;25*025;520",
        "without_leading_digits": "62;25*025;520",
    }
    for name, text in written.items():
        assert traces.TARGET_FORMS[name].write(example) == text
