"""LONG: fifteen classification tasks in O-LoRA's form, a folder a task with train.json, test.json and labels.json.

Razdaibiedina et al., *Progressive Prompts* (2301.12314), in the form, with the instructions and in the orders of Wang et
al., *O-LoRA* (2310.14152), Tables 7 and 8. A prompt reads: instruction, `Option: ` and the labels, the row, `Answer:`.
"""

from collections.abc import Sequence
from pathlib import Path

from instruction_vectors.errors import DataError
from instruction_vectors.tasks.benchmark import Benchmark, Sides, complete
from instruction_vectors.tasks.readers.rows import checked, chosen, folder_of, numbered, read_any, subfolders, text
from instruction_vectors.tasks.task import Example, Task

NAME = "long"

_CHOOSE = "Choose one from the option."
_SENTIMENT = f"What is the sentiment of the following paragraph? {_CHOOSE}"
_TOPIC = f"What is the topic of the following paragraph? {_CHOOSE}"
_INFERENCE = f'What is the logical relationship between the "sentence 1" and the "sentence 2"? {_CHOOSE}'

INSTRUCTIONS: dict[str, str] = {
    **dict.fromkeys(("yelp", "amazon", "imdb", "sst2"), _SENTIMENT),
    **dict.fromkeys(("agnews", "dbpedia", "yahoo"), _TOPIC),
    **dict.fromkeys(("mnli", "cb", "rte"), _INFERENCE),
    "qqp": f'Whether the "first sentence" and the "second sentence" have the same meaning? {_CHOOSE}',
    "boolq": f"According to the following passage, is the question true or false? {_CHOOSE}",
    "multirc": f"According to the following passage and question, is the candidate answer true or false? {_CHOOSE}",
    "wic": f"Given a word and two sentences, whether the word is used with the same sense in both sentence? {_CHOOSE}",
    "copa": f"Which sentence is the cause or the effect of the given one? {_CHOOSE}",
}
"""O-LoRA's wording, its grammar included; only copa's is ours, since its rows bring their question and O-LoRA has none."""

LAYOUT = "{instruction} \n{input}\nAnswer:"
COPA_LAYOUT = "{input}\nAnswer:"

_ORDERS = {
    "order_4": "mnli cb wic copa qqp boolq rte imdb yelp amazon sst2 dbpedia agnews multirc yahoo",
    "order_5": "multirc boolq wic mnli cb copa qqp rte imdb sst2 dbpedia agnews yelp amazon yahoo",
    "order_6": "yelp amazon mnli cb copa qqp rte imdb sst2 dbpedia agnews yahoo multirc boolq wic",
    "short": "mnli cb wic copa qqp sst2",
}
SEQUENCES = {name: tuple(order.split()) for name, order in _ORDERS.items()}
"""O-LoRA's orders 4, 5 and 6, and a short one for small machines."""


def read(data_dir: Path, *, tasks: Sequence[str] | None = None, seed: int = 0) -> Benchmark:
    """Read LONG; the split is the published one, so `seed` decides nothing.

    Raises:
        DataError: a file is missing or malformed, a gold label is not among labels.json, or a folder is no task of LONG.
    """
    folder = folder_of(data_dir, NAME)
    names = chosen(subfolders(folder), tasks, folder)
    if unknown := [name for name in names if name not in INSTRUCTIONS]:
        raise DataError(f"{folder}: {', '.join(unknown)}: no such task in LONG; it has {', '.join(sorted(INSTRUCTIONS))}")
    read = {name: _sides(folder / name) for name in names}
    missing = sorted(set(INSTRUCTIONS) - set(read)) if tasks is None else []
    notes = (f"not in {folder.name}/: {', '.join(missing)}",) if missing else ()
    return Benchmark(NAME, read, complete(SEQUENCES, read), notes)


def _sides(folder: Path) -> Sides:
    labels = _labels(folder / "labels.json")
    return Sides(train=_task(folder / "train.json", labels), test=_task(folder / "test.json", labels))


def _labels(path: Path) -> tuple[str, ...]:
    value = read_any(path)
    if not isinstance(value, list) or len(value) < 2:
        raise DataError(f"{path}: expected a list of at least two labels")
    labels = tuple(checked(f"{path}, label {number}", label, "the label") for number, label in enumerate(value, start=1))
    if len(set(labels)) != len(labels):
        raise DataError(f"{path}: the same label stands there twice")
    return labels


def _task(path: Path, labels: tuple[str, ...]) -> Task:
    rows = []
    for place, row in numbered(path, read_any(path)):
        label = text(place, row, "label")
        if label not in labels:
            raise DataError(f"{place}: the label {label!r} is not in labels.json ({', '.join(labels)})")
        rows.append(Example(text(place, row, "sentence"), label))
    name = path.parent.name
    return Task(
        name=name,
        instructions=(f"{INSTRUCTIONS[name]}\nOption: {', '.join(labels)}",),
        rows=tuple(rows),
        options=labels,
        kind="classify",
        sources=(f"LONG/{name}/{path.name}",),
        layout=COPA_LAYOUT if name == "copa" else LAYOUT,
        repeats=True,
    )
