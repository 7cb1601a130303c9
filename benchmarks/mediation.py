"""Exact causal effects of every head: ours against one forward a head, on the same prompts in the same run.

    python benchmarks/mediation.py --json

The published way (Todd et al. 2310.15213) runs a whole forward for each head and prompt, logits of every position
included. `speedup_unbatched` is its time over ours; `speedup_best_batch` that of patched copies in their best batch size,
with logits of the last position alone. A forward's cost does not depend on which head is patched, so their time is taken on
`--heads` heads, the ten strongest and others drawn by seed, and scaled to all; `max_abs_diff` compares exactly these heads'
effects with ours, each on one of the prompts in turn, and `max_abs_effect` says how large the effects are.
`floor_ratio` is our time over that of the unavoidable operations (one pass over the prefix, n_heads * L^2 / 2
one-token layer passes, L * n_heads un-embeddings) at the rate this machine multiplies matrices. `memory_ratio` is our peak
resident memory over `--prompts` prompts over that of one plain forward, each in a process of its own (Linux), weights included,
loading left out.
"""

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from instruction_vectors import causal_effects, load
from instruction_vectors.models.anatomy import Anatomy, anatomy_of
from instruction_vectors.progress import track
from instruction_vectors.tasks import load_task
from instruction_vectors.tasks.prompts import Prompt, bare, draw_shots
from instruction_vectors.vectors.choosing import top_heads

LENGTHS = (42, 128, 512)
BATCHES = (2, 4, 8, 12, 16, 32, 64, 128)
ROUNDS = 3
TOP = 10
MOST_TOKENS = 8192
"""Larger batches gain nothing on a CPU and would take minutes a forward."""


def prompt_of(tokenizer, length: int, seed: int) -> Prompt:
    """A few-shot prompt of about `length` tokens, with its right answer."""
    task = load_task("present-past")
    shots = draw_shots(task, 60, seed=seed)
    for count in range(1, 60):
        prompt = bare(shots[0], shots=shots[1 : 1 + count])
        if len(tokenizer(prompt.text)["input_ids"]) >= length:
            return prompt
    raise ValueError(length)


def clock(run: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def timed(run: Callable[[], object], repeats: int = 1) -> float:
    """Median seconds of a call, after one call to warm up."""
    run()
    return statistics.median(clock(run) for _ in range(repeats))


def patched_forward(anatomy: Anatomy, ids: torch.Tensor, heads: list[tuple[int, int]], means: torch.Tensor, **options):
    """The published way: row i of the batch runs with head `heads[i]` replaced at the last token."""
    handles = []
    for row, (layer, head) in enumerate(heads):

        def hook(module, args, row=row, layer=layer, head=head):
            value = args[0].clone()
            value[row, -1, head * anatomy.head_dim : (head + 1) * anatomy.head_dim] = means[layer, head]
            return (value, *args[1:])

        handles.append(anatomy.o_projs[layer].register_forward_pre_hook(hook))
    try:
        with torch.no_grad():
            return anatomy.causal_lm(input_ids=ids.expand(len(heads), -1), use_cache=False, **options).logits[:, -1]
    finally:
        for handle in handles:
            handle.remove()


def floor_seconds(anatomy: Anatomy, tokens: int, rate: float) -> float:
    """Seconds the unavoidable multiplications take at `rate` floating-point operations a second."""
    layer = sum(p.numel() for p in anatomy.layers[0].parameters() if p.dim() == 2)
    head = anatomy.causal_lm.get_output_embeddings().weight.numel()
    count, depth = anatomy.n_heads, anatomy.n_layers
    multiplications = tokens * depth * layer + count * depth**2 / 2 * layer + depth * count * head
    return 2 * multiplications / rate


def matmul_rate(anatomy: Anatomy) -> float:
    """Floating-point operations a second of this machine on a matrix product of the model's own shape, at its best.

    Tried with as many rows as one prompt's heads, and as several prompts'.
    """
    weight = max((p for p in anatomy.layers[0].parameters() if p.dim() == 2), key=lambda p: p.numel())
    rates = []
    for prompts in (1, 7):
        rows = torch.randn(prompts * anatomy.n_layers * anatomy.n_heads, weight.shape[1])
        with torch.no_grad():
            seconds = timed(lambda rows=rows: [torch.nn.functional.linear(rows, weight) for _ in range(10)], repeats=7) / 10
        rates.append(2 * rows.shape[0] * weight.numel() / seconds)
    return max(rates)


def peak_mb(mode: str, length: int, prompts: int) -> float:
    """Peak resident memory of a fresh process that does one thing to so many prompts."""
    command = [sys.executable, __file__, "--only", mode, "--length", str(length), "--prompts", str(prompts)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["peak_mb"]


def measure_length(model, tokenizer, length: int, prompts: int, sampled: int) -> dict[str, float]:
    """Both ways at one prompt length, in rounds by turns: a machine's rate drifts, and so falls on both alike."""
    anatomy = anatomy_of(model)
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(anatomy.n_layers, anatomy.n_heads, anatomy.head_dim, generator=generator) * 0.1
    asked = [prompt_of(tokenizer, length, seed) for seed in range(prompts)]
    effects = effects_of(model, tokenizer, asked, means)
    texts = [torch.tensor([tokenizer(prompt.text)["input_ids"]]) for prompt in asked]
    answers = [tokenizer(prompt.target)["input_ids"][0] for prompt in asked]
    every = [(layer, head) for layer in range(anatomy.n_layers) for head in range(anatomy.n_heads)]
    # The strongest heads, which matter, and others; each on one of the prompts in turn.
    some = list(top_heads(effects, TOP))
    some += random.Random(0).sample([head for head in every if head not in some], max(0, sampled - TOP))
    compared = list(enumerate(some))
    sizes = [size for size in BATCHES if size * length <= MOST_TOKENS]
    with torch.no_grad():
        pairs = list(zip(texts, answers, strict=True))
        clean = [anatomy.causal_lm(input_ids=ids).logits[0, -1].softmax(-1)[answer] for ids, answer in pairs]
        for size in sizes:  # to warm up
            patched_forward(anatomy, texts[0], (every * size)[:size], means, logits_to_keep=1)
    differences: list[float] = []
    seconds: dict[str | int, list[float]] = {way: [] for way in ("ours", "unbatched", *sizes)}
    rates = []
    for turn in range(ROUNDS):
        rates.append(matmul_rate(anatomy))
        seconds["ours"].append(clock(lambda: effects_of(model, tokenizer, asked, means)) / prompts)
        for number, place in compared[turn::ROUNDS]:
            which = number % prompts
            start = time.perf_counter()
            patched = patched_forward(anatomy, texts[which], [place], means)
            seconds["unbatched"].append((time.perf_counter() - start) * len(every))
            differences.append(float(patched[0].softmax(-1)[answers[which]] - clean[which] - effects[which][place]))
        for size in sizes:
            batch = (every * size)[:size]
            took = clock(lambda batch=batch: patched_forward(anatomy, texts[0], batch, means, logits_to_keep=1))
            seconds[size].append(took / size * len(every))
    typical = {way: statistics.median(each) for way, each in seconds.items()}
    best = min(sizes, key=typical.__getitem__)
    tokens = texts[0].shape[1]
    return {
        "tokens": tokens,
        "prompts": prompts,
        "seconds_a_prompt": typical["ours"],
        "unbatched_seconds_a_prompt": typical["unbatched"],
        "best_batch": best,
        "best_batch_seconds_a_prompt": typical[best],
        "max_abs_diff": max(map(abs, differences)),
        "max_abs_effect": float(effects.abs().max()),
        "floor_seconds_a_prompt": floor_seconds(anatomy, tokens, statistics.median(rates)),
    }


def effects_of(model, tokenizer, prompts: list[Prompt], means: torch.Tensor, progress=None) -> torch.Tensor:
    """Ours."""
    return causal_effects(model, tokenizer, [p.text for p in prompts], [p.target for p in prompts], means, progress=progress)


def only(mode: str, length: int, prompts: int) -> None:
    """One forward, or some prompts' effects, in a process of its own; prints its peak memory once the model is loaded."""
    model, tokenizer = load()
    anatomy = anatomy_of(model)
    asked = [prompt_of(tokenizer, length, seed) for seed in range(prompts)]
    # Linux forgets its highest mark on this word; loading would stand above everything.
    Path("/proc/self/clear_refs").write_text("5")
    with torch.no_grad():
        model(**tokenizer(asked[0].text, return_tensors="pt"))
    if mode == "effects":
        effects_of(model, tokenizer, asked, torch.zeros(anatomy.n_layers, anatomy.n_heads, anatomy.head_dim))
    status = Path("/proc/self/status").read_text()
    print(json.dumps({"peak_mb": int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--heads", type=int, default=30, help="heads the slow way is timed on")
    parser.add_argument("--prompts", type=int, default=8, help="prompts a length ours is timed on")
    parser.add_argument("--many", type=int, default=25, help="prompts of the long measurement at 42 tokens")
    parser.add_argument("--only", choices=["forward", "effects"], help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, default=42, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        only(arguments.only, arguments.length, arguments.prompts)
        return
    model, tokenizer = load()
    lengths = {}
    with track("Effects against one forward a head", len(LENGTHS) + 1, "length") as advance:
        for done, length in enumerate(LENGTHS, start=1):
            lengths[str(length)] = measure_length(model, tokenizer, length, arguments.prompts, arguments.heads)
            advance(done)
        anatomy = anatomy_of(model)
        means = torch.zeros(anatomy.n_layers, anatomy.n_heads, anatomy.head_dim)
        asked = [prompt_of(tokenizer, 42, seed) for seed in range(arguments.many)]
        seconds: dict[int, float] = {}
        # On a shared machine the rate drifts over minutes: the floor under this sweep is that of the moments around it.
        rates = [matmul_rate(anatomy) for _ in range(2)]
        start = time.perf_counter()
        effects_of(model, tokenizer, asked, means, lambda finished: seconds.update({finished: time.perf_counter() - start}))
        many = seconds[len(asked)]
        rates += [matmul_rate(anatomy) for _ in range(2)]
    floor = floor_seconds(anatomy, lengths["42"]["tokens"], statistics.median(rates)) * len(asked)
    print(
        json.dumps(
            {
                "speedup_unbatched": {k: v["unbatched_seconds_a_prompt"] / v["seconds_a_prompt"] for k, v in lengths.items()},
                "speedup_best_batch": {k: v["best_batch_seconds_a_prompt"] / v["seconds_a_prompt"] for k, v in lengths.items()},
                "max_abs_diff": max(v["max_abs_diff"] for v in lengths.values()),
                "floor_ratio": many / floor,
                "memory_ratio": {str(n): peak_mb("effects", n, arguments.prompts) / peak_mb("forward", n, 1) for n in LENGTHS},
                "many_prompts": {
                    "prompts": len(asked),
                    "seconds": many,
                    "floor_seconds": floor,
                    "gigaflops": [rate / 1e9 for rate in rates],
                    "seconds_by_prompts": list(seconds.items()),
                },
                "lengths": lengths,
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
            },
            indent=None if arguments.json else 1,
        )
    )


if __name__ == "__main__":
    main()
