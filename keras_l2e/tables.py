"""Tables and samples as text, from the JSON files that a run leaves.

    >>> sample = {"length": 5, "nesting": 1, "program": "print(60494+65125)", "target": "125619"}
    >>> sample |= {"output": "125619", "correct": True}
    >>> print(format_samples({"samples": [sample]}))
    length 5
      program  print(60494+65125)
      target   125619
      output   125619  CORRECT

`token_accuracy` is teacher-forced and `exact_match` free-running. No rate is rounded to 1 or 0
unless it is exactly that.
"""

import json
from pathlib import Path

from keras_l2e.errors import WorkError

METRICS = {
    "exact_match": "exact_match (free-running)",
    "token_accuracy": "token_accuracy (teacher-forced)",
}
# Those that a row has are shown; `written_match` is there where a network writes its work.
RATES = (
    "token_accuracy",
    "exact_match",
    "written_match",
    "free_token_accuracy",
    "answer_in_program",
)
# Of the first wrong step of a wrong answer.
_PLACES = ("turns", "digits")


def format_table(evaluation: dict) -> str:
    """The evaluation as aligned plain text: a row per difficulty, chance, then the breakdown."""
    return _join_tables(evaluation, _format_plain, "{}")


def format_markdown_table(evaluation: dict) -> str:
    """The tables of `format_table` as Markdown."""
    return _join_tables(evaluation, format_markdown, "**{}**")


def format_samples(evaluation: dict, count: int = 10) -> str:
    """Decoded samples: the program, its target, the output and CORRECT or WRONG.

    Args:
        evaluation: the content of `evaluation.json`.
        count: at most so many, spread evenly over the samples so that all difficulties show.
    """
    samples = evaluation["samples"]
    if 1 < count < len(samples):
        samples = [samples[i * (len(samples) - 1) // (count - 1)] for i in range(count)]
    return "\n\n".join(_format_sample(sample) for sample in samples[:count])


def read_history(path) -> list[dict]:
    """The lines of a `history.jsonl`.

    Raises:
        WorkError: names the file and the line that is broken.
    """
    lines = Path(path).read_text("utf-8").splitlines()
    return [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def read_evaluation(path) -> dict:
    """The content of an `evaluation.json`.

    Raises:
        WorkError: names the file that is broken.
    """
    return _parse(Path(path).read_text("utf-8"), path)


def _parse(text: str, where) -> dict:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise WorkError(f"{where}: no JSON ({error})") from None


def breakdown(evaluation: dict) -> tuple[str, str, list[dict]] | None:
    """The kinds of programs that an evaluation tells apart, at the hardest trained difficulty.

    >>> entry = {"carry_chain": 3, "length": 4, "nesting": 1, "exact_match": 0.5}
    >>> breakdown({"by_carry_chain": [entry]})[:2]
    ('carry_chain', 'hardest trained difficulty: length 4')

    Returns:
        (kind, title, entries): one entry for each value of the kind, in order, with that value
        under the kind's name, `num_examples` and rates; None where no kinds are told apart.
    """
    for key in evaluation:
        if key.startswith("by_"):
            return key.removeprefix("by_"), *hardest(evaluation[key])
    return None


def hardest(entries: list[dict]) -> tuple[str, list[dict]]:
    """The entries of the hardest trained difficulty, and its title."""
    hardest = max((entry["nesting"], entry["length"]) for entry in entries)
    chosen = [e for e in entries if (e["nesting"], e["length"]) == hardest]
    return f"hardest trained difficulty: {_format_difficulty(*hardest[::-1])}", chosen


def describe(evaluation: dict) -> str:
    """What was evaluated, in one line."""
    return "{task}, {split} split, input form {input_form}, seed {seed}".format_map(evaluation)


def format_rate(value: float, decimals: int) -> str:
    """A rate in fixed decimals that reads 1 or 0 only if it is.

    >>> [format_rate(value, 2) for value in (0.0, 0.004, 0.5, 0.999, 1.0)]
    ['0.00', '<0.01', '0.50', '>0.99', '1.00']
    """
    text = f"{value:.{decimals}f}"
    if float(text) == 1 and value < 1:
        return f">{1 - 10**-decimals:.{decimals}f}"
    if float(text) == 0 and value > 0:
        return f"<{10**-decimals:.{decimals}f}"
    return text


def format_short_rate(value: float, decimals: int) -> str:
    """`format_rate` for narrow places: 0.5 is .500, and exactly 1 and 0 are written so."""
    return str(int(value)) if value in (0, 1) else format_rate(value, decimals).replace("0.", ".")


def format_markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table of cells that are text already; columns of numbers are set to the right."""
    names = [name.replace("\n", " ") for name in header]
    sides = ["---" if _is_text(column) else "---:" for column in zip(*rows, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, sides, *rows))


def _format_plain(header: list[str], rows: list[list[str]]) -> str:
    names = [["", *name.split("\n")][-2:] for name in header]
    columns = []
    for column in zip(*zip(*names, strict=True), *rows, strict=True):
        width = max(map(len, column))
        pad = str.ljust if _is_text(column[2:]) else str.rjust
        columns.append([pad(cell, width) for cell in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _is_text(column) -> bool:
    return any(cell[:1].isalpha() for cell in column)


def _join_tables(evaluation: dict, render, heading: str) -> str:
    beyond = [row | {"": "beyond training"} for row in evaluation["beyond_training"]]
    columns = ["length", "nesting", "num_examples", *RATES, ""]
    tables = [(describe(evaluation), evaluation["rows"] + beyond, columns)]
    if found := breakdown(evaluation):
        kind, title, entries = found
        tables.append((f"by_{kind}, {title}", entries, [kind, "num_examples", *RATES]))
    if failures := evaluation.get("failures"):
        title, (row,) = hardest(evaluation["rows"])
        place = row["length"], row["nesting"]
        rows = [
            {**row, **{name: _most(row[name]) for name in _PLACES}}
            for row in failures
            if (row["length"], row["nesting"]) == place
        ]
        if rows:
            title = f"first wrong steps of wrong answers, {title}"
            tables.append((title, rows, ["step", "fault", "num_examples", *_PLACES]))
    if unequal := evaluation.get("unequal_digits"):
        title = f"unequal_digits (not trained): {unequal[0]['length']} digits and fewer"
        tables.append((title, unequal, ["shorter", "num_examples", *RATES[:3]]))
    parts = []
    for title, rows, columns in tables:
        parts += [heading.format(title), render(*_cells(rows, columns))]
    chance = format_rate(evaluation["chance_token_accuracy"], 4)
    parts.insert(2, f"chance token_accuracy: {chance}")
    return "\n\n".join(parts)


def _cells(rows: list[dict], columns: list[str]) -> tuple[list[str], list[list[str]]]:
    """The header and the cells of the columns that any row has, rates in four decimals."""
    columns = [name for name in columns if any(name in row for row in rows)]
    header = [METRICS.get(name, name).replace(" ", "\n") for name in columns]
    return header, [[_format_cell(row.get(name, "")) for name in columns] for row in rows]


def _format_cell(value) -> str:
    return format_rate(value, 4) if isinstance(value, float) else str(value)


def _most(counts: dict[str, int]) -> str:
    """The three most frequent, as 'value (how often)'."""
    often = sorted(counts, key=lambda value: -counts[value])[:3]
    return ", ".join(f"{value} ({counts[value]})" for value in often)


def visible(text: str) -> str:
    """A text of one line: a network may write any character, newlines among them."""
    return text.replace("\n", "\\n")


def _format_sample(sample: dict) -> str:
    program = sample["program"].replace("\n", "\n           ")
    verdict = "CORRECT" if sample["correct"] else "WRONG"
    lines = [_format_difficulty(sample["length"], sample["nesting"]), f"  program  {program}"]
    if "trace" in sample:
        lines += [f"  work     {visible(sample['work'])}", f"  trace    {sample['trace']}"]
    lines += [
        f"  target   {sample['target']}",
        f"  output   {visible(sample['output'])}  {verdict}",
    ]
    return "\n".join(lines)


def _format_difficulty(length: int, nesting: int) -> str:
    return f"length {length}" + (f", nesting {nesting}" if nesting > 1 else "")
