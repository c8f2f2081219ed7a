"""What is published says the same everywhere: cells, figures, tables and the READMEs."""

import pathlib
import re

import pytest

from keras_l2e import tables as report
from keras_l2e.paper import cells, comparisons, figures
from keras_l2e.paper import tables as figure_tables

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = (ROOT / "results" / "README.md").read_text()
PAPER = ROOT / "results" / "paper"
FIGURES = [figure for figure in cells.FIGURES if (PAPER / f"{figure}.json").exists()]
# Rows that begin with a link to a run: its folder, token_accuracy and exact_match.
ROW = re.compile(r"^\| \[[^]]+\]\((?:results/)?(\w+)\) \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)
RUNS = ROW.findall(README) + ROW.findall(RESULTS)


@pytest.fixture(params=FIGURES)
def result(request):
    """What is published of a figure."""
    return report.read_evaluation(PAPER / f"{request.param}.json")


def test_figures_show_what_their_cells_measured(result):
    figure = result["figure"]
    assert comparisons.collect(figure, result["budget"], PAPER / figure) == result
    assert (PAPER / f"{figure}.csv").read_text() == figure_tables.figure_csv(result)
    markdown = figures.TABLES.get(figure, figure_tables.figure_markdown)
    assert (PAPER / f"{figure}.md").read_text() == markdown(result)


def test_cells_were_run_as_their_grid_says(result):
    for cell in cells.cells(result["figure"], result["budget"]):
        if cell.name not in result["missing"]:
            flags = (PAPER / result["figure"] / cell.name / "flags.cfg").read_text().splitlines()
            assert set(cell.flagfile().splitlines()) - set(flags) == set(), cell.name


def test_no_network_took_more_than_forty_minutes_of_a_core():
    """Training and validation, which is twenty of two cores: the bound of the comparison."""
    for path in (PAPER / "models").glob("*/timing.jsonl"):
        seconds = sum(epoch["seconds"] for epoch in report.read_history(path))
        assert 0 < seconds <= 40 * 60, path


def test_the_results_have_the_tables_of_the_figures(result):
    if result["figure"] not in figures.TABLES:
        assert figure_tables.rates_table(result, "exact_match") in RESULTS


def test_the_readmes_link_to_runs():
    assert len(ROW.findall(README)) >= 4
    assert len(ROW.findall(RESULTS)) >= 6


@pytest.mark.parametrize(("run", "token_accuracy", "exact_match"), RUNS)
def test_the_readmes_have_the_figures_of_their_runs(run, token_accuracy, exact_match):
    target = report.read_evaluation(ROOT / "results" / run / "evaluation.json")["rows"][-1]
    assert token_accuracy == report.format_rate(target["token_accuracy"], 4)
    assert exact_match == report.format_rate(target["exact_match"], 4)
