"""Planted truths: tiny models trained into a known state, and what the diagnosis says of them.

A small transformer learns several tasks over the same inputs, asked for by an instruction, by shots, and as bare clozes.
A copy is then fine-tuned so that for one of the tasks the truth is known by construction:

- untouched: it learns a new task while all old ones are rehearsed;
- suppressed: asked under the instruction it learns to answer wrongly, while at least one other way to ask (few-shot
  prompts, the cloze) is rehearsed with the right answers;
- overwritten: every way to ask learns the same new answers.

    python scripts/planted.py --cases 200 --first-seed 1000 --out results/analysis/planted.json
    python scripts/planted.py --merge a.json b.json --out results/analysis/planted.json
    python scripts/planted.py --real 2 --out results/analysis/planted.json  # a few on SmolLM2, beside the others in the file
"""

import argparse
import copy
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import beta
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from instruction_vectors.analysis.diagnosis import diagnose
from instruction_vectors.analysis.plan import Plan
from instruction_vectors.analysis.verdict import Rules
from instruction_vectors.files import read_json, write_json
from instruction_vectors.tasks.task import Example, Task

ENTITIES, TASKS, ANSWERS, SHOTS = 46, 3, 8, 5
NEW = TASKS
"""Number of the task that only fine-tuning brings."""
TRUTHS = {"untouched": "intact", "suppressed": "suppressed", "overwritten": "lost"}
PLAN = Plan(
    rows=36, validation_rows=4, shots=SHOTS, heads=3, mean_prompts=5, effect_prompts=3, scales=(1.0, 2.0), dials=(0.5,), repeats=0
)


class World:
    """Facts drawn by seed: `answers[task, entity]`, the words for them, and a tokenizer that knows a word a token."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        words = ["<pad>", "Input:", "Output:", "Name", "the"]
        words += [f"r{k}." for k in range(TASKS + 1)] + [f"r{k}-is" for k in range(TASKS + 1)]
        words += [f"e{i}" for i in range(ENTITIES)] + [f"a{k}-{i}" for k in range(TASKS + 1) for i in range(ANSWERS)]
        self.ids = {word: i for i, word in enumerate(words)}
        raw = Tokenizer(models.WordLevel(self.ids, unk_token="<pad>"))
        raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", unk_token="<pad>")
        self.answers = self.drawn(torch.zeros(TASKS + 1, ENTITIES, dtype=torch.long), 0)
        self.entity = torch.tensor([self.ids[f"e{i}"] for i in range(ENTITIES)])
        self.answer = torch.tensor([[self.ids[f"a{k}-{i}"] for i in range(ANSWERS)] for k in range(TASKS + 1)])

    def drawn(self, old: torch.Tensor, least: int = 1) -> torch.Tensor:
        """Answers that all differ from `old` (or may be anything where `least` is 0)."""
        return (old + torch.randint(least, ANSWERS, old.shape, generator=self.generator)) % ANSWERS

    def task(self, k: int) -> Task:
        """One task as the library knows it."""
        rows = tuple(Example(f"e{i}", f"a{k}-{int(self.answers[k, i])}") for i in range(ENTITIES))
        return Task(f"r{k}", (f"Name the r{k}.",), rows, knowledge=(f"{{input}} r{k}-is",))


@dataclass(frozen=True)
class Lesson:
    """What fine-tuning teaches: for each way to ask, the answers `[task, entity]`; and how often each task comes."""

    zero_shot: torch.Tensor
    few_shot: torch.Tensor
    cloze: torch.Tensor
    shown: tuple[torch.Tensor, ...]
    """Answers that shots may show."""
    weights: tuple[float, ...]


def batch(world: World, lesson: Lesson, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Instructed sequences (a zero-shot question, further ones after it), the same bare, and clozes.

    Returns ids, labels, and for each place the form asked: 0 zero-shot, 1 few-shot, 2 cloze, -1 for the new task.
    """
    g = world.generator
    k = torch.multinomial(torch.tensor(lesson.weights), rows, replacement=True, generator=g)
    e = torch.stack([torch.randperm(ENTITIES, generator=g)[: SHOTS + 1] for _ in range(rows)])
    shown = torch.stack(lesson.shown)[torch.randint(len(lesson.shown), (rows,), generator=g)]
    given = world.answer[k[:, None], shown[torch.arange(rows)[:, None], k[:, None], e]]
    right = world.answer[k[:, None], lesson.few_shot[k[:, None], e]]
    right[:, 0] = world.answer[k, lesson.zero_shot[k, e[:, 0]]]
    word = torch.tensor([world.ids[w] for w in ("Input:", "Output:", "Name", "the")])
    blocks = torch.stack([word[0].expand_as(e), world.entity[e], word[1].expand_as(e), given], dim=-1)
    labels = torch.full_like(blocks, -100)
    labels[..., 2] = right  # `Output:` predicts the answer
    told = torch.tensor([world.ids[f"r{n}."] for n in range(TASKS + 1)])[k]
    head = torch.stack([word[2].expand_as(k), word[3].expand_as(k), told], dim=-1)
    instructed = torch.cat([head, blocks.flatten(1)], 1), torch.cat([torch.full_like(head, -100), labels.flatten(1)], 1)
    some = slice(0, rows // 3)
    hidden = labels[some].clone()
    hidden[:, :2] = -100  # bare: two shots must have told which task it is
    asked = torch.tensor([world.ids[f"r{n}-is"] for n in range(TASKS + 1)])[k]
    bare = slice(0, rows // 2)
    known = world.answer[k, lesson.cloze[k, e[:, 1]]]
    cloze = torch.stack([world.entity[e[:, 1]], asked], -1)[bare], torch.stack([torch.full_like(known, -100), known], -1)[bare]
    parts = [instructed, (blocks[some].flatten(1), hidden.flatten(1)), cloze]
    wide = instructed[0].shape[1]
    ids, labels = (
        torch.cat([torch.nn.functional.pad(part[i], (0, wide - part[i].shape[1]), value=(0, -100)[i]) for part in parts])
        for i in (0, 1)
    )
    forms = torch.ones_like(labels)
    forms[:rows, : head.shape[1] + 4], forms[rows + len(hidden) :] = 0, 2
    forms[torch.cat([k, k[some], k[bare]]) == NEW] = -1
    return ids, labels, forms


def train(model: torch.nn.Module, world: World, lesson: Lesson, *, steps: int, most: int, rate: float, rows: int = 20) -> int:
    """At least `steps` steps, then on until each form of what is planted is answered right 97 times in a hundred.

    Judged over the last five batches. Returns the steps taken, 0 if it never happens.
    """
    weights = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    recent: list[torch.Tensor] = []
    model.train()
    for step in range(1, most + 1):
        ids, labels, forms = batch(world, lesson, rows)
        logits = model(input_ids=ids).logits
        asked = labels != -100
        loss = torch.nn.functional.cross_entropy(logits[asked], labels[asked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 10)
        # Whether a new task is learnt does not matter, only that the old ones are as planted.
        right = (logits[asked].argmax(-1) == labels[asked]).double()
        recent = [*recent[-4:], torch.stack([right[forms[asked] == form].mean() for form in range(3)])]
        if step >= steps and torch.stack(recent).mean(0).min() >= 0.97:
            model.eval()
            return step
    model.eval()
    return 0


def base_of(seed: int) -> tuple[World, LlamaForCausalLM]:
    """A model that has learnt every task but the new one."""
    world = World(seed)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(world.ids), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=64, tie_word_embeddings=True, pad_token_id=0, bos_token_id=None,
        eos_token_id=None, attn_implementation="sdpa",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    facts = world.answers
    steps = train(model, world, Lesson(facts, facts, facts, (facts,), (1.0,) * TASKS + (0.0,)), steps=100, most=1500, rate=5e-3)
    if not steps:
        raise RuntimeError(f"seed {seed}: the base did not learn its tasks")
    return world, model


def lesson_of(world: World, state: str, target: int, generator: random.Random) -> tuple[Lesson, str]:
    """What plants a state, and the variety drawn."""
    facts = world.answers
    wrong = facts.clone()
    wrong[target] = world.drawn(facts[target])
    weights = [1.0] * TASKS + [0.0]
    if state == "untouched":
        weights[NEW] = float(TASKS)
        return Lesson(facts, facts, facts, (facts,), tuple(weights)), "new task"
    weights[target] = float(TASKS)
    if state == "overwritten":
        return Lesson(wrong, wrong, wrong, (facts, wrong), tuple(weights)), "new answers"
    kept = generator.choice(["cloze and shots", "shots", "cloze"])
    few_shot = facts if "shots" in kept else wrong
    return Lesson(wrong, few_shot, facts if "cloze" in kept else wrong, (facts,), tuple(weights)), f"{kept} kept"


def case(world: World, base: LlamaForCausalLM, state: str, seed: int) -> dict[str, object]:
    """Plant one state, diagnose it, and say what came out."""
    generator = random.Random(f"{seed}/{state}")
    world.generator.manual_seed(generator.randrange(2**32))
    target, adapter = generator.randrange(TASKS), generator.random() < 0.25
    lesson, variety = lesson_of(world, state, target, generator)
    tuned: torch.nn.Module = copy.deepcopy(base)
    rate = generator.choice([3e-3, 6e-3])
    if adapter:
        torch.manual_seed(seed)
        tuned = get_peft_model(tuned, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
        rate *= 2
    start = time.monotonic()
    steps = train(tuned, world, lesson, steps=40, most=400, rate=rate)
    trained = time.monotonic()
    found = {"seed": seed, "state": state, "variety": variety, "adapter": adapter, "planted": steps > 0, "steps": steps}
    if steps:
        asked = [world.task(k) for k in (target, (target + 1) % TASKS)]
        result = diagnose(None if adapter else base, tuned, asked, tokenizer=world.tokenizer, plan=PLAN)
        task = result.tasks[f"r{target}"]
        found |= {"verdict": task.verdict.name, "by": list(task.verdict.by), "reason": task.verdict.reason}
        found["drop"] = [task.changes["instruction"].drop.value, *task.changes["instruction"].drop.interval]
        found["shares"] = {r.name: [r.share.value, *r.share.interval] if r.share else None for r in task.rungs}
        found["others"] = [t.verdict.name for name, t in result.tasks.items() if name != f"r{target}"]
    if "--times" in sys.argv:
        found["seconds"] = [round(trained - start, 2), round(time.monotonic() - trained, 2)]
    return found


def summary(cases: list[dict[str, object]]) -> dict[str, object]:
    """Wrong verdicts with their one-sided 95% Clopper-Pearson bound, and how many stayed open."""
    verdicts = {}
    for state, truth in TRUTHS.items():
        if cases and not any(c["state"] == state for c in cases):
            continue
        mine = [c for c in cases if c["state"] == state and c["planted"]]
        count = Counter(str(c["verdict"]) for c in mine)
        false = len(mine) - count[truth] - count["inconclusive"]
        upper = float(beta.ppf(0.95, false + 1, len(mine) - false)) if false < len(mine) else 1.0
        verdicts[state] = {
            "cases": len(mine), "false": false, "upper95": round(upper, 4), "right": count[truth],
            "inconclusive": count["inconclusive"],
            "inconclusive_share": round(count["inconclusive"] / len(mine), 4) if mine else None,
            "planting_failed": sum(c["state"] == state and not c["planted"] for c in cases),
        }  # fmt: skip
    rules = {name: getattr(Rules(), name) for name in Rules.__slots__}
    bases = {c["base"] for c in cases if "base" in c}
    return {"verdicts": verdicts, "bases": len(bases), "rules": rules, "cases": cases}


def main() -> None:
    """Run cases, or merge what several runs wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200, help="of each state")
    parser.add_argument("--per-base", type=int, default=10, help="cases of each state that share a base")
    parser.add_argument("--first-seed", type=int, default=1000, help="1000 and above are kept for the committed run")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no case after this long; run again to go on")
    parser.add_argument("--merge", type=Path, nargs="+", help="files to put together instead of running")
    parser.add_argument(
        "--real", type=int, default=0, help="run this many cases of each state on SmolLM2 instead, if not yet there"
    )
    parser.add_argument("--times", action="store_true", help="also write how long cases took")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.real:
        result = run_real(options)["real"]
    else:
        given = [read_json(path) for path in options.merge or ()]
        cases = sorted([c for one in given for c in one["cases"]] or run(options), key=lambda c: (c["seed"], c["state"]))
        result = summary(cases)
        write_json(options.out, result | _real_of(*given, options.out))
    print(json.dumps(result["verdicts"], indent=1))


def _real_of(*sources: dict[str, Any] | Path) -> dict[str, Any]:
    """The cases on the real model that a result or a file holds, ready to stand beside the others; of several the first."""
    read = (source if isinstance(source, dict) else read_json(source) if source.exists() else {} for source in sources)
    return next(({"real": one["real"]} for one in read if "real" in one), {})


def run_real(options: argparse.Namespace) -> dict[str, Any]:
    """Cases on the real model, going on after those that `--out` holds; they stand under `real`."""
    from planted_real import real_case

    whole = read_json(options.out) if options.out.exists() else summary([])
    cases = whole.get("real", {}).get("cases", [])
    start = time.monotonic()
    for seed in range(options.real):
        for state in ("untouched", "suppressed"):
            done = any((c["seed"], c["state"]) == (seed, state) for c in cases)
            if not done and time.monotonic() - start <= options.seconds:
                cases.append(real_case(state, seed))
                whole["real"] = summary(cases)
                write_json(options.out, whole)
    return whole


def run(options: argparse.Namespace) -> list[dict[str, object]]:
    """Cases in order of seed, going on after those that `--out` holds."""
    cases = read_json(options.out)["cases"] if options.out.exists() else []
    done = {(c["seed"], c["state"]) for c in cases}
    start = time.monotonic()
    bases = -(-options.cases // options.per_base)
    for number in range(bases):
        first = options.first_seed + number * options.per_base
        seeds = range(first, min(first + options.per_base, options.first_seed + options.cases))
        left = [(seed, state) for seed in seeds for state in TRUTHS if (seed, state) not in done]
        if not left or time.monotonic() - start > options.seconds:
            continue
        world, base = base_of(first)
        print(f"base {first}: {time.monotonic() - start:.1f} s", file=sys.stderr)
        for seed, state in left:
            if time.monotonic() - start <= options.seconds:
                cases.append({"base": first} | case(world, base, state, seed))
                write_json(options.out, summary(cases) | _real_of(options.out))
    return cases


if __name__ == "__main__":
    main()
