"""What a grid's finished cells say in a few numbers: guidance and its controls against plain training at its best."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from instruction_vectors.continual.compare import compare
from instruction_vectors.continual.front import above_front
from instruction_vectors.continual.methods import method_if_known
from instruction_vectors.continual.result import Rate, Result, alike, counted_probes, course, rate, way
from instruction_vectors.evaluation.statistics import holm

GUIDED = (("steered_anchors", "anchors_iv"), ("anchors", "anchors_iv"), ("sequential", "iv"))
"""Methods and guides that guidance is judged by, the recommended one first: the next where that has no finished cells."""

PLAIN = ("sequential", "none")
"""What every other method and guide is an arm against."""

Arm = tuple[tuple[str, str], Rate]
"""Method and guide, and the rate at which they are run."""

WITHOUT_VECTORS = ("none", "plain_kl", "lwf", "anchors_kl")
"""Guides without any vector."""

NAMES: Mapping[tuple[str, str], str] = {
    ("sequential", "iv"): "iv",
    ("sequential", "plain_kl"): "plain_kl",
    ("sequential", "schedule_only"): "schedule_only",
    ("sequential", "random"): "random_vector",
    ("sequential", "other_task"): "other_task_vector",
    ("sequential", "mean"): "mean_vector",
    ("sequential", "lwf"): "lwf",
    ("sequential", "fvg"): "fvg",
    ("averaging", "none"): "model_averaging",
    ("anchors", "iv"): "anchors_guided_throughout",
    ("anchors", "anchors_iv"): "anchors_iv",
    ("anchors", "anchors_kl"): "anchors_kl",
    ("steered_anchors", "anchors_iv"): "steered_anchors_iv",
    ("zero_shot_anchors", "anchors_kl"): "zero_shot_anchors_kl",
}
"""Arms with a name of their own, by method and guide, in the order of tables; any other is called by its method and guide."""


def headline(results: Sequence[Result]) -> dict[str, Any]:
    """Shares and differences against plain sequential LoRA at the learning rate and epochs with the best AP.

    Args:
        results: finished cells, of any benchmarks, methods, guides, seeds, learning rates and epochs.

    Returns:
        For each benchmark its sequences, each with what `compare` gives for guided training (`GUIDED`: `method` and `guide` say
        which) at the same learning rate and epochs, the rate and epochs themselves, and under `controls` the same for each
        other arm found, by `arm_name` (an arm that was not run at that rate is taken at its own best one, which its name then
        tells), and for `lower_lr`, plain training at a lower learning rate; under `controls` at the top those of all sequences
        together. The other way round, `beside` is guided training against each other arm at each of its rates, and `fronts` how
        far it lies above several together (`above_front`): those that use no vector, no anchors and no earlier rows, and the
        same with anchors that use no vector, each where it has two arms or more. Under `above` the same fronts for every arm
        that spans none of the first kind: other ways of guidance, anchors, kept rows. What has no finished cells is left out;
        an arm is compared on the cells of it and of plain (or guided) training that are `alike`.
    """
    by_benchmark: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        by_benchmark[result["cell"]["benchmark"]][result["cell"]["sequence"]].append(result)
    out: dict[str, Any] = {}
    plain: list[Result] = []
    lower: list[Result] = []
    for benchmark, sequences in sorted(by_benchmark.items()):
        for sequence, cells in sorted(sequences.items()):
            best = best_rate(cells)
            if best is None:
                continue
            base, below = _arm(cells, *PLAIN, best), _lower(cells, best)
            plain += base
            lower += below
            for method, guide in _guided_arms(cells):
                guided = _arm(cells, method, guide, best)
                if found := against(base, guided):
                    at = {"method": method, "guide": guide, "learning_rate": best[0], "epochs": best[1]}
                    others = _controls(base, cells, below)
                    del others[arm_name(method, guide)]
                    own = [each for _, each in alike(base, guided)]
                    out.setdefault(benchmark, {})[sequence] = found | at | {"controls": others} | _beside(own, cells, best)
                    break
    return out | {"controls": _controls(plain, results, lower)}


def _guided_arms(cells: Iterable[Result]) -> Iterator[tuple[str, str]]:
    """Those of `GUIDED` in their order, each as usual first and then with whatever other settings it is found with."""
    found = _arms(cells)
    for wanted in GUIDED:
        yield wanted
        yield from (each for each in found if each != wanted and tuple(name.split()[0] for name in each) == wanted)


def _beside(guided: Sequence[Result], cells: Sequence[Result], best: Rate) -> dict[str, Any]:
    """Guided training against every other arm at each of its rates, and it and the arms that span no front above each front."""
    every = _by_arm(cells)
    arms = _others(guided, every, best)
    return {
        "beside": {_at_rate(*arm, best): against(paired, guided) for arm, paired in arms.items()},
        "fronts": _fronts(guided, arms, best),
        # Each on all its own cells, which may be more seeds than guided training has.
        "above": {
            _at_rate(*arm, best): fronts
            for arm in arms
            if not _spans(*arm[0], anchored=False) and (fronts := _fronts(every[arm], _others(every[arm], every, best), best))
        },
    }


def _others(own: Sequence[Result], every: Mapping[Arm, Sequence[Result]], best: Rate) -> dict[Arm, list[Result]]:
    """Of every other arm at each of its rates the cells that are `alike` to an arm's own, in the order of tables."""
    arms = {arm: results for arm, results in every.items() if arm != (way(own[0]), rate(own[0]))}
    paired = {arm: [other for _, other in alike(own, results)] for arm, results in arms.items()}
    order = [PLAIN, *_arms(result for results in arms.values() for result in results)]
    found = (arm for arm, results in paired.items() if results)
    return {
        arm: paired[arm] for arm in sorted(found, key=lambda arm: (order.index(arm[0]), arm[1] != best, -arm[1][0], arm[1][1]))
    }


def _by_arm(cells: Iterable[Result]) -> dict[Arm, list[Result]]:
    arms: dict[Arm, list[Result]] = defaultdict(list)
    for result in cells:
        arms[way(result), rate(result)].append(result)
    return arms


def _fronts(guided: Sequence[Result], arms: Mapping[Arm, Sequence[Result]], best: Rate) -> dict[str, dict[str, Any]]:
    if not set.intersection(*(set(counted_probes(result, "in_context")) for result in guided)):
        return {}
    out: dict[str, dict[str, Any]] = {}
    for name, anchored in (("no_anchors", False), ("anchors_without_vectors", True)):
        spanning = {_at_rate(*arm, best): cells for arm, cells in arms.items() if _spans(*arm[0], anchored=anchored)}
        if len(spanning) > 1 and spanning.keys() not in [found["arms"].keys() for found in out.values()]:
            out[name] = above_front(guided, spanning)
    return out


def _spans(method: str, guide: str, *, anchored: bool) -> bool:
    """Whether a way, whatever its settings, is one that guided training should lie above; a method unknown here is one."""
    if guide.split()[0] not in WITHOUT_VECTORS:
        return False
    known = method_if_known(method.split()[0])
    if known is None:
        return True
    return not known.keeps_rows and (not known.anchors_share or (anchored and not known.anchors_steered))


def _at_rate(way_of: tuple[str, str], at: Rate, usual: Rate) -> str:
    """An arm's name, with the rate where that is not the usual one."""
    lr, epochs = at
    return arm_name(*way_of) + f", lr {lr:g}" * (lr != usual[0]) + f", {epochs} epoch{'s' * (epochs > 1)}" * (epochs != usual[1])


def _controls(plain: Sequence[Result], results: Sequence[Result], lower: Sequence[Result]) -> dict[str, Any]:
    """What each arm keeps and costs against plain training, where it has finished cells."""
    arms = dict(_at_rates(plain, results, each) for each in _arms(results)) | {"lower_lr": lower}
    controls = {name: against(plain, others) for name, others in arms.items()}
    return _corrected({name: found for name, found in controls.items() if found})


def arm_name(method: str, guide: str) -> str:
    """What an arm is called: its own name if it has one in `NAMES`, else its method, and its guide if it has one."""
    return NAMES.get((method, guide), method if guide == "none" else f"{method} + {guide}")


def _arms(results: Iterable[Result]) -> list[tuple[str, str]]:
    """Method and guide of everything found but plain training: those with a name of their own, then the others."""
    found = {way(result) for result in results} - {PLAIN}
    return [*(each for each in NAMES if each in found), *sorted(found - NAMES.keys(), key=lambda each: arm_name(*each))]


def _corrected(controls: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """With `p_holm` beside each p: as many controls, as many chances of a small one."""
    tested = [name for name, found in controls.items() if found["p"] is not None]
    held = dict(zip(tested, holm([controls[name]["p"] for name in tested]), strict=True))
    return {name: found | {"p_holm": held.get(name)} for name, found in controls.items()}


def best_rate(cells: Iterable[Result], way_of: tuple[str, str] = PLAIN) -> Rate | None:
    """Learning rate and epochs at which plain sequential training, or another way, has the highest mean AP, if it has any.

    Rates are compared on the sequences and seeds that all of them have, or where there is none on those that each has.
    """
    scores: dict[Rate, dict[Any, float]] = defaultdict(dict)
    for result in cells:
        if way(result) == way_of:
            scores[rate(result)][course(result)] = result["ap"]["mean"]
    shared = set.intersection(*map(set, scores.values())) if scores else set()
    return max(scores, key=lambda at: fmean(scores[at][run] for run in shared or scores[at]), default=None)


def _arm(cells: Iterable[Result], method: str, guide: str, at: Rate) -> list[Result]:
    return [result for result in cells if way(result) == (method, guide) and rate(result) == at]


def _at_rates(plain: Sequence[Result], results: Sequence[Result], way_of: tuple[str, str]) -> tuple[str, list[Result]]:
    """An arm's name and cells at plain training's rates; where it has none, at as many epochs and its own best rate."""
    if found := _at_rates_of(plain, results, *way_of):
        return arm_name(*way_of), found
    epochs = {course(result): rate(result)[1] for result in plain}
    own = best_rate([result for result in results if epochs.get(course(result)) == rate(result)[1]], way_of)
    return f"{arm_name(*way_of)}, lr {own[0]:g}" if own else arm_name(*way_of), _arm(results, *way_of, own) if own else []


def _at_rates_of(plain: Sequence[Result], results: Iterable[Result], method: str, guide: str) -> list[Result]:
    rates = {course(result): rate(result) for result in plain}
    return [result for result in results if way(result) == (method, guide) and rates.get(course(result)) == rate(result)]


def _lower(cells: Sequence[Result], best: Rate) -> list[Result]:
    """Plain training at the highest learning rate below the best one, for as many epochs."""
    below = [rate(r)[0] for r in cells if way(r) == PLAIN and rate(r)[1] == best[1] and rate(r)[0] < best[0]]
    return _arm(cells, *PLAIN, (max(below), best[1])) if below else []


def against(plain: Sequence[Result], other: Sequence[Result]) -> dict[str, Any] | None:
    """What `compare` gives on the cells of both that are `alike`; None without any."""
    pairs = alike(plain, other)
    return compare([own for own, _ in pairs], [its for _, its in pairs]) if pairs else None
