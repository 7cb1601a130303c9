"""Guided training against the other arms on more tasks that nothing trains on (`scripts/wider_probes.py`)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from instruction_vectors.continual.headline import arm_name, headline
from instruction_vectors.continual.result import Result, rate, way
from instruction_vectors.errors import DataError
from instruction_vectors.files import read_json, sha256_of
from instruction_vectors.reporting.tables.beside import FRONTS
from instruction_vectors.reporting.values import DASH, estimate, show_full

_OWN, _MORE = "their own", "more"
_SETS = {"their own": (_OWN,), "the others": (_MORE,), "all": (_OWN, _MORE)}
"""Which tasks: those measured in the cells themselves, those asked about later, or both."""


def wider(cells: Sequence[Result], grid: Path, folder: Path) -> str:
    """Four tables over those of a grid's finished cells that have a file in the folder.

    Raises:
        DataError: a file is of another run of its cell, or of other tasks than that of the model before training.
    """
    start = read_json(folder / "M0.json")
    before, found = start["probes"], []
    for cell in cells:
        path = grid / "cells" / cell["name"] / "result.json"
        if (answers := folder / f"{cell['name']}.json").exists():
            after = read_json(answers)
            if after["cell"] != sha256_of(path) or after["data"] != start["data"]:
                raise DataError(f"{answers}: of another run than {path}, or of other tasks than M0.json; ask again")
            found.append((cell, after["probes"]))
    headlines = {
        name: headline([_asked(cell, before, after, sets) for cell, after in found])["func"] for name, sets in _SETS.items()
    }
    return f"{_given_back(headlines)}\n{_beside(headlines)}\n{_above(headlines)}\n{_levels(before, found)}"


def _asked(cell: Result, before: Mapping[str, Any], after: Mapping[str, Any], sets: tuple[str, ...]) -> Result:
    """The cell with other tasks in the place of those that it measured before training and at the end."""
    ends = {0: before, -1: after}
    stages = [dict(stage) for stage in cell["stages"]]
    for number, more in ends.items():
        own = stages[number]["probes"]
        stages[number]["probes"] = (own if _OWN in sets else {}) | (dict(more) if _MORE in sets else {})
    return cell | {"stages": stages}


def _given_back(headlines: Mapping[str, Any]) -> str:
    """What plain training takes and guided training gives back."""
    lines = ["| sequence | tasks | IP: how many | loss | gain | share | GP: how many | loss | gain |"]
    lines.append("| :-- | :-- | --: | --: | --: | --: | --: | --: | --: |")
    for sequence in next(iter(headlines.values())):
        for name, found in headlines.items():
            ip, gp = found[sequence]["ip"], found[sequence]["gp"]
            share = DASH if ip.get("share") is None else f"{ip['share']:.2f}"
            parts = [_given(ip), share, _given(gp)]
            lines.append(f"| {sequence} | {name} | {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


def _given(found: Mapping[str, Any]) -> str:
    """How many tasks count, what they lost, and what is gained on them."""
    return f"{found.get('tasks', 0)} | {_told(found, 'loss')} | {_told(found, 'gain', plus=True)}"


def _beside(headlines: Mapping[str, Any]) -> str:
    """Guided training minus each arm, and minus the front, a column a set of tasks."""
    lines = [f"| sequence | guided training minus | {' | '.join(f'IP, {name}' for name in headlines)} | GP, all |"]
    lines.append("| :-- | :-- |" + " --: |" * (len(headlines) + 1))
    for sequence in next(iter(headlines.values())):
        own = {name: found[sequence] for name, found in headlines.items()}
        for arm, columns in _rows(own):
            lines.append(f"| {sequence} | {arm} | {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def _levels(before: Mapping[str, Any], found: Sequence[tuple[Result, Mapping[str, Any]]]) -> str:
    """The means over all tasks asked about later, whatever the model before training can do of them."""
    arms: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for cell, after in found:
        arms[cell["cell"]["sequence"], f"{arm_name(*way(cell))}, lr {rate(cell)[0]:g}".replace("_", " ")].append(after)
    count = len(before)
    lines = [f"| sequence | arm | IP, all {count} more | GP, all {count} more | seeds |", "| :-- | :-- | --: | --: | --: |"]
    rows = [(DASH, "before training", [before], DASH), *((*arm, seeds, str(len(seeds))) for arm, seeds in arms.items())]
    for sequence, arm, seeds, run in rows:
        means = [fmean(fmean(hits[form]) for probes in seeds for hits in probes.values()) for form in ("in_context", "zero_shot")]
        lines.append(f"| {sequence} | {arm} | {means[0]:.2f} | {means[1]:.2f} | {run} |")
    return "\n".join(lines) + "\n"


def _rows(own: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    every = own["all"]
    for arm, found in every["beside"].items():
        kept = [_told(each["beside"][arm]["ip"], "gain", plus=True) for each in own.values()]
        yield arm.replace("_", " "), [*kept, _told(found["gp"], "gain", plus=True)]
    for name, called in FRONTS.items():
        if name in every["fronts"]:
            yield called, [*(_told(each["fronts"][name], "gap", plus=True) for each in own.values()), DASH]


def _above(headlines: Mapping[str, Any]) -> str:
    """Every other arm of which no front without anchors is made, above each front, over all tasks."""
    lines = [f"| sequence | arm, over all | {' | '.join(f'IP above {called}' for called in FRONTS.values())} |"]
    lines.append("| :-- | :-- |" + " --: |" * len(FRONTS))
    for sequence, found in headlines["all"].items():
        for arm, fronts in found["above"].items():
            gaps = [_told(fronts.get(name, {}), "gap", plus=True) for name in FRONTS]
            lines.append(f"| {sequence} | {arm.replace('_', ' ')} | {' | '.join(gaps)} |")
    return "\n".join(lines) + "\n"


def _told(found: Mapping[str, Any], what: str, *, plus: bool = False) -> str:
    return told(found.get(what), found.get(f"{what}_interval"), plus=plus)


def told(value: Any, interval: Any, *, plus: bool = False) -> str:
    """A number with its interval, a dash where it was not measured."""
    known = estimate(value, interval)
    return DASH if known is None else show_full(known, plus=plus)
