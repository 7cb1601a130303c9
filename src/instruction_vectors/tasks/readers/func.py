"""FUNC: the tasks of Todd et al., *Function Vectors* (2310.15213), one JSON list of `{"input", "output"}` a task.

The instructions and clozes in `func.yaml` are ours; the data has none, nor a split: we draw one by seed. Inputs that stand
there twice are merged, so that no query is on two sides; a further output becomes a further right answer.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from instruction_vectors.errors import DataError
from instruction_vectors.tasks.benchmark import Benchmark, complete
from instruction_vectors.tasks.readers.rows import chosen, folder_of, merged, numbered, read_any, text
from instruction_vectors.tasks.readers.split import seeded
from instruction_vectors.tasks.task import Example, Task

NAME = "func"

SEQUENCES = {
    "A": ("english-spanish", "person-occupation", "product-company", "landmark-country", "synonym"),
    "B": ("verb_v_adjective_3", "sentiment", "choose_last_of_5", "person-instrument", "object_v_concept_3"),
    "C": ("conll2003_location", "conll2003_person", "adjective_v_verb_5", "color_v_animal_3", "concept_v_object_5"),
    "tuning": ("english-french", "park-country", "alphabetically_last_5", "antonym", "word_length"),
}
"""Ours: `A` writes its answer freely, `B` chooses it from the input or a label set; `tuning` shares no task with either and is
what settings are chosen on. None has a task whose rows stand in another benchmark's test (ag_news, commonsense_qa).

`C` was drawn, not chosen, when all that was known was known of A, B and `tuning`: `random.Random(0).sample` of five, in the
order it gives, out of every task (in alphabetical order) with 200 test rows that is in none of these three and not shipped, nor
is it for another number of choices, of two such numbers the larger."""

_COUNTS = {"3": "three", "5": "five"}


def read(data_dir: Path, *, tasks: Sequence[str] | None = None, seed: int = 0) -> Benchmark:
    """Read every task in `abstractive/` and `extractive/`.

    Raises:
        DataError: a file is malformed, we have no wording for it, or two files have one name.
    """
    folder = folder_of(data_dir, NAME)
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*tractive/*.json")):
        if path.stem in files:
            raise DataError(f"{path}: {files[path.stem]} has the same name")
        files[path.stem] = path
    names = chosen(sorted(files), tasks, folder)
    read = {name: seeded(_task(files[name]), seed, files[name]) for name in names}
    return Benchmark(NAME, read, complete(SEQUENCES, read))


def _task(path: Path) -> Task:
    words = wording(path.stem, path)
    options = tuple(words["options"]) if "options" in words else None
    rows = []
    for place, row in numbered(path, read_any(path)):
        example = Example(text(place, row, "input"), text(place, row, "output"))
        if options is not None and example.output not in options:
            raise DataError(f"{place}: the output {example.output!r} is not among the labels: {', '.join(options)}")
        rows.append(example)
    kept, notes = merged(rows)
    return Task(
        name=path.stem,
        instructions=tuple(words["instructions"]),
        rows=kept,
        knowledge=tuple(words.get("knowledge", ())),
        options=options,
        kind="classify" if options else words.get("kind", "generate"),
        sources=(f"function_vectors/{path.parent.name}/{path.name}",),
        notes=notes,
    )


def wording(name: str, path: Path) -> dict[str, Any]:
    """Instructions, clozes, labels and kind of a task; `choose_first_of_3` and `_5` share one entry and a `{count}`.

    Raises:
        DataError: there is none.
    """
    base, count = (match[1], match[2]) if (match := re.fullmatch(r"(.+)_([35])", name)) else (name, "")
    words = _wordings().get(name) or _wordings().get(base)
    if words is None:
        raise DataError(f"{path}: no instruction for a task of this name; read it as your own (see readers/table.py)")
    return words | {"instructions": [c.replace("{count}", _COUNTS.get(count, count)) for c in words["instructions"]]}


@cache
def _wordings() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
