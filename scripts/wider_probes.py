"""Asks the kept models of finished cells about more tasks of FUNC, none of them trained on or among the instructions of anchors.

Row-by-row results go into a folder, a file a cell and `M0.json` of the model before training; each names the `result.json` of its
cell by its SHA-256, and what is there of the same one is not measured again. The cells of one call are asked about the same tasks,
so sequences that share few of them have folders of their own:

    OMP_NUM_THREADS=1 python scripts/wider_probes.py runs/func/cells/func-[AB]/* --data-dir DATA --out results/wider/A-B
    OMP_NUM_THREADS=1 python scripts/wider_probes.py runs/func/cells/func-C/* --data-dir DATA --out results/wider/C
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.continual.curriculum import plain_name
from instruction_vectors.continual.trained import as_trained
from instruction_vectors.environment import code_fingerprint, versions
from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.abilities import Form, Probe, measure
from instruction_vectors.files import read_json, sha256_of, write_atomic
from instruction_vectors.models.loading import load
from instruction_vectors.progress import track
from instruction_vectors.tasks import task_names
from instruction_vectors.tasks.benchmark import Benchmark
from instruction_vectors.tasks.benchmarks import load_benchmark

FORMS: tuple[Form, ...] = ("in_context", "zero_shot")


def main() -> None:
    """Measure the model before training and the last one of every cell given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, nargs="+", help="folders of finished cells")
    parser.add_argument("--data-dir", type=Path, required=True, help="where FUNC is read from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=25, help="rows a task")
    args = parser.parse_args()
    cells = named(args.cells)
    func = load_benchmark("func", args.data_dir)
    sequences = {read_json(folder / "result.json")["cell"]["sequence"] for folder in cells.values()}
    probes = untouched(func, [name for order in {*sequences, "tuning"} for name in func.sequences[order]], args.rows)
    data = fingerprints(probes)
    of = {"M0": None} | {name: sha256_of(folder / "result.json") for name, folder in cells.items()}
    left = [name for name in of if not answered(args.out / f"{name}.json", of[name], args.rows, data)]
    base, tokenizer = load()
    with track("Measuring", len(left), "model") as advance:
        for done, name in enumerate(left, start=1):
            with as_trained(base, cells[name]) if name in cells else nullcontext(base) as model:
                found = asked(model, tokenizer, probes)
            write_atomic(args.out / f"{name}.json", json.dumps({"cell": of[name], "rows": args.rows} | found) + "\n")
            advance(done)


def untouched(func: Benchmark, trained: Iterable[str], rows: int) -> list[Probe]:
    """FUNC's tasks that are not among those trained on and that no anchor asks about, nor for another number of choices."""
    # Nothing of these is trained on, so the larger side serves.
    taken = {plain_name(name) for name in (*task_names(), *trained)}
    return [Probe.of(sides.train, rows) for name, sides in sorted(func.tasks.items()) if plain_name(name) not in taken]


def fingerprints(probes: Sequence[Probe]) -> dict[str, str]:
    """SHA-256 of each probe's task."""
    return {probe.task.name: probe.task.fingerprint for probe in probes}


def named(folders: Sequence[Path]) -> dict[str, Path]:
    """Cells' folders by name.

    Raises:
        DataError: two runs of one cell.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        name = read_json(folder / "result.json")["name"]
        if name in found:
            raise DataError(f"{found[name]} and {folder} are runs of one cell; give the one whose result.json counts")
        found[name] = folder
    return found


def answered(path: Path, cell: str | None, rows: int, data: dict[str, str]) -> bool:
    """Whether a file holds the answers of that very run of a cell, to as many rows of these tasks."""
    return path.exists() and {"cell": cell, "rows": rows, "data": data}.items() <= read_json(path).items()


def asked(model: nn.Module, tokenizer: PreTrainedTokenizerBase, probes: list[Probe]) -> dict[str, Any]:
    """What the model writes to each probe's rows, right or not, and what it was measured with."""
    found = {probe.task.name: measure(model, tokenizer, probe, FORMS) for probe in probes}
    rows = {name: {form: [int(hit) for hit in hits] for form, hits in forms.items()} for name, forms in found.items()}
    made = {"code": code_fingerprint(), "versions": versions(), "threads": torch.get_num_threads()}
    return {**made, "data": fingerprints(probes), "probes": rows}


if __name__ == "__main__":
    main()
