"""Running a cell to its end, from wherever it was stopped."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.continual.anchoring import instructions_for
from instruction_vectors.continual.cell import Cell, told, vector_settings
from instruction_vectors.continual.course import Course
from instruction_vectors.continual.curriculum import Curriculum
from instruction_vectors.continual.guides import Vectors, guide_named
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.continual.method import Method
from instruction_vectors.continual.methods import method_named
from instruction_vectors.continual.preparation import Preparation, Stage, measure_stage
from instruction_vectors.continual.summary import summary
from instruction_vectors.environment import code_fingerprint, machine, peak_rss_mb, versions
from instruction_vectors.errors import DataError
from instruction_vectors.files import check_same, read_json, write_json
from instruction_vectors.models.adapters import has_adapters
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.loading import load, model_fingerprint
from instruction_vectors.progress import console
from instruction_vectors.training.anchors import anchor_rows
from instruction_vectors.vectors.choosing import check_count


@dataclass
class Runner:
    """Runs cells into a folder; the model is opened once and only when something is left to do.

    Attributes:
        out: the grid's folder; a cell's own is `out/cells/<name>`, what cells share is in `out/shared`.
        data_dir: where benchmarks are read from.
        keep_stages: leave what training left after every task (adapters) in a finished cell, not only after the last.
        lock_seconds: how long to wait for a cell's folder that another process holds, before refusing.
    """

    out: Path
    data_dir: Path | None = None
    keep_stages: bool = False
    lock_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._opened: tuple[tuple[str, str], nn.Module, PreTrainedTokenizerBase] | None = None

    def folder(self, cell: Cell) -> Path:
        """Where a cell is kept."""
        return self.out / "cells" / cell.name

    def run(self, cell: Cell) -> dict[str, Any]:
        """The cell's result: read if it is finished, else brought to its end; `result.json` and `run.json` are in its folder.

        A cell that was killed goes on from its last finished step and, on a CPU, ends with the same bytes of `result.json`.

        Raises:
            DataError: the folder holds this cell with other settings or other data, is held by another process or cannot
                be written; or its data are malformed.
        """
        curriculum = Curriculum.of(cell, self.data_dir)
        folder = self.folder(cell)
        config = {**cell.resolved(), "data": curriculum.fingerprints()}
        if (done := folder / "result.json").exists() and not (folder / "config.json").exists():  # as results are handed on
            before = read_json(done)
            check_same(folder, {**Cell.of(before["cell"]).resolved(), "data": before["data"]}, config)
        with Ledger(folder, config, wait=self.lock_seconds) as ledger:
            path = folder / "result.json"
            if not path.exists():
                started = time.time()
                result = self._result(cell, curriculum, ledger)
                write_json(folder / "run.json", _circumstances(ledger, started))
                write_json(path, result)
                # Adapters are needed to go on; a finished cell needs the last one only.
                if not self.keep_stages:
                    _drop_all_but_last(folder / "adapters")
            elif self.keep_stages and len(list((folder / "adapters").glob("*/*"))) < len(curriculum.lessons):
                console().print(f"{cell.name} was finished before, and what it left after earlier tasks is gone", markup=False)
            finished: dict[str, Any] = read_json(path)
            return finished

    def _result(self, cell: Cell, curriculum: Curriculum, ledger: Ledger) -> dict[str, Any]:
        code = code_fingerprint()  # as it was loaded: by the end its files may be others
        model, tokenizer = self._open(cell)
        method = method_named(cell.method)(cell.stage, cell.own_settings)
        names = [lesson.name for lesson in curriculum.lessons]
        with_vectors = cell.guide != "none" or method.anchors_steered
        _check(cell, curriculum, model, method, with_vectors=with_vectors)
        made = made_with(ledger, model)
        codes = {code, made.pop("code", code)}  # ledgers of before named it there alone
        with self._shared(curriculum) as shared:
            codes.add(made_with(shared, model).get("code", code))
            codes |= shared.codes()
            preparation = Preparation(shared, curriculum, model, tokenizer)
            stages: list[Stage] = [preparation.base_stage()]
            vectors = preparation.vectors() if with_vectors else {}
            anchored = curriculum.lessons if method.anchors_share else ()
            others = preparation.anchor_vectors(next(iter(vectors.values())).heads) if anchored and vectors else {}
            anchors = {lesson.name: preparation.anchors(lesson, method, others) for lesson in anchored}
        method.instructions = curriculum.instruction_rows(tokenizer)
        with Course(ledger, cell.method, model, method) as course:
            for number, lesson in enumerate(curriculum.lessons, start=1):
                method.anchors = anchor_rows(tokenizer, anchors.get(lesson.name, ()))
                guided = _guided(cell, names[:number], vectors, others)
                stages.append(self._stage(cell, curriculum, course, tokenizer, number, guided))
        return {
            "schema": 1,
            "cell": cell.resolved(),
            "name": cell.name,
            "method_settings": method.chosen(),
            "data": curriculum.fingerprints(),
            **made,
            # One, unless the code was changed between the cell's sittings or those in which what it shares was made.
            "code": code if len(codes := codes | ledger.codes()) == 1 else sorted(codes),
            "tasks": names,
            "cut": curriculum.cut(tokenizer),
            **summary(names, stages, seed=cell.seed),
            "stages": stages,
        }

    def _stage(
        self, cell: Cell, curriculum: Curriculum, course: Course, tokenizer: Any, number: int, guided: dict[str, Any]
    ) -> Stage:
        """Train on the lesson of that number and measure."""
        lesson = curriculum.lessons[number - 1]
        course.train(lesson.name, curriculum.training_rows(lesson, tokenizer), **guided)
        measured = curriculum.lessons[:number] if cell.triangle else curriculum.lessons
        label = f"{cell.name} after {lesson.name}"
        stage: Stage = course.measure("measure", lambda model: measure_stage(model, tokenizer, curriculum, measured, label))
        return stage

    def _shared(self, curriculum: Curriculum) -> Ledger:
        cell = curriculum.cell
        what = told(cell.name.partition("/")[0], vector_settings(cell.resolved()), "-")
        folder = self.out / "shared" / f"{what}-s{cell.seed}"
        return Ledger(folder, Preparation.config(curriculum), wait=math.inf)

    def _open(self, cell: Cell) -> tuple[nn.Module, PreTrainedTokenizerBase]:
        asked = (cell.model, cell.dtype)
        # An adapter is there if a cell broke off while it was put on.
        if self._opened is None or self._opened[0] != asked or has_adapters(self._opened[1]):
            self._opened = (asked, *load(cell.model, dtype=getattr(torch, cell.dtype)))
        return self._opened[1:]


def _check(cell: Cell, curriculum: Curriculum, model: nn.Module, method: Method, *, with_vectors: bool) -> None:
    """Refuse what cannot come to its end now, not after the hours that measuring and preparing may take.

    Raises:
        IVError: the method cannot train this model, the guide cannot guide this sequence, the model has too few heads, or no
            instruction is left for anchors.
    """
    method.check(model)
    guide_named(cell.guide).check([lesson.name for lesson in curriculum.lessons])
    if with_vectors:
        anatomy = anatomy_of(model)
        check_count(cell.heads, anatomy.n_layers, anatomy.n_heads)
    if method.anchors_share:
        instructions_for(cell, curriculum.lessons)


def made_with(ledger: Ledger, model: nn.Module) -> dict[str, Any]:
    """What computed the first of a ledger's steps; whoever goes on must be the same, or the parts would not fit together.

    The code is not asked, every step names its own: a change of a message must not end a grid.

    Raises:
        DataError: weights, a library's version, the number of threads or the device are others than when it was begun.
    """
    device = next(model.parameters()).device.type
    now = {
        "model_fingerprint": model_fingerprint(model),
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    begun: dict[str, Any] = ledger.step("made with", lambda: now)
    begun = {"device": device, **begun}  # not named in ledgers of before
    if changed := [name for name in now if begun.get(name) != now[name]]:
        raise DataError(f"{ledger.folder} was begun with another {', '.join(changed)}; go on as then, or choose another folder")
    return begun


def run_sequence(
    config: Cell | Mapping[str, Any], out: str | Path = "runs/bench", data_dir: str | Path | None = None
) -> dict[str, Any]:
    """One method through one sequence: trained, measured after every task, resumable.

    Args:
        config: a `Cell`, or its settings by name.
        out: where the cell's folder goes.
        data_dir: where the benchmark is read from; not needed for `shipped`.

    Returns:
        The content of `result.json`: matrix, AP, FP, Forget, BWT, FWT, and GP, IP, knowledge and instruction over the stages.

    Raises:
        IVError: unknown names, malformed data, or a folder that holds something else.
    """
    cell = config if isinstance(config, Cell) else Cell.of(config)
    return Runner(Path(out), Path(data_dir) if data_dir else None).run(cell)


def _guided(cell: Cell, learnt: Sequence[str], vectors: Vectors, others: Vectors) -> dict[str, Any]:
    """`vector` and `guidance` of training on the last task of `learnt`: every row is under the vector of its own instruction.

    Rows kept of an earlier task are under that task's, anchors under their instructions', each changed as the guide says;
    general instructions, which name no task, train plainly.
    """
    guide = guide_named(cell.guide)
    vector, guidance = guide(learnt[-1], vectors, cell.guidance)
    if vector is None:
        return {"vector": None, "guidance": guidance}
    tasks = {name: None if guide.anchors_only else guide(name, vectors, cell.guidance)[0] for name in learnt}
    anchored = {name: guide(name, others, cell.guidance)[0] for name in others}
    return {"vector": {"": None, **tasks, **anchored}, "guidance": guidance}


def _circumstances(ledger: Ledger, started: float) -> dict[str, Any]:
    """What a result does not depend on: times, host, memory."""
    seconds = ledger.seconds()
    return {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "last_sitting_seconds": round(time.time() - started, 1),
        "seconds": {"total": round(sum(seconds.values()), 1), **seconds},
        "peak_rss_mb": peak_rss_mb(),
        **machine(),
    }


def _drop_all_but_last(folder: Path) -> None:
    for method in folder.iterdir() if folder.is_dir() else ():
        for path in sorted((p for p in method.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))[:-1]:
            shutil.rmtree(path, ignore_errors=True)
