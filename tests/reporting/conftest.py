"""Synthetic results, shaped and sized like a real run, with hostile strings and a worse guided arm on request."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><svg onload=alert(2)>',
    "{{7*7}}{% raw %}",
    "a|b`c`<img src=https://evil.example/x.png>\n# heading",
    "nul\x00bell\x07over\u202eride\ud800",
)
CONDITIONS = ("x", "x+c", "x+iv", "x+c+iv", "x+c+other_iv", "x+c+random")
SEQUENCE = ["english-spanish", "verb_v_adjective_3", "person-occupation"]
UNTOUCHED = [
    "antonym",
    "capitalize",
    "choose_first_of_5",
    "country-capital",
    "present-past",
    "singular-plural",
]
MEASURED = {  # as in a first run: x + c, + own vector, + another task's vector, + a random vector
    "present-past": (0.00, 0.97, 0.13, 0.00),
    "singular-plural": (0.20, 0.87, 0.50, 0.03),
    "capitalize": (0.17, 0.67, 0.00, 0.03),
    "choose_first_of_3": (0.07, 0.60, 0.07, 0.00),
    "choose_last_of_3": (0.03, 0.70, 0.20, 0.20),
    "object_v_concept_3": (0.07, 0.70, 0.47, 0.00),
    "country-capital": (0.00, 0.33, 0.07, 0.00),
}


def interval(value: float, n: int) -> list[float]:
    half = 1.96 * max(value * (1 - value), 0.02) ** 0.5 / n**0.5
    return [round(max(value - half, 0.0), 4), round(min(value + half, 1.0), 4)]


def conditions(values: dict[str, float], n: int) -> dict[str, Any]:
    return {**values, "n": n, "intervals": {c: interval(v, n) for c, v in values.items()}}


def steering(template: str, rng: random.Random, lift: float = 0.0) -> dict[str, Any]:
    out = {}
    for task, (told, own, other, noise) in MEASURED.items():
        told = min(told + lift, 0.95)
        values = dict(zip(CONDITIONS, (0.0, told, own * 0.4, max(own, told), other, noise), strict=True))
        out[task] = {
            "template": template,
            **conditions(values, 30),
            "other_task": rng.choice([t for t in MEASURED if t != task]),
            "exact": {c: round(v * 0.9, 3) for c, v in values.items()},
            "copying": {"n": 3, **{c: (1.0 if c == "x+c+iv" else None) for c in CONDITIONS}},
        }
    return out


def spread(value: float, count: int, rng: random.Random) -> list[float]:
    """Scores of ``count`` tasks whose mean is ``value``."""
    noise = [rng.uniform(-1, 1) for _ in range(count)]
    noise = [x - sum(noise) / count for x in noise]
    size = min(0.12, 0.95 * min(value, 1 - value)) / max(abs(x) for x in noise)
    return [value + size * x for x in noise]


def arm(rng: random.Random, curves: dict[str, list[float]], matrix: list[list[float]]) -> dict[str, Any]:
    n = {"in_context": 240, "zero_shot": 240, "knowledge": 160, "instruction": 160, "trained": 120}
    per_task: dict[str, dict[str, list[float]]] = {task: {} for task in UNTOUCHED}
    for metric, values in curves.items():
        tasks = [task for task in UNTOUCHED if metric != "knowledge" or not task.startswith("choose")]
        for stage, value in enumerate(values) if metric != "trained" else ():
            # M0 is the same model whatever is trained next.
            scores = spread(value, len(tasks), random.Random(metric) if stage == 0 else rng)
            for task, score in zip(tasks, scores, strict=True):
                per_task[task].setdefault(metric, []).append(round(score, 4))
    return {
        "stages": ["M0", *SEQUENCE],
        **curves,
        "matrix": dict(zip(SEQUENCE, matrix, strict=True)),
        "per_task": per_task,
        "n": n,
        "intervals": {m: [interval(v, n[m]) for v in values] for m, values in curves.items()},
    }


def synthetic(*, guided_worse: bool = False) -> dict[str, Any]:
    """A finished run; with ``guided_worse`` the two arms change places."""
    rng = random.Random(0)
    sequential = arm(
        rng,
        {
            "in_context": [0.80, 0.72, 0.31, 0.05],
            "zero_shot": [0.34, 0.30, 0.12, 0.04],
            "knowledge": [0.51, 0.52, 0.44, 0.41],
            "instruction": [0.46, 0.43, 0.20, 0.05],
            "trained": [0.12, 0.24, 0.38, 0.46],
        },
        [[0.05, 0.28, 0.07, 0.05], [0.30, 0.34, 1.0, 0.55], [0.02, 0.02, 0.05, 0.77]],
    )
    guided = arm(
        rng,
        {
            "in_context": [0.80, 0.74, 0.68, 0.52],
            "zero_shot": [0.34, 0.35, 0.29, 0.25],
            "knowledge": [0.51, 0.52, 0.49, 0.48],
            "instruction": [0.46, 0.45, 0.40, 0.33],
            "trained": [0.12, 0.22, 0.43, 0.55],
        },
        [[0.05, 0.25, 0.12, 0.10], [0.30, 0.32, 0.97, 0.85], [0.02, 0.02, 0.06, 0.70]],
    )
    if guided_worse:
        sequential, guided = guided, sequential
    heat = [[rng.gauss(0, 0.0012) for _ in range(9)] for _ in range(30)]
    strong = {
        (20, 5): 0.080,
        (24, 4): 0.036,
        (18, 6): 0.014,
        (29, 0): 0.012,
        (20, 6): 0.009,
        (22, 1): 0.007,
        (17, 3): 0.006,
        (26, 8): 0.0055,
        (15, 2): 0.005,
        (21, 7): 0.0047,
    }
    for (layer, head), effect in strong.items():
        heat[layer][head] = effect
    heat[27][2] = -0.011
    grid = {
        "M0": dict(zip(CONDITIONS[:4], (0.02, 0.34, 0.21, 0.69), strict=True)),
        "sequential": dict(zip(CONDITIONS[:4], (0.01, 0.04, 0.05, 0.31), strict=True)),
        "iv_guided": dict(zip(CONDITIONS[:4], (0.01, 0.25, 0.14, 0.58), strict=True)),
    }
    return {
        "schema": 1,
        "title": "Three tasks on SmolLM2-135M: what is lost, what is kept",
        "config": {
            "size": "small",
            "seed": 0,
            "model": "smollm2-135m-instruct",
            "sequence": list(SEQUENCE),
            "untouched": list(UNTOUCHED),
            "train_rows": 200,
            "epochs": 2,
            "learning_rate": 1e-3,
            "why": "1e-3 with two epochs is where the papers train; a lower rate forgets less and learns less.",
        },
        "environment": {
            "python": "3.11.7",
            "torch": "2.9.1",
            "transformers": "5.0.1",
            "threads": 2,
            "platform": "Linux x86_64",
        },
        "effects": {
            "map": heat,
            "layers": list(range(30)),
            "top": [{"layer": la, "head": h, "effect": e, "low": e * 0.7, "high": e * 1.3} for (la, h), e in strong.items()],
            "prompts": 70,
            "tasks": list(MEASURED),
        },
        "steering": steering("plain", rng),
        "steering_chat": steering("chat", rng, lift=0.3),
        "hypothesis": {model: conditions(values, 200) for model, values in grid.items()},
        "forgetting": {"sequential": sequential, "iv_guided": guided},
        "summary": {"guidance_cost_seconds": [71.5, 60.2, 80.1], "heads_in_vector": 10},
        "seconds": {
            "total": 702.3,
            "load": 21.0,
            "effects": 88.4,
            "steering": 96.1,
            "train_sequential": 171.0,
            "train_iv_guided": 242.5,
            "evaluate": 83.3,
        },
        "peak_rss_mb": 2104.0,
    }


def hostile() -> dict[str, Any]:
    """The same run with hostile strings for every name a user can choose."""
    results = synthetic()
    script, svg, template, markdown, control = HOSTILE
    results["title"] = script + svg
    results["config"].update(
        {
            "model": svg,
            "why": script + template,
            script: control,
            "list": list(HOSTILE),
            "nested": {svg: [script]},
            "sequence": [script, svg, markdown],
        }
    )
    results["environment"][svg] = script
    results["summary"] = {svg: [0.1, 0.0, 0.2], template: script}
    results["seconds"][script] = 3.0
    for key in ("steering", "steering_chat"):
        rows = list(results[key].values())
        results[key] = {f"{name}{i}": row for i, (name, row) in enumerate(zip([*HOSTILE, svg, script], rows, strict=True))}
        for row in results[key].values():
            row["other_task"] = markdown
    for data in results["forgetting"].values():
        data["stages"] = ["M0", script, svg, markdown]
        data["matrix"] = dict(zip((script, svg, markdown), data["matrix"].values(), strict=True))
        data["per_task"] = {f"{HOSTILE[i % 5]}{i}": row for i, row in enumerate(data["per_task"].values())}
    results["forgetting"][svg] = results["forgetting"]["iv_guided"]
    results["hypothesis"][script] = results["hypothesis"]["iv_guided"]
    return results


@pytest.fixture(scope="session")
def make_results() -> Callable[..., dict[str, Any]]:
    return synthetic


@pytest.fixture
def hostile_results() -> dict[str, Any]:
    return hostile()


@pytest.fixture
def hostile_strings() -> tuple[str, ...]:
    return HOSTILE
