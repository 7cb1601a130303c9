"""What `iv train` keeps while it learns rows of one's own (`scripts/own_rows.py`)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from evidence.wider import told
from instruction_vectors.continual.compare import Rows, compare
from instruction_vectors.continual.result import Result, counted_probes, learnt, probes
from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.statistics import mean_of_means
from instruction_vectors.files import read_json
from instruction_vectors.reporting.values import DASH, show

_PLAIN = "none"
_HEADS = (
    "rows of", "learning rate", "`--vector`", "learnt", "minus plain", "five-shot left", "minus plain", "of the loss",
    "zero-shot left", "minutes", "seeds",
)  # fmt: skip


def own_rows(folder: Path) -> str:
    """A line a task, learning rate and kind of vector, each set against plain training on the same rows.

    Raises:
        DataError: a run was asked about other tasks than the model before training.
    """
    before = read_json(folder / "M0.json")
    runs: dict[tuple[str, float, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for path in sorted(folder.glob("*-s[0-9]*.json")):
        run = read_json(path)
        if run["data"] != before["data"]:
            raise DataError(f"{path}: asked about other tasks than M0.json; ask again")
        runs[run["task"], run["recipe"]["learning_rate"], run["recipe"]["vector"]][run["recipe"]["seed"]] = run
    lines = [f"| {' | '.join(_HEADS)} |", "| :-- | --: | :-- |" + " --: |" * (len(_HEADS) - 3)]
    for (task, rate, vector), seeds in sorted(runs.items(), key=lambda item: (*item[0][:2], item[0][2] != _PLAIN, item[0][2])):
        plain = runs.get((task, rate, _PLAIN), {})
        if not (both := sorted(seeds.keys() & plain.keys())):
            continue
        ours, theirs = ([_cell(before, own[seed]) for seed in both] for own in (seeds, plain))
        numbers = _numbers(ours, None if vector == _PLAIN else compare(theirs, ours))
        minutes = f"{fmean(seeds[seed]['run']['seconds'] for seed in both) / 60:.1f}"
        lines.append(f"| {' | '.join((task, f'{rate:g}', vector, *numbers, minutes, str(len(both))))} |")
    return "\n".join(lines) + "\n"


def _cell(before: Mapping[str, Any], run: Mapping[str, Any]) -> Result:
    """A run as a sequence of one task."""
    task = run["task"]
    ends = (before["learnt"][task], before["probes"]), (run["learnt"], run["probes"])
    stages = [{"matrix": {task: rows}, "probes": asked} for rows, asked in ends]
    cell = {"benchmark": "func", "sequence": task, "seed": run["recipe"]["seed"]}
    return {"cell": cell, "data": run["data"], "tasks": [task], "stages": stages}


def _numbers(seeds: Sequence[Result], found: Mapping[str, Any] | None) -> list[str]:
    """What is learnt and left, and how far that is from plain training."""
    apart = [DASH] * 3
    if found:
        share = DASH if found["ip_recovered"] is None else f"{100 * found['ip_recovered']:.0f} %"
        ap, ip = told(found["ap_delta"], found["ap_interval"], plus=True), found["ip"]
        apart = [ap, told(ip.get("gain"), ip.get("gain_interval"), plus=True), share]
    first = [[each["stages"][0]["matrix"][each["tasks"][0]]] for each in seeds]
    learnt_now = _arrow(first, [learnt(each) for each in seeds])
    return [learnt_now, apart[0], _left(seeds, "in_context"), *apart[1:], _left(seeds, "zero_shot")]


def _left(seeds: Sequence[Result], form: str) -> str:
    """Before and after, over the tasks that the model before training can do."""
    names = counted_probes(seeds[0], form)
    if not names:
        return DASH
    return _arrow(*([probes(each, stage, form, names) for each in seeds] for stage in (0, -1)))


def _arrow(before: Rows, after: Rows) -> str:
    return f"{show(mean_of_means(before))} → {show(mean_of_means(after))}"
