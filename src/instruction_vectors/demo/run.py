"""The demo: load, extract, steer, train two ways, measure, report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.continual.runner import made_with
from instruction_vectors.demo.config import DemoConfig
from instruction_vectors.demo.forgetting import ForgettingPhase
from instruction_vectors.demo.vectors import VectorPhase
from instruction_vectors.environment import machine, peak_rss_mb
from instruction_vectors.evaluation.statistics import bootstrap_interval
from instruction_vectors.files import read_json, write_json
from instruction_vectors.models.loading import load
from instruction_vectors.progress import console, track
from instruction_vectors.tasks.prompts import ChatTemplate
from instruction_vectors.tasks.task import check_disjoint

_LAST = "hypothesis"
"""What stands in the results once the demo is finished."""
WHY = (
    "The learning rate, {rate:g}, is the higher of two that the method's authors likely used (1e-3 on LONG, 1e-4 on TRACE and "
    "FUNC); {epochs} epochs, the batch of {batch} and the number of rows are chosen to fit a quarter of an hour. How much is "
    "forgotten hangs on all of them, and a gentler training forgets less, guided or not. This demo shows one point of that "
    "front, not the front."
)


def run_demo(config: DemoConfig, folder: Path) -> dict[str, Any]:
    """Run the demo, or go on with it; writes `results.json` and `report.html` into `folder` and returns the results.

    Of a finished demo only the report is made again.

    Raises:
        DataError: the folder holds a demo with other settings, or an unfinished one begun by other versions, threads or weights.
    """
    with Ledger(folder, config.resolved()) as ledger:
        path = folder / "results.json"
        if path.exists() and _LAST in (results := read_json(path)):
            _report(results, folder)
            return dict(results)
        return _run(config, ledger)


def _run(config: DemoConfig, ledger: Ledger) -> dict[str, Any]:
    out = console()
    with track(f"Opening {config.model} (de-quantised once, on first use)", 1, "model"):
        model, tokenizer = load(config.model)
    made = made_with(ledger, model)
    first = VectorPhase(config, ledger, model, tokenizer)
    for name, split in first.splits.items():
        check_disjoint(name, {"test": split.test.rows, "validation": split.validation.rows, "train": split.train.rows})
    effects = first.extract()
    out.print("causal heads (layer, head): " + ", ".join(f"({t['layer']}, {t['head']})" for t in effects["top"]), markup=False)
    vectors = first.make_vectors()
    first.choose_scale()
    results: dict[str, Any] = {
        "schema": 1,
        "title": "Instruction vectors: the demo",
        "config": _config(config, first.intervention.scale),
        "environment": environment(config.model, made),
        "effects": effects,
        "steering": first.steer(),
        "steering_chat": first.steer(ChatTemplate(tokenizer)),
    }
    results["summary"] = steering_summary(results["steering"], config.seed)
    _finish(results, ledger)
    second = ForgettingPhase(config, ledger, model, tokenizer, first.splits, vectors, first.intervention)
    results["forgetting"], results[_LAST] = second.run()
    _finish(results, ledger)
    return results


def steering_summary(table: dict[str, Any], seed: int) -> dict[str, Any]:
    """Mean gains over tasks, with intervals over tasks."""

    def gain(condition: str, exact: bool = False) -> list[float]:
        parts = [entry["exact"] if exact else entry for entry in table.values()]
        differences = [[part[condition] - part["x+c"]] for part in parts]
        low, high = bootstrap_interval(differences, seed=seed)
        return [sum(d[0] for d in differences) / len(differences), low, high]

    return {
        "gain of x+c+iv over x+c, first token": gain("x+c+iv"),
        "gain of x+c+iv over x+c, exact match": gain("x+c+iv", exact=True),
        "gain of another task's vector, first token": gain("x+c+other_iv"),
        "gain of a random vector, first token": gain("x+c+random"),
        "tasks that improve": sum(entry["x+c+iv"] > entry["x+c"] for entry in table.values()),
        "tasks": len(table),
    }


def environment(model: str, made: Mapping[str, Any]) -> dict[str, Any]:
    """Where the numbers come from: `made` is what `made_with` says of the first sitting, and so of all."""
    return {**machine(), **made["versions"], "model": model, "model_fingerprint": made["model_fingerprint"]}


def _config(config: DemoConfig, scale: float) -> dict[str, Any]:
    resolved = config.resolved()
    return resolved | {
        "epochs": config.stage.epochs,
        "learning_rate": config.stage.learning_rate,
        "scale": scale,
        "why": WHY.format(epochs=config.stage.epochs, rate=config.stage.learning_rate, batch=config.stage.batch_size),
    }


def _finish(results: dict[str, Any], ledger: Ledger) -> None:
    """Write what there is; an unfinished run has a report too."""
    results["environment"]["code"] = ", ".join(sorted(ledger.codes()))
    seconds = ledger.seconds()
    results["seconds"] = {"total": round(sum(seconds.values()), 1), **seconds}
    path = ledger.folder / "results.json"
    # The peak of a run that was stopped and went on is the highest of its parts.
    before = read_json(path).get("peak_rss_mb", 0) if path.exists() else 0
    results["peak_rss_mb"] = max(before, peak_rss_mb())
    write_json(path, results)
    _report(results, ledger.folder)


def _report(results: dict[str, Any], folder: Path) -> None:
    from instruction_vectors.reporting import write_report

    write_report(results, folder / "report.html")


__all__ = ["environment", "run_demo", "steering_summary"]
