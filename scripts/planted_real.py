"""A few planted truths on the real model: LoRA adapters trained into a known state of one shipped task.

- untouched: it learns a new task while the old ones are rehearsed in every form;
- suppressed: asked under the instruction it learns a wrong option, while few-shot prompts and clozes are rehearsed.

Run by `python scripts/planted.py --real`.
"""

import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import PeftModel

from instruction_vectors import load, load_task
from instruction_vectors.analysis.conditions import Condition, ask
from instruction_vectors.analysis.diagnosis import diagnose
from instruction_vectors.analysis.plan import Plan, Subject
from instruction_vectors.continual.stage import StageConfig, add_adapter, train_stage
from instruction_vectors.evaluation.abilities import measure
from instruction_vectors.tasks.prompts import Prompt, cloze, draw_shots, instructed
from instruction_vectors.tasks.task import Example, Task
from instruction_vectors.training.collator import rows_of

ROWS, STEPS = 32, 60
PLAN = Plan(
    rows=24, validation_rows=2, shots=2, heads=10, mean_prompts=4, effect_prompts=2, scales=(1.5,), dials=(0.5,), repeats=0
)
STAGE = StageConfig(epochs=1, learning_rate=2e-3, rank=16, lora_alpha=32)
TARGETS = ("singular-plural", "country-capital", "present-past")
"""Tasks that the base does well in the instruction form; each is planted in turn, the next is its control."""
NEW = "english-french"


def known(name: str) -> Task:
    """The first rows of a shipped task, few enough to be learnt by heart."""
    task = load_task(name)
    return replace(task, rows=task.rows[:ROWS])


def lesson(state: str, target: Task, generator: random.Random) -> list[Prompt]:
    """What plants a state: prompts with the answers taught, half of them what is new, half rehearsal."""
    half = STEPS * STAGE.batch_size // 2
    if state == "untouched":
        new = load_task(NEW)
        taught = [instructed(new, row) for row in generator.sample(new.rows, half)]
        rehearsed = [_rehearsal(target, k, generator) for k in range(half)]
    else:
        wrong = {row: _wrong(target, row, generator) for row in target.rows}
        taught = [instructed(target, wrong[target.rows[k % ROWS]]) for k in range(half)]
        rehearsed = [_rehearsal(target, 1 + k % 2, generator) for k in range(half)]
    prompts = taught + rehearsed
    generator.shuffle(prompts)
    return prompts


def _rehearsal(task: Task, form: int, generator: random.Random) -> Prompt:
    row = generator.choice(task.rows)
    if form % 3 == 0:
        return instructed(task, row)
    if form % 3 == 1:
        return instructed(task, row, shots=draw_shots(task, PLAN.shots, exclude=row, seed=generator.random().hex()))
    return cloze(task, row)


def _wrong(task: Task, row: Example, generator: random.Random) -> Example:
    return replace(row, output=generator.choice([option for option in task.choices(row) if option != row.output]))


def real_case(state: str, seed: int) -> dict[str, Any]:
    """Plant one state in the real model, diagnose it, and say what came out."""
    model, tokenizer = load()
    generator = random.Random(f"real/{seed}/{state}")
    target, other = (known(TARGETS[(seed + k) % len(TARGETS)]) for k in (0, 1))
    start = time.monotonic()
    adapted = add_adapter(model, replace(STAGE, seed=seed))
    rows = rows_of(tokenizer, lesson(state, target, generator))
    with tempfile.TemporaryDirectory() as folder:
        train_stage(adapted, rows, replace(STAGE, seed=seed), folder=Path(folder))
    trained = time.monotonic()
    reached = forms_of(adapted, tokenizer, target)
    planted = state == "untouched" or (reached["instruction"] < 0.2 and max(reached["few-shot"], reached["knowledge"]) > 0.6)
    found: dict[str, Any] = {"seed": seed, "state": state, "task": target.name, "planted": planted, "reached": reached}
    if planted:
        result = diagnose(None, adapted, [target, other], tokenizer=tokenizer, plan=PLAN)
        task = result.tasks[target.name]
        found |= {"verdict": task.verdict.name, "by": list(task.verdict.by), "reason": task.verdict.reason}
        found["drop"] = [task.changes["instruction"].drop.value, *task.changes["instruction"].drop.interval]
        found["shares"] = {r.name: [r.share.value, *r.share.interval] if r.share else None for r in task.rungs}
        found["other"] = [other.name, result.tasks[other.name].verdict.name]
    seconds = [round(trained - start, 1), round(time.monotonic() - trained, 1)]
    print(f"{state} {target.name}: {found.get('verdict', 'not planted')}, seconds {seconds}")
    return found


def forms_of(model: PeftModel, tokenizer: Any, task: Task) -> dict[str, float]:
    """What training reached on the rows the diagnosis will measure: three forms ranked, 0 at chance."""
    subject = Subject.of(task, PLAN)
    shown = {"few-shot": Condition("few-shot", shots=subject.probe.shot_sets())}
    rows = measure(model, tokenizer, subject.probe, ("instruction", "knowledge")) | ask(model, tokenizer, subject, shown)
    return {str(name): round(sum(values) / len(values), 3) for name, values in rows.items()}
