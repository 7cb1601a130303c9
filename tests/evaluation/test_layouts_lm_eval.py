"""Our layouts of multiple-choice questions give the requests that lm-eval's own task files make of the same raw rows."""

import json
from pathlib import Path

import pytest

from instruction_vectors.evaluation.multiple_choice import LAYOUTS, Question

lm_eval = pytest.importorskip("lm_eval")
TASKS = Path(lm_eval.__file__).parent / "tasks"


def listed(*texts):
    return {"label": list("ABCDE"[: len(texts)]), "text": list(texts)}


RAW = {
    "hellaswag": [
        {
            "activity_label": "Home and Garden",
            "ctx_a": "[header] How to stuff  a bird [title] Preheat the oven. [step] Set it high.",
            "ctx_b": "then",
            "endings": ["[substeps] wait [title] Rest.", " Cube the  bread.", "[step] Go. [substeps] Run.", "eat"],
            "label": "1",
        },
        {"activity_label": "Surfing", "ctx_a": "A man waves.", "ctx_b": "", "endings": ["a", "b", "c", "d"], "label": "3"},
    ],
    "arc_easy": [
        {"question": "What melts? ", "choices": listed("ice", "iron", "sand", "air"), "answerKey": "A"},
        {"question": "Which {one}?", "choices": listed(" x ", "y", "z"), "answerKey": "C"},
    ],
    "openbookqa": [
        {"question_stem": "The sun is", "choices": listed("hot", "cold", "wet", "flat"), "answerKey": "A"},
        {"question_stem": "To save money, people", "choices": listed("spend", "save", "sing", "sleep"), "answerKey": "B"},
    ],
    "commonsense_qa": [
        {"question": " Where is a fox? ", "choices": listed("wood", "sea", "sky", "shop", "moon"), "answerKey": "A"},
        {"question": "Who sings?", "choices": listed("stone", "bird", "sand", "sea", "sky"), "answerKey": "B"},
    ],
    "mmlu": [
        {"question": " Find the degree of {x}. ", "choices": ["0", " 4", "2", "6"], "answer": 1},
        {"question": "Which bone?", "choices": ["a", "b", "c", "d"], "answer": 3},
    ],
}
"""Rows as the published data sets hold them, with the blanks and brackets that a layout could trip over."""
FILES = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "mmlu": "mmlu/default/mmlu_anatomy.yaml",
}


def question(name, row):
    """The row in the form of our files."""
    if name == "hellaswag":
        context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
        return Question(context, tuple(row["endings"]), int(row["label"]))
    if name == "mmlu":
        return Question(row["question"], tuple(row["choices"]), row["answer"])
    query = row.get("question") or row["question_stem"]
    return Question(query, tuple(row["choices"]["text"]), "ABCDE".index(row["answerKey"]))


@pytest.fixture(params=RAW)
def harness(request, tmp_path, monkeypatch):
    """lm-eval's task of that name from its own file, over our rows."""
    import datasets
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    name = request.param
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in RAW[name]))
    files = {split: str(tmp_path / "rows.jsonl") for split in ("train", "validation", "test", "dev")}
    over = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    over |= {"description": ""} if name == "mmlu" else {}  # it names a subject, which our files do not tell
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "local.yaml").write_text(json.dumps({"include": str(TASKS / FILES[name]), "task": name, **over}))
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    return name, manager.load([name])["tasks"][name]


def test_contexts_choices_and_right_answers_are_those_of_lm_eval(harness):
    name, task = harness
    task.build_all_requests(rank=0, world_size=1)
    theirs = [request.args for request in task.instances]
    ours = [
        (context, f" {choice}")
        for context, choices in (LAYOUTS[name](question(name, row)) for row in RAW[name])
        for choice in choices
    ]
    assert ours == theirs
    for row, doc in zip(RAW[name], task.eval_docs, strict=True):
        target = task.doc_to_target(doc)
        gold = question(name, row).gold
        assert target in (gold, str(gold), "ABCDE"[gold])
