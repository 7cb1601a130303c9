"""A diagnosis as tables: pandas data frames, and parquet files of them (CSV where pyarrow is missing)."""

from pathlib import Path
from typing import Any

from instruction_vectors.analysis.result import Diagnosis
from instruction_vectors.errors import IVError, install_extra
from instruction_vectors.evaluation.abilities import FORMS
from instruction_vectors.evaluation.knowledge import Estimate

TABLES = ("verdicts", "changes", "repairs", "grid", "where", "effects", "stages", "lm_eval")


def frames(diagnosis: Diagnosis) -> dict[str, Any]:
    """Tables (`pandas.DataFrame`) by name: `verdicts`, `changes` (a row a task and form), `repairs`, `grid`, `where`, `effects`;
    `stages` and `lm_eval` where such were measured.

    Raises:
        IVError: pandas is not installed.
    """
    pandas = table_library()
    return {name: pandas.DataFrame(rows) for name, rows in _rows(diagnosis).items()}


def table_library() -> Any:
    """pandas.

    Raises:
        IVError: it is not installed.
    """
    try:
        import pandas  # type: ignore[import-untyped]
    except ImportError as error:
        raise IVError(f"data frames need the data extra; run {install_extra('data')}") from error
    return pandas


def write_frames(diagnosis: Diagnosis, folder: Path) -> list[Path]:
    """Write every table into `folder`, as parquet where pyarrow is installed, else as CSV; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, frame in frames(diagnosis).items():
        path = folder / f"{name}.parquet"
        try:
            frame.to_parquet(path, index=False)
        except ImportError:
            path = path.with_suffix(".csv")
            frame.to_csv(path, index=False)
        written.append(path)
    return written


def _rows(diagnosis: Diagnosis) -> dict[str, list[dict[str, Any]]]:
    tasks = diagnosis.tasks.items()
    effects = zip(diagnosis.effects["before"], diagnosis.effects["after"], strict=True)
    tables = {
        "verdicts": [
            {"task": n, "verdict": t.verdict.name, "reason": t.verdict.reason, "by": ", ".join(t.verdict.by),
             "written": t.written.name}
            for n, t in tasks
        ],
        "changes": [
            {"task": n, "form": form, **_flat("base", c.base), **_flat("tuned", c.tuned), **_flat("drop", c.drop),
             "bound": c.bound, "smallest": c.smallest, "floor": c.floor, "worse": c.worse}
            for n, t in tasks for form, c in t.changes.items()
        ],
        "repairs": [
            {"task": n, "repair": r.name, "evidence": r.evidence, **_flat("accuracy", r.accuracy), **_flat("gain", r.gain),
             **_flat("share", r.share), "of_base": r.of_base, **_flat("beyond", r.beyond),
             "beats_controls": r.beats_controls if r.required else None}
            for n, t in tasks for r in (*t.rungs, *t.written_rungs)
        ],
        "grid": [
            {"task": n, "model": model, "condition": condition, "score": score}
            for n, t in tasks for model, row in t.grid.items() for condition, score in row.items()
        ],
        "where": [
            {"task": n, "cosine": t.trace.cosine, "effect_before": t.trace.effect_before, "effect_after": t.trace.effect_after,
             "last_layer": t.trace.last_layer}
            for n, t in tasks
        ],
        "effects": [
            {"layer": layer, "head": head, "before": b, "after": a, "difference": a - b}
            for layer, (before, after) in enumerate(effects) for head, (b, a) in enumerate(zip(before, after, strict=True))
        ],
        "lm_eval": [
            {"task": name, **_flat("base", c.base), **_flat("tuned", c.tuned), **_flat("drop", c.drop), "bound": c.bound,
             "smallest": c.smallest, "worse": c.worse}
            for name, c in diagnosis.lm_eval.items()
        ],
        "stages": [
            {"stage": s.stage, "task": s.task, "trained": s.trained, "cosine": s.cosine,
             **{key: value for form in FORMS for key, value in _flat(form, s.forms.get(form)).items()}}
            for s in diagnosis.stages
        ],
    }  # fmt: skip
    return {name: rows for name, rows in tables.items() if rows or name not in ("lm_eval", "stages")}


def _flat(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    low, high = estimate.interval if estimate else (None, None)
    return {name: estimate.value if estimate else None, f"{name}_low": low, f"{name}_high": high}
