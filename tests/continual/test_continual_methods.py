"""Each method does what it claims, on a tiny model, and goes on from its folder as if never stopped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft.tuners.lora import LoraLayer
from tiny_training import distinct_rows, row

from instruction_vectors.continual.course import Course
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.continual.method import Method
from instruction_vectors.continual.methods import method_named, methods
from instruction_vectors.continual.methods.ewc import EWC
from instruction_vectors.continual.methods.inscl import shares, wasserstein
from instruction_vectors.continual.stage import StageConfig, train_stage
from instruction_vectors.errors import IVError
from instruction_vectors.training.collator import TreeCollator
from instruction_vectors.training.objectives import language_model_loss
from instruction_vectors.training.targets import Targets, model_inputs

STAGE = StageConfig(epochs=1, learning_rate=1e-2, batch_size=4, rank=2, lora_alpha=4)
FIRST, SECOND = distinct_rows(), [row([1, 5 + i, 11, 6], [25 - i, 12]) for i in range(8)]


def base() -> Any:
    return tiny.model("llama", dtype=torch.float32)


def train(method: Method, number: int, rows: Sequence[Any], folder: Path) -> None:
    train_stage(method.model, method.begin(number, rows), method.stage, folder=folder, penalty=method.penalty)
    method.end(number, rows)


def trained(name: str, folder: Path) -> Method:
    method = method_named(name)(STAGE)
    method.attach(base())
    train(method, 1, FIRST, folder)
    train(method, 2, SECOND, folder)
    return method


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 9)[None]).logits


@pytest.mark.parametrize("name", sorted(methods()))
def test_a_method_learns_goes_on_from_its_folder_and_leaves_the_base_as_it_was(name: str, tmp_path: Path) -> None:
    untouched = logits(base())
    whole = trained(name, tmp_path)
    assert not torch.allclose(logits(whole.model), untouched, atol=1e-4)

    first = method_named(name)(STAGE)
    model = base()
    first.attach(model)
    train(first, 1, FIRST, tmp_path)
    first.save(tmp_path / "state")
    first.detach()
    assert torch.equal(logits(model), untouched)
    second = method_named(name)(STAGE)
    second.restore(model, tmp_path / "state")
    train(second, 2, SECOND, tmp_path)
    assert torch.equal(logits(second.model), logits(whole.model))


def test_ewc_costs_nothing_at_the_optimum_and_curves_by_the_fisher_information(tmp_path: Path) -> None:
    method = EWC(STAGE)
    method.attach(base())
    assert method.penalty() is None
    train(method, 1, FIRST, tmp_path)
    assert method.penalty() == 0
    name, parameter = next((n, p) for n, p in method.trainable().items() if method.fisher[n].max() > 0)
    place = method.fisher[name].argmax()
    with torch.no_grad():
        parameter.view(-1)[place] += 0.3
    expected = EWC.strength / 2 * method.fisher[name].view(-1)[place] * 0.3**2
    torch.testing.assert_close(method.penalty(), expected, rtol=1e-4, atol=0)


def test_the_fisher_information_is_the_mean_of_squared_gradients_example_by_example(tmp_path: Path) -> None:
    method = EWC(STAGE)
    method.attach(base())
    train(method, 1, FIRST, tmp_path)
    name, parameter = next(iter(method.trainable().items()))
    expected = torch.zeros_like(parameter)
    method.model.eval()
    for each in FIRST:
        batch = TreeCollator(method.model)([each])
        targets = Targets.of(batch)
        loss = language_model_loss(method.model(**model_inputs(batch)).logits[targets.places][targets.rows], targets.tokens, 1)
        expected += torch.autograd.grad(loss, parameter)[0] ** 2 / len(FIRST)
    torch.testing.assert_close(method.fisher[name], expected)
    batch = TreeCollator(method.model)(FIRST)
    targets = Targets.of(batch)
    pooled = language_model_loss(
        method.model(**model_inputs(batch)).logits[targets.places][targets.rows], targets.tokens, len(FIRST)
    )
    assert not torch.allclose(method.fisher[name], torch.autograd.grad(pooled, parameter)[0] ** 2, rtol=0.1)


def test_olora_pulls_the_new_subspace_away_from_the_old_one(tmp_path: Path) -> None:
    def overlap(method: Any) -> float:
        layers = [m.lora_A for m in method.model.modules() if isinstance(m, LoraLayer)]
        return float(sum((a["default"].weight @ a["task2"].weight.T).abs().sum() for a in layers))

    free, orthogonal = trained("inclora", tmp_path), trained("olora", tmp_path)
    assert overlap(orthogonal) < 0.7 * overlap(free)
    torch.testing.assert_close(orthogonal.penalty().item(), 0.5 * overlap(orthogonal), rtol=1e-4, atol=0)


def test_inclora_trains_the_newest_adapter_alone(tmp_path: Path) -> None:
    method = method_named("inclora")(STAGE)
    method.attach(base())
    train(method, 1, FIRST, tmp_path)
    before = {n: p.clone() for n, p in method.model.named_parameters() if ".default." in n}
    train(method, 2, SECOND, tmp_path)
    assert all(torch.equal(p, before[n]) for n, p in method.model.named_parameters() if n in before)
    assert all(".task2." in n for n in method.trainable())


def test_replay_brings_back_rows_of_every_earlier_task_and_no_others() -> None:
    method = method_named("replay")(STAGE)
    method.memory = 3
    method.attach(base())
    assert method.begin(1, FIRST) == FIRST
    method.end(1, FIRST)
    second = method.begin(2, SECOND)
    assert second[: len(SECOND)] == SECOND
    assert len(second) == len(SECOND) + 3
    assert all(r in FIRST for r in second[len(SECOND) :])
    method.end(2, SECOND)
    assert len(method.begin(3, FIRST)) == len(FIRST) + 6


def test_inscl_shares_its_budget_out_by_distance_between_prompts(tmp_path: Path) -> None:
    method = method_named("inscl")(STAGE)
    method.memory = 2
    method.attach(base())
    train(method, 1, FIRST, tmp_path)
    train(method, 2, SECOND, tmp_path)
    # FIRST comes again: nothing of itself, at distance 0, and all of what there is for SECOND.
    third = method.begin(3, FIRST)
    assert third[: len(FIRST)] == FIRST
    replayed = third[len(FIRST) :]
    assert len(replayed) == 2 * 2
    assert all(r in SECOND for r in replayed)


def test_inscl_places_prompts_by_the_original_model_alone(tmp_path: Path) -> None:
    method = trained("inscl", tmp_path)
    untouched = base()
    prompts = [[t for t, label in zip(r["input_ids"], r["labels"], strict=True) if label == -100] for r in SECOND]
    with torch.no_grad():
        expected = [untouched.model(input_ids=torch.tensor([p])).last_hidden_state[0].mean(0) for p in prompts]
    torch.testing.assert_close(method.embed(SECOND), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_wasserstein_of_two_clouds_by_hand() -> None:
    near, far = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 3.0], [0.0, 3.0]])
    assert wasserstein(near, far) == pytest.approx(3.0)  # each to the one above it, not across
    assert wasserstein(near, near.flip(0)) == 0.0
    assert wasserstein(near[:1], far) == pytest.approx(10**0.5)  # of the larger, its first


def test_shares_are_whole_rows_that_add_up() -> None:
    assert shares([1.0, 3.0], 100) == [25, 75]
    assert shares([1.0, 1.0, 1.0], 10) == [4, 3, 3]
    assert shares([0.0, 0.0], 4) == [2, 2]
    assert shares([], 0) == []


def test_mix_in_adds_a_twentieth_of_general_instructions_others_for_every_task() -> None:
    method = method_named("mix_in")(STAGE)
    method.instructions = [row([2, 3 + i, 4], [5]) for i in range(20)]
    method.attach(base())
    rows = FIRST * 5
    mixed = [method.begin(number, rows) for number in (1, 2)]
    assert all(each[: len(rows)] == rows for each in mixed)
    added = [each[len(rows) :] for each in mixed]
    assert [len(each) for each in added] == [2, 2]
    assert all(r in method.instructions for each in added for r in each)
    assert added[0] != added[1]


def test_osf_sends_no_gradient_into_the_leading_singular_directions(tmp_path: Path) -> None:
    method = method_named("osf")(STAGE)
    method.attach(base())
    batch = TreeCollator(method.model)(FIRST)
    targets = Targets.of(batch)
    logits = method.model(**model_inputs(batch)).logits[targets.places]
    language_model_loss(logits[targets.rows], targets.tokens, len(FIRST)).backward()
    target = "layers.0.self_attn.q_proj"
    layer = next(m for n, m in method.model.named_modules() if n.endswith(target))
    left, _, right = torch.linalg.svd(layer.get_base_layer().weight)
    half = min(layer.get_base_layer().weight.shape) // 2
    low = layer.osf_svd_params["default"]
    for gradient, leading in ((low["U_low"].grad, left[:, :half]), (low["V_low"].grad.T, right[:half].T)):
        assert gradient.norm() > 1e-6
        assert (leading.T @ gradient).norm() < 1e-4 * gradient.norm()


def test_averaging_measures_exactly_the_weighted_mean_of_the_weights(tmp_path: Path) -> None:
    method = trained("averaging", tmp_path)
    target = "layers.0.self_attn.q_proj"
    original = method.model.get_submodule(f"base_model.model.model.{target}.base_layer").weight
    layer = method.model.get_submodule(f"base_model.model.model.{target}")
    change = layer.get_delta_weight("default")
    inputs = torch.randn(3, original.shape[1])
    with method.evaluating() as model:
        got = model.get_submodule(f"base_model.model.model.{target}")(inputs)
    expected = inputs @ (0.8 * (original + change) + 0.2 * original).T
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(inputs), inputs @ (original + change).T, rtol=1e-4, atol=1e-5)


def test_frozen_bottom_leaves_the_lower_half_alone(tmp_path: Path) -> None:
    method = trained("frozen_bottom", tmp_path)
    layers = {int(n.split(".layers.")[1].split(".")[0]) for n in method.trainable()}
    assert layers == set(range(round(tiny.LAYERS / 2), tiny.LAYERS))


def test_an_unknown_method_is_named_with_those_there_are() -> None:
    with pytest.raises(IVError, match=r"unknown method 'oops'.*ewc.*sequential"):
        method_named("oops")


def test_a_course_runs_each_step_once_and_resumes_between_any_two(tmp_path: Path) -> None:
    def run(folder: Path, stop_after: int | None = None) -> tuple[list[Any], int]:
        computed = 0

        def measured(model: Any) -> list[float]:
            nonlocal computed
            computed += 1
            return logits(model).flatten()[:50].tolist()

        seen = []
        with Ledger(folder, {"a": 1}) as ledger, Course(ledger, "ewc", base(), EWC(STAGE)) as course:
            for number, (name, rows) in enumerate((("first", FIRST), ("second", SECOND)), start=1):
                course.train(name, rows)
                seen.append(course.measure("measure", measured))
                if stop_after == number:
                    break
        return seen, computed

    whole, _ = run(tmp_path / "whole")
    run(tmp_path / "parts", stop_after=1)
    resumed, computed = run(tmp_path / "parts")
    assert resumed == whole
    assert computed == 1
    assert run(tmp_path / "parts") == (whole, 0)
