"""TRACE: eight tasks, a folder a task with train.json, eval.json and test.json of `{"prompt", "answer"}`.

Wang et al., *TRACE* (2310.06762). A prompt brings its own instruction and answer cue. Both are found as the lines that
all rows of a task share at their beginning and end, and kept in the task's layout: instruction and input are apart, and
`LayoutTemplate` puts the published prompt together again letter for letter. Scores are named as
in its Table 1, by the field's libraries: TRACE's own code splits ROUGE-L at blanks and keeps case, gives SARI the whole
prompt as its source, and reads the first character of a ScienceQA answer, which here has to be the whole first line.
"""

from collections.abc import Sequence
from pathlib import Path

from instruction_vectors.errors import DataError
from instruction_vectors.tasks.benchmark import Benchmark, Sides, complete
from instruction_vectors.tasks.readers.rows import chosen, folder_of, numbered, read_any, subfolders, text
from instruction_vectors.tasks.task import Example, Metric, Task

NAME = "trace"

METRICS: dict[str, Metric] = {
    "C-STANCE": "accuracy",
    "FOMC": "accuracy",
    "MeetingBank": "rouge_l",
    "Py150": "edit_similarity",
    "ScienceQA": "accuracy",
    "NumGLUE-cm": "accuracy",
    "NumGLUE-ds": "accuracy",
    "20Minuten": "sari",
}
OPTIONS = {"C-STANCE": ("A", "B", "C"), "FOMC": ("A", "B", "C")}
UNINSTRUCTED = {"Py150": "Write the next line of the Python program."}
"""Ours, for the task whose prompts hold no instruction; its layout leaves it out, as published."""

SEQUENCES = {
    "figure_3": ("C-STANCE", "FOMC", "MeetingBank", "Py150", "ScienceQA", "NumGLUE-cm"),
    "whole": tuple(METRICS),
}
"""`figure_3`: the six tasks of Figure 3 of Jiang et al. (2406.12227); `whole`: TRACE's own order."""

_SIDES = ("train", "eval", "test")
_Rows = list[tuple[str, str, str]]


def read(data_dir: Path, *, tasks: Sequence[str] | None = None, seed: int = 0) -> Benchmark:
    """Read TRACE from the folder of one size variant; the split is the published one, so `seed` decides nothing.

    Raises:
        DataError: a file is missing or malformed, or the folder holds several size variants: name one of them.
    """
    folder = _variant(folder_of(data_dir, NAME))
    names = chosen([name for name in METRICS if (folder / name).is_dir()], tasks, folder)
    read = {name: _sides(folder / name) for name in names}
    missing = sorted(set(METRICS) - set(read)) if tasks is None else []
    other = sorted(set(subfolders(folder)) - set(METRICS))
    notes = [f"not in {folder.name}/: {', '.join(missing)}"] if missing else []
    notes += [f"not read, no task of TRACE: {', '.join(other)}"] if other else []
    return Benchmark(NAME, read, complete(SEQUENCES, read), tuple(notes))


def _variant(folder: Path) -> Path:
    """The folder with the tasks in it: this one, or the only size variant below."""
    found = [folder / name for name in subfolders(folder) if any((folder / name / task).is_dir() for task in METRICS)]
    if any((folder / task).is_dir() for task in METRICS) or not found:
        return folder
    if len(found) > 1:
        raise DataError(f"{folder} holds several size variants; name one: {', '.join(str(path) for path in found)}")
    return found[0]


def _sides(folder: Path) -> Sides:
    rows = {side: _rows(folder / f"{side}.json") for side in _SIDES}
    instruction, layout = _shared([prompt for side in rows.values() for _, prompt, _ in side], folder.name)
    before, after = layout.replace("{instruction}", instruction).split("{input}")
    sides = {}
    for side, read in rows.items():
        kept: list[Example] = []
        notes: list[str] = []
        if layout == "{input}" and folder.name not in UNINSTRUCTED:
            notes.append("no instruction found in its prompts: they are kept whole")
        for place, prompt, answer in read:
            if folder.name in OPTIONS and answer not in OPTIONS[folder.name]:
                raise DataError(f"{place}: the answer {answer!r} is not among {', '.join(OPTIONS[folder.name])}")
            given = prompt[len(before) : len(prompt) - len(after)]
            if given.strip():
                kept.append(Example(given, answer))
            else:  # seen: a meeting without a word in it
                notes.append(f"{place.rpartition(', ')[2]} of {side}.json left out: its prompt holds no input")
        if not kept:
            raise DataError(f"{folder / side}.json: no prompt holds anything but what all prompts of the task share")
        sides[side] = Task(
            name=folder.name,
            instructions=(instruction,),
            rows=tuple(kept),
            options=OPTIONS.get(folder.name),
            kind="classify" if folder.name in OPTIONS else "generate",
            sources=(f"TRACE/{folder.parent.name}/{folder.name}/{side}.json",),
            layout=layout,
            metric=METRICS[folder.name],
            repeats=True,
            notes=tuple(notes),
        )
    return Sides(**sides)


def _rows(path: Path) -> _Rows:
    return [(place, text(place, row, "prompt"), text(place, row, "answer")) for place, row in numbered(path, read_any(path))]


def _shared(prompts: list[str], name: str) -> tuple[str, str]:
    """The instruction and the layout that all prompts of a task share, at least one line of each left for its input."""
    lines = [prompt.split("\n") for prompt in prompts]
    shortest = min(len(prompt) for prompt in lines)
    tail = _common([prompt[::-1][: max(shortest - 2, 0)] for prompt in lines])[:2][::-1]
    tail = tail if tail and tail[-1].strip() and not tail[0].strip() else tail[-1:]
    head = _common([prompt[: max(shortest - len(tail) - 1, 0)] for prompt in lines])
    if not head or not head[0].strip() or any("{" in line for line in (*head, *tail)):
        return UNINSTRUCTED.get(name, "Continue the text."), "{input}"
    return head[0], "\n".join(("{instruction}", *head[1:], "{input}", *tail))


def _common(starts: list[list[str]]) -> list[str]:
    """The lines that all lists have in common from their first on."""
    alike = [len(set(lines)) == 1 for lines in zip(*starts, strict=False)]
    return starts[0][: [*alike, False].index(False)]
