"""Two lm-eval tasks in local files that tiny models can read, one ranked, one written out."""

import json

import tiny

ROWS = [
    {"question": tiny.text(3, 7, 12, 9), "options": [tiny.text(4), tiny.text(5, 6), tiny.text(5, 7, 8)], "answer": 1},
    {"question": tiny.text(3, 7, 12), "options": [tiny.text(10, 4), tiny.text(9), tiny.text(11)], "answer": 0},
    {"question": tiny.text(20, 21), "options": [tiny.text(1), tiny.text(2), tiny.text(3)], "answer": 2},
]
COMMON = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
CHOICE = """
task: tiny_choice
output_type: multiple_choice
doc_to_choice: "{{options}}"
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
WRITTEN = """
task: tiny_written
output_type: generate_until
doc_to_target: "{{options[0]}}"
generation_kwargs: {until: ["w7"], max_gen_toks: 5, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
TASKS = ["tiny_choice", "tiny_written"]


def write(folder):
    """Write both tasks and their rows; returns the folder of their YAMLs, whose parent holds `rows.jsonl`."""
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tasks = folder / "tasks"
    tasks.mkdir()
    for name, special in (("choice", CHOICE), ("written", WRITTEN)):
        (tasks / f"{name}.yaml").write_text(special + COMMON.format(data=data))
    return tasks
