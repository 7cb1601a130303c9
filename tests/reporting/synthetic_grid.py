"""A grid as `gather` puts it, and a diagnosis, both with names of one's choice."""

import random

MEASURES = ("ap", "fp", "forget", "in_context", "zero_shot", "knowledge", "instruction")


def estimate(value, half=0.05):
    return {"value": value, "interval": [value - half, value + half]}


def cell(method="sequential", guide="none", seed=0, *, ap=0.6, ip=0.5, sequence="A", rate=1e-3):
    rng = random.Random(f"{method}{guide}{seed}{sequence}")
    entry = {"benchmark": "func", "sequence": sequence, "method": method, "guide": guide, "seed": seed, "train_rows": 100,
             "learning_rate": rate, "epochs": 2}  # fmt: skip
    entry |= {name: estimate(rng.uniform(0.2, 0.8)) for name in MEASURES}
    entry |= {f"{name}_change": estimate(rng.uniform(-0.4, 0.1)) for name in MEASURES[3:]}
    forms = ("in_context", "zero_shot", "knowledge", "instruction")
    stages = [{"after": name, **{form: estimate(rng.uniform(0.2, 0.8)) for form in forms}} for name in ("M0", "one", "two")]
    matrix = [[round(rng.random(), 2) for _ in range(2)] for _ in range(3)]
    entry |= {"tasks": ["one", "two"], "matrix": matrix}
    return entry | {"ap": estimate(ap), "in_context": estimate(ip), "stages": stages}


def grid(methods=("sequential", "olora"), guides=("none", "iv", "plain_kl", "random"), seeds=2):
    rng = random.Random(0)
    cells = [
        cell(m, g, s, ap=rng.uniform(0.4, 0.8), ip=rng.uniform(0.2, 0.8), sequence=q)
        for q in ("A", "B") for m in methods for g in guides for s in range(seeds)
    ]  # fmt: skip
    return {"schema": 1, "title": "Task sequences", "grid": {"cells": cells, "headline": headline()}}


def headline(control="plain_kl"):
    kept = {"loss": 0.5, "loss_interval": [0.3, 0.7], "gain": 0.4, "gain_interval": [0.2, 0.6], "share": 0.8, "tasks": 6}
    found = {"ip": kept, "gp": {"share": None, "note": "at its floor"}, "ap_delta": -0.03, "ap_delta_low": -0.07, "seeds": 3}
    beside = found | {"ap_interval": [-0.07, 0.01], "fp_delta": 0.11, "fp_interval": [0.05, 0.17]}
    front = {"gap": 0.1, "gap_interval": [-0.05, 0.3], "arms": {"sequential": 3, control: 2}}
    guided = found | {"beside": {control: beside}, "fronts": {"no_anchors": front}}
    guided |= {"above": {"osf+anchors_iv, lr 0.0001": {"no_anchors": front}, "replay": {"anchors_without_vectors": front}}}
    return {"func": {"A": guided}, "controls": {control: found | {"seeds": 2}}}


def change(base, tuned):
    return {"base": estimate(base), "tuned": estimate(tuned), "drop": estimate(base - tuned), "bound": 0.7, "smallest": 0.21}


def diagnosis(names=("capital", "plural"), reason="few-shot brought it back"):
    rung = {"name": "few-shot", "evidence": True, "accuracy": estimate(0.8), "gain": estimate(0.6), "share": estimate(0.97),
            "of_base": 0.88, "beyond": None, "over": {"a": estimate(0.5)}, "required": ["a"]}  # fmt: skip
    tasks = {
        name: {
            "changes": {"instruction": change(0.9, 0.2), "knowledge": change(0.9, 0.85), "in_context": change(0.8, 0.1)},
            "verdict": {"name": "suppressed" if number % 2 else "intact", "reason": reason, "by": ["few-shot"]},
            "rungs": [rung],
            "grid": {"base": {"x": 0.1, "x+c": 0.9}, "tuned": {"x": 0.0, "x+c": 0.2}},
        }
        for number, name in enumerate(names)
    }
    return {"schema": 1, "title": "What happened to the model", "diagnosis": {"tasks": tasks}}
