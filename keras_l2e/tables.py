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

METRICS = {
    "exact_match": "exact_match (free-running)",
    "token_accuracy": "token_accuracy (teacher-forced)",
}
BREAKDOWNS = {
    "by_operation": ("operation", "operation"),
    "by_carry_chain": ("carry_chain", "longest carry chain (digits)"),
}


def format_table(evaluation: dict) -> str:
    """The evaluation as aligned plain text: a row per difficulty, chance, then the breakdowns.

    A breakdown shows the hardest trained difficulty and all together, where it can: rates over
    examples can be pooled, `token_accuracy` cannot, for its positions are not counted there.
    """
    return _join_tables(evaluation, _plain_table, "{}")


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
    return "\n\n".join(_sample(sample) for sample in samples[:count])


def read_history(path) -> list[dict]:
    """The lines of a `history.jsonl`.

    Raises:
        ValueError: names the file and the line that is broken.
    """
    lines = Path(path).read_text("utf-8").splitlines()
    return [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def read_evaluation(path) -> dict:
    """The content of an `evaluation.json`.

    Raises:
        ValueError: names the file that is broken.
    """
    return _parse(Path(path).read_text("utf-8"), path)


def _parse(text: str, where) -> dict:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: no JSON ({error})") from None


def describe(evaluation: dict) -> str:
    return "{task}, {split} split, input form {input_form}, seed {seed}".format_map(evaluation)


def format_difficulty(length: int, nesting: int) -> str:
    return f"length {length}" + (f", nesting {nesting}" if nesting > 1 else "")


def breakdown_groups(evaluation: dict) -> tuple[str, list[tuple[str, list[dict]]]] | None:
    """The breakdown's kind and its groups: the hardest trained difficulty, then all together.

    Returns:
        (a key of BREAKDOWNS, [(title, entries)]), see `_pool`; None if there is no breakdown.
    """
    for kind, (field, _) in BREAKDOWNS.items():
        if kind in evaluation:
            hardest = max((entry["nesting"], entry["length"]) for entry in evaluation[kind])
            chosen = [e for e in evaluation[kind] if (e["nesting"], e["length"]) == hardest]
            title = f"hardest trained difficulty: {format_difficulty(*hardest[::-1])}"
            groups = [(title, _pool(chosen, field))]
            if len(evaluation["rows"]) > 1:
                groups.append(("all trained difficulties", _pool(evaluation[kind], field)))
            return kind, groups
    return None


def _pool(entries: list[dict], field: str) -> list[dict]:
    """One entry a value of `field`, in order; rates are averaged with the numbers of examples."""
    pooled = []
    for value in sorted({entry[field] for entry in entries}):
        same = [entry for entry in entries if entry[field] == value]
        total = sum(entry["num_examples"] for entry in same)
        pooled.append({field: value, "num_examples": total})
        for rate in ("exact_match", "answer_in_program"):
            pooled[-1][rate] = sum(e[rate] * e["num_examples"] for e in same) / total
    return pooled


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


def _join_tables(evaluation: dict, render, heading: str) -> str:
    rates = ["token_accuracy", "exact_match", "free_token_accuracy", "answer_in_program"]
    columns = ["length", "nesting", "num_examples", *rates]
    rows = evaluation["rows"]
    if evaluation["beyond_training"]:
        columns.append("")
        rows = [row | {"": ""} for row in rows]
        rows += [row | {"": "beyond training"} for row in evaluation["beyond_training"]]
    parts = [heading.format(describe(evaluation)), render(*_cells(rows, columns))]
    parts.append(f"chance token_accuracy: {format_rate(evaluation['chance_token_accuracy'], 4)}")
    kind, groups = breakdown_groups(evaluation) or ("", [])
    for title, entries in groups:
        columns = [BREAKDOWNS[kind][0], "num_examples", "exact_match", "answer_in_program"]
        parts += [heading.format(f"{kind}, {title}"), render(*_cells(entries, columns))]
    if unequal := evaluation.get("unequal_digits"):
        columns = ["shorter", "num_examples", *rates[:2]]
        title = f"unequal_digits (not trained): {unequal[0]['length']} digits and fewer"
        parts += [heading.format(title), render(*_cells(unequal, columns))]
    return "\n\n".join(parts)


def _cells(rows: list[dict], columns: list[str]) -> tuple[list[str], list[list[str]]]:
    """The header and the cells of a table, rates in four decimals."""
    labels = {name: label.replace(" ", "\n") for name, label in METRICS.items()}
    header = [labels.get(name, name) for name in columns]
    return header, [[_cell(row[name]) for name in columns] for row in rows]


def _cell(value) -> str:
    return format_rate(value, 4) if isinstance(value, float) else str(value)


def _plain_table(header: list[str], rows: list[list[str]]) -> str:
    names = [["", *name.split("\n")][-2:] for name in header]
    columns = []
    for column in zip(*zip(*names, strict=True), *rows, strict=True):
        width = max(map(len, column))
        pad = str.ljust if _is_text(column[2:]) else str.rjust
        columns.append([pad(cell, width) for cell in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def format_markdown(header: list[str], rows: list[list[str]]) -> str:
    names = [name.replace("\n", " ") for name in header]
    sides = ["---" if _is_text(column) else "---:" for column in zip(*rows, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, sides, *rows))


def _is_text(column) -> bool:
    return any(cell[:1].isalpha() for cell in column)


def _sample(sample: dict) -> str:
    # A model may write any character, newlines among them.
    output = sample["output"].replace("\n", "\\n")
    program = sample["program"].replace("\n", "\n           ")
    return (
        f"{format_difficulty(sample['length'], sample['nesting'])}\n"
        f"  program  {program}\n"
        f"  target   {sample['target']}\n"
        f"  output   {output}  {'CORRECT' if sample['correct'] else 'WRONG'}"
    )
