"""Each method does what it claims, on a tiny model, and goes on from its folder as if never stopped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_training
import tiny_world
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from tiny_training import distinct_rows, row
from transformers import AutoModelForCausalLM

from instruction_vectors.continual.cell import Cell, grid
from instruction_vectors.continual.course import Course
from instruction_vectors.continual.guides import guide_named
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.continual.method import Method
from instruction_vectors.continual.methods import method_named, methods
from instruction_vectors.continual.methods.corda import least_used
from instruction_vectors.continual.methods.ewc import EWC
from instruction_vectors.continual.methods.inscl import shares, wasserstein
from instruction_vectors.continual.runner import Runner
from instruction_vectors.continual.stage import StageConfig, StageTrainer, train_stage
from instruction_vectors.errors import IVError, ModelError, TrainingError
from instruction_vectors.models.adapters import complete, has_adapters
from instruction_vectors.models.loading import model_fingerprint
from instruction_vectors.training.collator import TreeCollator
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.objectives import language_model_loss
from instruction_vectors.training.packed import packed_trainer
from instruction_vectors.training.targets import Targets, model_inputs
from instruction_vectors.training.views import original

STAGE = StageConfig(epochs=1, learning_rate=1e-2, batch_size=4, rank=2, lora_alpha=4)
FIRST, SECOND = distinct_rows(), [row([1, 5 + i, 11, 6], [25 - i, 12]) for i in range(8)]
TOGETHER = ["olora+anchors", "osf+steered_anchors", "replay+zero_shot_anchors"]
"""Methods with anchors of another among their rows."""
GENERAL = [row([2, 3 + i, 4 + i % 3], [5]) for i in range(20)]


def base() -> Any:
    return tiny.model("llama", dtype=torch.float32)


def made(name: str, stage: StageConfig = STAGE, **settings: float) -> Method:
    method = method_named(name)(stage, settings)
    method.instructions, method.anchors = GENERAL, GENERAL[:4]
    return method


def train(method: Method, number: int, rows: Sequence[Any], folder: Path) -> None:
    train_stage(method.model, method.begin(number, rows), method.stage, folder=folder, penalty=method.penalty)
    method.end(number, rows)


def trained(name: str, folder: Path) -> Method:
    method = made(name)
    method.attach(base())
    train(method, 1, FIRST, folder)
    train(method, 2, SECOND, folder)
    return method


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 9, device=model.device)[None]).logits.cpu()


@pytest.mark.parametrize("name", [*sorted(methods()), *TOGETHER])
def test_a_method_learns_goes_on_from_its_folder_and_leaves_the_base_as_it_was(name: str, tmp_path: Path) -> None:
    untouched = logits(base())
    whole = trained(name, tmp_path)
    assert not torch.allclose(logits(whole.model), untouched, atol=1e-4)

    first = made(name)
    model = base()
    first.attach(model)
    train(first, 1, FIRST, tmp_path)
    first.save(tmp_path / "state")
    first.detach()
    assert torch.equal(logits(model), untouched)
    second = made(name)
    second.restore(model, tmp_path / "state")
    train(second, 2, SECOND, tmp_path)
    assert torch.equal(logits(second.model), logits(whole.model))


@pytest.mark.parametrize("name", [*sorted(methods()), *TOGETHER])
def test_a_trained_model_in_weights_of_its_own_answers_as_it_was_measured(name: str, tmp_path: Path) -> None:
    method = trained(name, tmp_path)
    with method.evaluating() as model:
        measured = logits(model.eval())
    whole = method.merged()
    assert not has_adapters(whole)
    assert {name for name, _ in whole.named_parameters()} == {name for name, _ in base().named_parameters()}
    whole.save_pretrained(tmp_path / "whole")
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "whole")), measured, rtol=1e-4, atol=1e-5)


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


def guided(folder: Path, name: str, stop_after: int | None = None) -> list[Any]:
    """Two tasks, each under its vector: the loss on its rows before and after, and where training ended."""
    base_model, found = base(), []
    vectors = {task: tiny_training.vector(base_model, seed) for seed, task in enumerate(("first", "second"))}
    method = made(name)
    with Ledger(folder, {}) as ledger, Course(ledger, name, base_model, method) as course:
        for number, (task, rows) in enumerate((("first", FIRST), ("second", SECOND)), start=1):
            vector, guidance = guide_named("iv")(task, vectors, IVGuidanceConfig())
            before = course.measure(f"before {task}", lambda model, rows=rows: loss_on(model, rows))
            course.train(task, rows, vector=vector, guidance=guidance)
            found.append(
                (before, *course.measure("after", lambda model, rows=rows: [loss_on(model, rows), logits(model).tolist()]))
            )
            if number == stop_after:
                break
    return found


def loss_on(model: Any, rows: Sequence[Mapping[str, Any]]) -> float:
    batch = TreeCollator(model)(rows)
    targets = Targets.of(batch)
    with torch.no_grad():
        said = model(**model_inputs(batch)).logits[targets.places][targets.rows]
    return float(language_model_loss(said, targets.tokens, len(targets.tokens)))


@pytest.mark.parametrize("name", [*sorted(methods()), *TOGETHER])
def test_a_method_learns_under_guidance_and_goes_on_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    whole = guided(tmp_path / "whole", name)
    assert all(after < before for before, after, _ in whole)
    guided(tmp_path / "parts", name, stop_after=1)
    assert guided(tmp_path / "parts", name) == whole


@pytest.mark.parametrize("name", [*sorted(methods()), *TOGETHER])
def test_the_teacher_of_a_method_is_the_original_model_before_and_after_it_has_trained(name: str, tmp_path: Path) -> None:
    method, untouched = made(name), base()
    method.attach(base())
    vector = tiny_training.vector(untouched)
    batch = TreeCollator(untouched)(FIRST)
    targets = Targets.of(batch)
    with torch.no_grad(), vector.applied(untouched, positions=targets.starts[""]):
        expected = untouched(**model_inputs(batch)).logits[targets.places][targets.answers]

    def parts_and_teacher() -> tuple[dict[str, float], torch.Tensor]:
        options = {"per_device_train_batch_size": len(FIRST)}
        trainer = packed_trainer(StageTrainer, method.model, FIRST, tmp_path, seed=0, options=options, vector=vector)
        with torch.no_grad():
            trainer.compute_loss(method.model, batch)
        return trainer.last_parts, trainer.teacher.logits(batch, targets, targets.answers)

    parts, said = parts_and_teacher()
    assert parts["scale"] == 1
    assert parts["kl"] == pytest.approx(0, abs=1e-6)  # student and teacher: the original under the vector, whatever lies over it
    torch.testing.assert_close(said, expected, rtol=1e-4, atol=1e-4)
    train(method, 1, FIRST, tmp_path)
    parts, said = parts_and_teacher()
    assert parts["kl"] > 1e-5
    torch.testing.assert_close(said, expected, rtol=1e-4, atol=1e-4)
    with original(method.model):
        assert torch.equal(logits(method.model), logits(untouched))


def test_olora_learns_in_a_subspace_orthogonal_to_the_old_one_and_inclora_does_not(tmp_path: Path) -> None:
    def second_task(name: str) -> Any:
        method = made(name)
        method.attach(base())
        train(method, 1, FIRST, tmp_path)
        method.stage = replace(STAGE, epochs=60)
        train(method, 2, SECOND, tmp_path)
        return method

    def layers(method: Any) -> list[Any]:
        return [m.lora_A for m in method.model.modules() if isinstance(m, LoraLayer)]

    def cosine(method: Any) -> float:
        """Of the smallest angle between the old and the new subspace, over all layers: 0 where they are orthogonal."""
        spans = [[torch.linalg.qr(a[each].weight.detach().T).Q for each in ("default", "task2")] for a in layers(method)]
        return max(float(torch.linalg.matrix_norm(old.T @ new, 2)) for old, new in spans)

    free, orthogonal = second_task("inclora"), second_task("olora")
    assert cosine(orthogonal) < 0.01
    assert cosine(free) > 0.3
    overlap = sum((a["default"].weight @ a["task2"].weight.T).abs().sum() for a in layers(free))
    free.strength = 0.5
    torch.testing.assert_close(method_named("olora").penalty(free), 0.5 * overlap)
    assert loss_on(orthogonal.model, SECOND) < 0.5 * loss_on(base(), SECOND)


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


def test_mix_in_without_instructions_is_not_plain_training() -> None:
    method = method_named("mix_in")(STAGE)
    method.attach(base())
    with pytest.raises(TrainingError, match="needs general instructions"):
        method.begin(1, FIRST)


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


@pytest.mark.parametrize("name", [*sorted(methods()), *TOGETHER])
def test_the_folder_a_method_leaves_opens_as_the_model_that_was_measured(name: str, tmp_path: Path) -> None:
    method = trained(name, tmp_path)
    with method.evaluating() as model:
        measured = logits(model)
    assert (measured - logits(base())).abs().max() > 1e-3
    method.save(tmp_path / "kept")
    method.detach()
    opened = PeftModel.from_pretrained(base(), str(tmp_path / "kept"))
    if name.startswith("osf"):
        with pytest.raises(ModelError, match="the last task's part alone"):
            complete(opened, tmp_path / "kept")
    else:
        torch.testing.assert_close(logits(complete(opened, tmp_path / "kept").eval()), measured, rtol=0, atol=1e-5)


def test_osf_protects_what_the_task_before_learnt_and_keeps_the_original(tmp_path: Path) -> None:
    untouched, model = base(), base()
    method = method_named("osf")(STAGE)
    method.attach(model)
    fingerprint = model_fingerprint(model)
    for number in (1, 2):
        before = logits(method.model)
        method.begin(number, FIRST)
        torch.testing.assert_close(logits(method.model), before, rtol=0, atol=1e-4)
        with torch.no_grad():
            for weight in method.trainable().values():
                weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)))
        method.end(number, FIRST)
    learnt = logits(method.model)
    assert (learnt - logits(untouched)).abs().max() > 0.01
    # The second task's protected directions are those of the matrix as the first task left it.
    layer = next(m for n, m in method.model.named_modules() if n.endswith("layers.0.self_attn.q_proj"))
    matrix = layer.get_base_layer().weight
    low = torch.linalg.svd(matrix)[0][:, min(matrix.shape) // 2 :]
    kept = layer._osf_U_low_init["default"]
    torch.testing.assert_close(kept @ kept.T, low @ low.T, rtol=0, atol=1e-4)
    assert (matrix - untouched.get_submodule("model.layers.0.self_attn.q_proj").weight).abs().max() > 0.01
    with torch.no_grad(), method.model.disable_adapter():
        torch.testing.assert_close(logits(method.model), logits(untouched), rtol=0, atol=1e-6)
    assert model_fingerprint(model) == fingerprint
    method.save(tmp_path)
    again = method_named("osf")(STAGE)
    again.restore(base(), tmp_path)
    torch.testing.assert_close(logits(again.model), learnt, rtol=0, atol=1e-5)
    for each in (method, again):
        each.begin(3, FIRST)
    for (name, mine), (_, other) in zip(method.trainable().items(), again.trainable().items(), strict=True):
        assert torch.equal(mine, other), name
    method.detach()
    torch.testing.assert_close(logits(model), logits(untouched), rtol=0, atol=0)
    assert dict(model.named_parameters()).keys() == dict(untouched.named_parameters()).keys()


def test_corda_begins_at_the_original_with_what_general_instructions_use_least() -> None:
    method = made("corda")
    method.attach(base())
    torch.testing.assert_close(logits(method.model), logits(base()), rtol=1e-4, atol=1e-4)
    assert all(".default." in name for name in method.trainable())
    name, untouched = "layers.1.self_attn.q_proj", base()
    layer = next(m for n, m in method.model.named_modules() if n.endswith(name))
    inputs: list[torch.Tensor] = []
    untouched.model.get_submodule(name).register_forward_pre_hook(lambda module, args: inputs.append(args[0][0]))
    with torch.no_grad():
        for each in GENERAL:
            untouched(input_ids=torch.tensor([each["input_ids"][:-1]]))
    seen = torch.cat(inputs).double()
    moment = seen.T @ seen / len(seen)
    moment += 0.01 * moment.diagonal().mean() * torch.eye(len(moment))
    weight = layer.get_base_layer().weight.double()
    values = torch.linalg.svdvals(weight @ moment)
    start = layer.get_delta_weight("default").double()
    torch.testing.assert_close(torch.linalg.matrix_norm(start @ moment), values[-2:].norm(), rtol=1e-3, atol=0)
    torch.testing.assert_close(torch.linalg.svdvals((weight - start) @ moment)[:-2], values[:-2], rtol=1e-3, atol=0)
    torch.testing.assert_close(layer.get_delta_weight("start"), -layer.get_delta_weight("default"))
    plain = made("corda")
    plain.instructions = ()
    with pytest.raises(TrainingError, match="needs general instructions"):
        plain.attach(base())


def test_the_least_used_part_of_a_weight_by_hand() -> None:
    weight, moment = torch.diag(torch.tensor([3.0, 2.0, 1.0])), torch.diag(torch.tensor([0.1, 1.0, 1.0])).double()
    up, down = least_used(weight, moment, 1)  # 3 weighs 0.3 where it is read a tenth as much
    torch.testing.assert_close(up @ down, torch.diag(torch.tensor([3.0, 0.0, 0.0])).double())


@pytest.mark.parametrize("tied", [False, True])
def test_full_trains_every_weight_and_gives_the_original_back(tied: bool, tmp_path: Path) -> None:
    model = tiny.model("llama", dtype=torch.float32, tie_word_embeddings=tied)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    method = made("full")
    method.attach(model)
    assert sum(weight.numel() for weight in method.trainable().values()) == sum(weight.numel() for weight in before.values())
    train(method, 1, FIRST, tmp_path)
    said = logits(method.model)
    weights = {
        n.replace(".ln_tuning_layers.default", "").removeprefix("base_model.model."): p for n, p in method.trainable().items()
    }
    assert weights.keys() == before.keys()
    assert all((weights[name] - before[name]).abs().max() > 1e-3 for name in before)
    method.save(tmp_path / "state")
    method.detach()
    assert {name: weight.shape for name, weight in model.named_parameters()} == {n: w.shape for n, w in before.items()}
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    again = made("full")
    again.restore(model, tmp_path / "state")
    assert torch.equal(logits(again.model), said)
    assert again.trainable().keys() == method.trainable().keys()


def test_full_refuses_weights_that_round_small_steps_away() -> None:
    with pytest.raises(TrainingError, match=r"torch\.bfloat16: take float32"):
        made("full").check(tiny.model("llama", dtype=torch.bfloat16))


def test_full_refuses_modules_whose_weights_peft_does_not_copy() -> None:
    with pytest.raises(TrainingError, match=r"a weight and a bias; model\.layers\.0\.mlp\.\S+ holds \w+, \w+"):
        made("full").check(tiny.model("mixtral", dtype=torch.float32))


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


def test_a_share_that_freezes_every_layer_is_refused() -> None:
    with pytest.raises(TrainingError, match="freezes all 3 layers"):
        made("frozen_bottom", share=0.9).check(base())


@pytest.mark.parametrize("share", [1, 0.01])
def test_osf_refuses_a_share_that_leaves_nothing_to_keep_or_to_train(share: float) -> None:
    with pytest.raises(TrainingError, match=r"keeps (32 of model|0 of model)\.layers\.0\.self_attn\.[qv]_proj's \d+ directions"):
        made("osf", share=share).check(base())


def test_target_modules_that_the_model_has_not_are_refused_whatever_others_it_has() -> None:
    stage = replace(STAGE, target_modules=("q_proj", "c_attn", "nothing"))
    with pytest.raises(TrainingError, match="the model has no module 'c_attn', 'nothing'; name"):
        made("replay", stage).check(base())
    with pytest.raises(TrainingError, match=r"'osf' decomposes linear layers, and transformer\.h\.0\.attn\.c_attn is a Conv1D"):
        made("osf", replace(STAGE, target_modules=("c_attn",))).check(tiny.model("gpt2", dtype=torch.float32))


def test_experts_under_the_names_that_they_had_before_they_were_joined_are_found() -> None:
    stage = replace(STAGE, target_modules=("q_proj", "w1", "w2", "w3"))
    method = made("sequential", stage)
    method.check(tiny.model("mixtral", dtype=torch.float32))
    method.attach(tiny.model("mixtral", dtype=torch.float32))
    assert any("experts" in name for name in method.trainable())


def test_osf_over_weights_of_half_the_size_trains_in_float32_and_keeps_its_gradients_where_they_belong(tmp_path: Path) -> None:
    def half() -> Any:
        return tiny.model("llama", dtype=torch.bfloat16)

    whole = made("osf")
    whole.attach(half())
    for number, rows in ((1, FIRST), (2, SECOND)):
        train(whole, number, rows, tmp_path)
        assert {weight.dtype for weight in whole.trainable().values()} == {torch.float32}
        for _, layer in whole._layers():
            low = layer.osf_svd_params["default"]
            kept = layer._osf_U_low_init["default"]  # square: what is left of it is the leading directions
            for weight in low.values():
                weight.grad = None
            low["U_low"].sum().backward()
            stray = low["U_low"].grad - kept @ (kept.T @ low["U_low"].grad)
            assert stray.norm() < 0.05 * low["U_low"].grad.norm()
        if number == 1:
            whole.save(tmp_path / "state")
    model = half()
    again = made("osf")
    again.restore(model, tmp_path / "state")
    train(again, 2, SECOND, tmp_path)
    assert torch.equal(logits(again.model), logits(whole.model))
    again.detach()
    assert torch.equal(logits(model), logits(half()))


def cell(**settings: Any) -> Cell:
    return Cell("shipped", "sentiment-word", **settings)


def test_settings_of_a_method_are_those_it_names_and_reach_it() -> None:
    assert made("ewc").chosen() == {"strength": 4000.0, "examples": 64}
    assert made("ewc", strength="4e2").chosen() == {"strength": 400.0, "examples": 64}  # as YAML reads it
    assert made("inscl").chosen() == {"memory": 50, "embedded": 32}
    assert made("sequential").chosen() == {}
    replay = made("replay", memory=3)
    replay.attach(base())
    replay.end(1, FIRST)
    assert len(replay.begin(2, SECOND)) == len(SECOND) + 3
    for name, method in methods().items():
        assert made(name, **{each: getattr(method, each) for each in method.settings}).chosen() == made(name).chosen()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ewc": {"lambda": 1}}, "unknown settings under method_settings.ewc: lambda; there are strength, examples"),
        ({"sequential": {"memory": 1}}, "method 'sequential' has no settings"),
        ({"oops": {"memory": 1}}, "unknown method 'oops'"),
        ({"ewc": {"examples": 1.5}}, "method_settings.ewc.examples: expected int, got 1.5"),
        ({"ewc": {"strength": 0}}, "method_settings.ewc.strength must be a number above 0, got 0"),
        ({"averaging": {"share": 20}}, "method_settings.averaging.share is a part of the whole, at most 1, got 20"),
        ({"osf": {"share": 1.5}}, "method_settings.osf.share is a part of the whole"),
        ({"ewc": {"strength": float("nan")}}, "must be a number above 0, got nan"),
        ({"ewc": 4}, "method_settings.ewc: expected settings by name, got 4"),
        ({"memory": 4}, "unknown method 'memory'"),
        ([1], "method_settings: expected settings by method"),
    ],
)
def test_other_settings_of_a_method_are_refused(given: Any, message: str) -> None:
    with pytest.raises(IVError, match=message):
        Cell.of({"benchmark": "shipped", "sequence": "a", "method": "ewc", "method_settings": given})


def test_cells_with_other_settings_have_other_names_and_those_left_as_they_are_the_old_ones() -> None:
    plain = cell(method="ewc")
    names = {cell(method="ewc", method_settings={"ewc": {"strength": value}}).name for value in (400, 400.00001, 40)}
    assert len(names | {plain.name}) == 4
    assert "shipped-sentiment-word/ewc-strength=400-lr0.001-e2-s0" in names
    for same in ({}, {"ewc": {}}, {"ewc": {"strength": 4000}}, {"replay": {"memory": 3}}):
        other = cell(method="ewc", method_settings=same)
        assert (other.name, other.resolved()) == (plain.name, plain.resolved())
    # What was written before there were settings is still that cell.
    assert "method_settings" not in plain.resolved()
    assert Cell.of(plain.resolved()) == plain


def test_a_cell_runs_with_its_settings_writes_them_and_shares_what_plain_cells_share(tmp_path: Path) -> None:
    model = tiny_world.save(tmp_path / "model")
    given = tiny_world.cell(model, method="replay", method_settings={"replay": {"memory": 2}})
    for each, memory in ((given, 2), (replace(given, method_settings={}), 50)):
        result = Runner(tmp_path).run(each)
        assert result["method_settings"] == {"memory": memory}
        assert Cell.of(result["cell"]) == each
        steps = [json.loads(p.read_text()) for p in (Runner(tmp_path).folder(each) / "steps").glob("train_*.json")]
        assert sorted(step["value"]["rows"] for step in steps) == [8, 8 + min(memory, 8)]
    assert len(list((tmp_path / "shared").iterdir())) == 1


def test_settings_by_method_stay_with_their_method_through_a_grid() -> None:
    given = {"ewc": {"strength": 400}, "replay": {"memory": 3}}
    ewc, replay, plain = grid(cell(method_settings=given), methods=["ewc", "replay", "sequential"])
    assert ewc.resolved()["method_settings"] == {"ewc": {"strength": 400.0}}
    assert Cell.of(ewc.resolved()).own_settings == {"strength": 400.0}
    assert replay.own_settings == {"memory": 3}
    assert "method_settings" not in plain.resolved()


def test_an_unknown_method_is_named_with_those_there_are() -> None:
    with pytest.raises(IVError, match=r"unknown method 'oops'.*ewc.*sequential"):
        method_named("oops")


def test_anchors_go_among_the_rows_of_another_method_that_keeps_its_own_way(tmp_path: Path) -> None:
    together = made("replay+steered_anchors", memory=3)
    assert (together.name, together.chosen()) == ("replay+steered_anchors", {"memory": 3, "anchors_share": 0.25})
    assert (together.anchors_shots, together.anchors_steered, together.keeps_rows) == (0, True, True)
    together.attach(base())
    together.end(1, FIRST)
    began = together.begin(2, SECOND)
    assert (began[:8], began[11:]) == (SECOND, GENERAL[:4])
    assert all(each in FIRST for each in began[8:11])
    # With no anchors to add it is the other method, to the bit.
    alone, without = trained("osf", tmp_path), made("osf+anchors")
    without.anchors = []
    without.attach(base())
    train(without, 1, FIRST, tmp_path)
    train(without, 2, SECOND, tmp_path)
    assert torch.equal(logits(alone.model), logits(without.model))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("oops+anchors", "unknown method 'oops'; there are anchors, averaging"),
        ("osf+oops", "unknown method 'oops'"),
        ("osf+replay", r"what follows the \+ of a method is one of anchors, steered_anchors, zero_shot_anchors, got 'replay'"),
        ("anchors+steered_anchors", "method 'anchors' makes anchors already, so 'steered_anchors' cannot be put over it"),
        ("osf+anchors+anchors", "'anchors' makes anchors already"),
        ("sequential+anchors", "'anchors' over 'sequential' is the method 'anchors' itself"),
        ("osf+", "unknown method ''"),
    ],
)
def test_methods_that_do_not_go_together_are_refused(name: str, message: str) -> None:
    with pytest.raises(IVError, match=message):
        method_named(name)


def test_a_cell_of_two_methods_together_has_the_settings_of_both_and_reads_back() -> None:
    name = "osf+steered_anchors"
    given = cell(
        method=name, guide="anchors_iv", method_settings={name: {"share": 0.75, "anchors_share": 0.5}, "osf": {"share": 0.3}}
    )
    assert given.name == "shipped-sentiment-word/osf+steered_anchors-share=0.75-anchors_share=0.5+anchors_iv-lr0.001-e2-s0"
    assert Cell.of(given.resolved()).own_settings == {"share": 0.75, "anchors_share": 0.5}
    with pytest.raises(IVError, match="is a part of the whole, at most 1, got 2"):
        cell(method=name, method_settings={name: {"share": 2}})


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
