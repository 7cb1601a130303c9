"""A user's own task: one JSON object a line with `input` and `output`.

The first line may describe the task instead: `{"instruction": "...", "instructions": [...], "knowledge": ["... {input}"],
"options": [...]}`, every key but the instruction optional.
"""

from pathlib import Path
from typing import Any

from instruction_vectors.errors import DataError
from instruction_vectors.files import read_json_lines
from instruction_vectors.tasks.readers.rows import MAX_CHARACTERS
from instruction_vectors.tasks.task import Example, Task

_KEYS = ("instruction", "instructions", "knowledge", "options")


def read_task_file(path: Path, instruction: str | None = None) -> Task:
    """Read a task; `instruction` overrides the file's own.

    Raises:
        DataError: the file is missing, empty or malformed; the message names file and line.
    """
    header: dict[str, Any] = {}
    rows: list[Example] = []
    lines: dict[str, int] = {}
    for number, value in read_json_lines(path):
        if not rows and not header and "input" not in value and ("instruction" in value or "instructions" in value):
            header = _header(path, number, value)
            continue
        row = _row(path, number, value)
        if row.input in lines:
            raise DataError(f"{path}, line {number}: the input {row.input!r} is already in line {lines[row.input]}")
        lines[row.input] = number
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: no rows; expected one object with 'input' and 'output' a line")
    wordings = [instruction] if instruction else header.get("instructions", ())
    if not wordings:
        raise DataError(f'{path}: no instruction; begin the file with a line {{"instruction": "..."}}')
    options = [option.strip() for option in header.get("options", ())]
    if options:
        for row in rows:
            if row.output not in options:
                raise DataError(f"{path}, line {lines[row.input]}: the output {row.output!r} is not among the options")
    return Task(
        name=path.stem,
        instructions=tuple(wordings),
        rows=tuple(rows),
        knowledge=tuple(header.get("knowledge", ())),
        options=tuple(options) if options else None,
        kind="classify" if options else "generate",
        sources=(path.name,),
    )


def _header(path: Path, number: int, value: dict[str, Any]) -> dict[str, Any]:
    """The description of the task, every wording and option a text."""
    if unknown := [key for key in value if key not in _KEYS]:
        raise DataError(f"{path}, line {number}: unknown {', '.join(map(repr, unknown))}; known are {', '.join(_KEYS)}")
    header = {key: value[key] for key in ("instructions", "knowledge", "options") if value.get(key)}
    first, others = value.get("instruction"), header.get("instructions", [])
    if first and isinstance(others, list):
        header["instructions"] = [first, *(other for other in others if other != first)]
    for key, texts in header.items():
        if not isinstance(texts, list) or not all(_is_text(text) for text in texts):
            raise DataError(f"{path}, line {number}: {key!r} must be a list of texts, none of them empty")
        if (longest := max(map(len, texts))) > MAX_CHARACTERS:
            raise DataError(f"{path}, line {number}: a text of {key!r} has {longest:,} characters, taken for a mistake")
        if len(set(texts)) != len(texts):
            raise DataError(f"{path}, line {number}: {key!r} holds the same text twice")
    for cloze in header.get("knowledge", ()):
        if "{input}" not in cloze:
            raise DataError(f"{path}, line {number}: the knowledge form {cloze!r} lacks {{input}}")
    return header


def _is_text(value: Any) -> bool:
    # JSON can escape half of a character; such text can be neither written nor tokenised.
    return isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= c <= "\udfff" for c in value)


def _row(path: Path, number: int, value: dict[str, Any]) -> Example:
    for key in ("input", "output"):
        if key not in value:
            raise DataError(f"{path}, line {number}: no {key!r}")
        if not isinstance(value[key], str):
            raise DataError(f"{path}, line {number}: {key!r} must be text, got {type(value[key]).__name__}")
        if not value[key].strip():
            raise DataError(f"{path}, line {number}: {key!r} is empty")
        if len(value[key]) > MAX_CHARACTERS:
            raise DataError(f"{path}, line {number}: {key!r} has {len(value[key]):,} characters, taken for a mistake")
        if not _is_text(value[key]):
            raise DataError(f"{path}, line {number}: {key!r} holds half of a surrogate pair, which is no character")
    # Blanks around an answer are no part of it: a model would have to write them to be right.
    return Example(value["input"], value["output"].strip())
