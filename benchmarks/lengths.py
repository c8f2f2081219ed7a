"""How far each network of the figure `models` gets beyond the lengths that it was trained on.

    python benchmarks/lengths.py --workdir=W/models --output=FOLDER

W is what `reproduce --figure=models --budget=cpu` has left, as far as it has come. Held-out
examples are drawn at lengths up to twice the trained one, at the trained nesting. Leaves
lengths.json, lengths.md and lengths.png; networks that are in lengths.json already are not tried
again.
"""

import argparse
import itertools
import json
from pathlib import Path

import beyond
import matplotlib
import measuring
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from keras_l2e import api, devices, plots, tables
from keras_l2e.files import write_text
from keras_l2e.language.tasks import Difficulty
from keras_l2e.paper.cells import cells, name_network
from keras_l2e.paper.models import colours, place

MOST_LENGTHS = 20
LINES = ("-", ":", "--")
# What tells runs apart.
ABOUT = ("task", "target_form", "model", "strategy", "seed")


def lengths(target: int) -> list[int]:
    """Those that are tried, the trained one among them.

    >>> lengths(4)
    [1, 2, 3, 4, 5, 6, 7, 8]
    >>> lengths(40)
    [4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76, 80]
    >>> lengths(11)
    [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21]
    """
    step = -(-2 * target // MOST_LENGTHS)
    return sorted({*range(target, 0, -step), *range(target, 2 * target + 1, step)})


def measure(folder: Path) -> dict:
    """Of one run, its network's rates at all lengths."""
    network = api.TrainedNetwork(folder)
    config = network.config
    tried = [Difficulty(length, config.target_nesting) for length in lengths(config.target_length)]
    rates = ("length", "num_examples", "exact_match", "free_token_accuracy")
    return {
        "name": folder.name,
        **{name: getattr(config, name) for name in ABOUT},
        "network": name_network(vars(config)),
        "target_length": config.target_length,
        "rows": [{name: row[name] for name in rates} for row in beyond.score(network, tried)],
    }


def by_task(runs: list[dict]) -> dict[str, list[dict]]:
    """The runs of each task, those that write their work apart."""
    found: dict[str, list[dict]] = {}
    for run in runs:
        found.setdefault(place(run), []).append(run)
    return found


def format_tables(runs: list[dict]) -> str:
    """A table a task, exact_match by length, a line for each run."""
    parts = []
    for task, chosen in by_task(runs).items():
        rows = [
            [run["network"], run["strategy"], str(run["seed"])]
            + [tables.format_rate(row["exact_match"], 3) for row in run["rows"]]
            for run in chosen
        ]
        header = ["network", "strategy", "seed", *(str(row["length"]) for row in chosen[0]["rows"])]
        trained = f"## {task}, trained up to {chosen[0]['target_length']}"
        parts += [trained, tables.format_markdown(header, rows)]
    return "\n\n".join(parts)


@matplotlib.rc_context(plots.STYLE)
def draw(runs: list[dict]) -> Figure:
    """A panel a task, a line for each network, strategy and seed; grey is beyond."""
    found = by_task(runs)
    networks = colours((run["model"], run["network"]) for run in runs)
    names = dict.fromkeys(run["strategy"] for run in runs)
    strategies = dict(zip(names, itertools.cycle(LINES), strict=False))
    num_rows = -(-len(found) // 3)
    figure = plots.new_figure(height=0.6 + 1.6 * num_rows)
    panels = figure.subplots(num_rows, 3, sharey=True, squeeze=False).ravel()
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    for axes, (task, chosen) in zip(panels, found.items(), strict=False):
        for run in chosen:
            rates = pd.DataFrame(run["rows"]).set_index("length")["exact_match"]
            style = {"color": networks[run["network"]], "linestyle": strategies[run["strategy"]]}
            axes.plot(rates, marker="o", markersize=2.5, linewidth=1, **style)
        last = chosen[0]["rows"][-1]["length"]
        axes.axvspan(chosen[0]["target_length"] + 0.5, last + 0.5, color="0.93", zorder=0)
        plots.share_axis(axes, of_lines=True)
        axes.set(title=task, xlim=(0.5, last + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supylabel("exact_match (free-running)", fontsize=7.5)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in networks.items()]
    if len(strategies) > 1:
        handles += (
            Line2D([], [], color="0.1", linestyle=line, label=strategy)
            for strategy, line in strategies.items()
        )
    title = "exact_match by length (digits); grey: beyond training"
    figure.legend(handles=handles, loc="outside lower center", ncols=3, title=title)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the figure's cells")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    path = arguments.output / "lengths.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    known = {run["name"] for run in runs}
    names = [cell.name for cell in cells("models", "cpu")]
    finished = [name for name in names if (arguments.workdir / name / "model.keras").exists()]
    if untried := [name for name in finished if name not in known]:
        devices.load_tensorflow(devices.default_onednn())
        devices.start(1)
        arguments.output.mkdir(parents=True, exist_ok=True)
    for name in untried:
        print(name, flush=True)
        runs.append(measure(arguments.workdir / name))
        runs.sort(key=lambda run: names.index(run["name"]))
        measuring.write(path, {"runs": runs})
    text = format_tables(runs)
    print(text)
    write_text(arguments.output / "lengths.md", text + "\n")
    plots.save_figure(draw(runs), arguments.output / "lengths.png")


if __name__ == "__main__":
    main()
