"""A finished cell's result, read: what it is a run of, and its scores row by row."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from instruction_vectors.continual.cell import arm
from instruction_vectors.continual.summary import counted
from instruction_vectors.errors import DataError
from instruction_vectors.files import read_json

Result = dict[str, Any]
"""A cell's `result.json`."""
Rate = tuple[float, int]
"""Learning rate and epochs."""


def read_result(path: Path, *parts: str) -> Result:
    """A cell's `result.json`.

    Raises:
        DataError: missing, no JSON, or not a cell's: it has no `cell`, or not all the parts asked for.
    """
    result = read_json(path)
    if not isinstance(result, dict) or not {"cell", *parts} <= result.keys():
        raise DataError(f"{path}: not a cell's result.json")
    return result


def course(result: Result) -> tuple[str, str, int]:
    """What two arms must share to be compared: benchmark, sequence and seed."""
    cell = result["cell"]
    return cell["benchmark"], cell["sequence"], cell["seed"]


def way(result: Result) -> tuple[str, str]:
    """Method and guide, each with the settings that are not as usual (`ewc strength=400`)."""
    return arm(result["cell"])


def rate(result: Result) -> Rate:
    """Learning rate and epochs."""
    return result["cell"]["stage"]["learning_rate"], result["cell"]["stage"]["epochs"]


def data(result: Result) -> dict[str, str]:
    """Fingerprints of what is trained on and measured; general instructions that a method mixes in are part of the method."""
    return {name: digest for name, digest in result["data"].items() if not name.endswith("/instructions")}


def stands_on(result: Result) -> tuple[dict[str, str], str | None]:
    """What two arms must share at a seed: `data`, and the model that they begin with."""
    return data(result), result.get("model_fingerprint")


def measured(result: Result) -> dict[str, str]:
    """Of `data` what is measured: the same at every seed of a grid, where the rows trained on are others."""
    return {name: digest for name, digest in data(result).items() if not name.endswith("/train")}


def alike(first: Iterable[Result], second: Iterable[Result]) -> list[tuple[Result, Result]]:
    """The pairs of two arms that can be compared: of one sequence and seed, on the same rows, from the same model.

    Of each sequence only those measured on the rows of its first pair, so that seeds stand on the same tasks and rows.
    """
    others = {course(result): result for result in second}
    pairs = [
        (result, others[course(result)])
        for result in sorted(first, key=course)
        if course(result) in others and stands_on(result) == stands_on(others[course(result)])
    ]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for result, _ in pairs:
        rows.setdefault(course(result)[:2], measured(result))
    return [pair for pair in pairs if measured(pair[0]) == rows[course(pair[0])[:2]]]


def counted_probes(result: Result, form: str) -> list[str]:
    """The probes that count for a form (see `summary.counted`)."""
    return counted(result["stages"][0], form)


def probes(result: Result, stage: int, form: str, names: Sequence[str]) -> list[list[float]]:
    """Scores of those probes' rows after a stage (0 is before training, -1 the end)."""
    return [result["stages"][stage]["probes"][name][form] for name in names]


def learnt(result: Result) -> list[list[float]]:
    """Scores of each task's rows right after it was learnt: their mean is AP."""
    return [result["stages"][number]["matrix"][name] for number, name in enumerate(result["tasks"], start=1)]


def kept(result: Result) -> list[list[float]]:
    """Scores of each task's rows at the end of the sequence: their mean is FP."""
    return [result["stages"][-1]["matrix"][name] for name in result["tasks"]]
