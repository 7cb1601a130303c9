"""Guided training on a tiny adapted model, against oracles that run the models themselves."""

import copy
from contextlib import nullcontext

import pytest
import tiny
import tiny_training as kit
import torch
import torch.nn.functional as F
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback

from instruction_vectors.errors import TrainingError, VectorError
from instruction_vectors.training.collator import KeepsNames, TreeCollator
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.targets import Targets
from instruction_vectors.training.teacher import Teacher
from instruction_vectors.training.trainers import IVTrainer
from instruction_vectors.vectors.vector import InstructionVector

OFF = IVGuidanceConfig(kl_weight=0.0, sign=0)
OFF_KL = IVGuidanceConfig(kl_weight=0.0)
ROWS = kit.distinct_rows(8)
TOLERANCE = 1e-6  # the tiny Llama normalises in single precision


class Forgetful(TrainerCallback):
    """Notes something about the trainer at the end of every epoch."""

    def __init__(self):
        self.noted = []

    def on_epoch_end(self, args, state, control, **kwargs):
        self.noted.append(self.note())


def answer_logits(model, row, *, vector=None, scale=1.0, mode="distributed"):
    """Next-token logits before every label of one row, run alone; the vector goes in before the first label."""
    ids = torch.tensor([row["input_ids"]])
    first = next(i for i, label in enumerate(row["labels"]) if label != -100)
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[0, first - 1] = True
    with vector.applied(model, mode=mode, scale=scale, positions=where) if vector else nullcontext():
        return model(input_ids=ids).logits[0, first - 1 : -1]


def expected_loss(model, rows, vectors, config):
    """The guided loss worked out row by row: L_LM of the steered student plus λ times the KL to the steered base."""
    nats, divergences = [], []
    for row in rows:
        vector = vectors[row["vector"]]
        student = answer_logits(model, row, vector=vector if config.sign else None, scale=config.sign, mode=config.mode)
        labels = torch.tensor([label for label in row["labels"] if label != -100])
        nats.append(F.cross_entropy(student, labels, reduction="none"))
        if not config.kl_weight:
            continue
        with model.disable_adapter(), torch.no_grad():
            teacher = answer_logits(model, row, vector=vector, scale=config.teacher_scale, mode=config.mode)
        kept = slice(1) if config.kl_positions == "last_input" else slice(None)
        p, q = ((x[kept] / config.temperature).softmax(-1) for x in (student, teacher))
        p, q = (p, q) if config.kl_direction == "student_teacher" else (q, p)
        divergences.append((p * (p.log() - q.log())).sum(-1))
    if not config.kl_weight:
        return torch.cat(nats).mean()
    divergence = (torch.cat(divergences) - config.kl_threshold).clamp(min=0) if config.kl_threshold else torch.cat(divergences)
    return torch.cat(nats).mean() + config.kl_weight * divergence.mean()


def test_with_no_weight_and_no_sign_training_is_plain_training_bit_for_bit(tmp_path):
    runs = []
    for vector in (True, False):
        model = kit.adapted()
        given = {"vector": kit.vector(model), "guidance": OFF} if vector else {}
        trainer = kit.trainer(model, tmp_path, ROWS, num_train_epochs=2, data_collator=TreeCollator(model), **given)
        trainer.train()
        runs.append((kit.losses(trainer), kit.adapter_weights(model)))
    (guided, its_weights), (plain, weights) = runs
    assert guided == plain
    assert len(plain) == 4
    assert all(torch.equal(its_weights[name], weights[name]) for name in weights)
    assert any(not torch.equal(weights[name], w) for name, w in kit.adapter_weights(kit.adapted()).items())


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_plain_training_has_the_losses_and_weights_of_the_stock_trainer(tmp_path, packed, accumulation):
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": accumulation}
    stock_model, model = kit.adapted(), kit.adapted()
    stock = Trainer(model=stock_model, args=kit.arguments(tmp_path, **settings), train_dataset=ROWS, data_collator=kit.padded)
    stock.train()
    ours = kit.trainer(model, tmp_path, ROWS, data_collator=TreeCollator(model) if packed else kit.padded, **settings)
    ours.train()
    assert kit.losses(ours) == pytest.approx(kit.losses(stock), abs=1e-4)
    assert len(kit.losses(ours)) == 8 // accumulation
    for name, weight in kit.adapter_weights(stock_model).items():
        torch.testing.assert_close(kit.adapter_weights(model)[name], weight, rtol=0, atol=1e-4)


GUIDED = {
    "default": IVGuidanceConfig(),
    "answer positions": IVGuidanceConfig(kl_positions="answer"),
    "teacher to student": IVGuidanceConfig(kl_direction="teacher_student", temperature=1.0),
    "minus": IVGuidanceConfig(sign=-1, kl_weight=0.3),
    "teacher only": IVGuidanceConfig(sign=0),
    "plain teacher": IVGuidanceConfig(sign=0, teacher_scale=0.0, kl_weight=2.0),
    "hinge": IVGuidanceConfig(kl_threshold=0.05, kl_positions="answer"),
    "replace": IVGuidanceConfig(mode="replace"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("name", GUIDED)
def test_the_first_guided_loss_is_the_language_model_loss_plus_the_weighted_kl(tmp_path, name, packed):
    model, config = kit.adapted(), GUIDED[name]
    vector = kit.vector(model)
    rows = [*kit.distinct_rows(3), kit.row([1, 30, 31], [9, 9, 10]), kit.row([1, 30, 31], [12])]
    trainer = kit.trainer(model, tmp_path, rows, vector=vector, guidance=config)
    batch = TreeCollator(model)(rows) if packed else kit.padded(rows)
    loss = trainer.compute_loss(model, batch)
    expected = expected_loss(model, rows, {"": vector}, config)
    assert loss.item() == pytest.approx(expected.item(), abs=TOLERANCE)
    plain = kit.trainer(model, tmp_path, rows).compute_loss(model, batch)
    assert abs(loss.item() - plain.item()) > 1e-3


def test_the_guided_gradient_is_that_of_the_oracle(tmp_path):
    model, config = kit.adapted(), GUIDED["answer positions"]
    vector, rows = kit.vector(model), kit.distinct_rows(4)
    weights = [w for w in model.parameters() if w.requires_grad]
    trainer = kit.trainer(model, tmp_path, rows, vector=vector, guidance=config)
    got = torch.autograd.grad(trainer.compute_loss(model, TreeCollator(model)(rows)), weights)
    want = torch.autograd.grad(expected_loss(model, rows, {"": vector}, config), weights)
    assert max(float(w.abs().max()) for w in want) > 1e-2
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=0, atol=1e-5)


def test_rows_with_unlike_vectors_in_one_batch_are_each_guided_by_their_own(tmp_path):
    model = kit.adapted()
    vectors = {"a": kit.vector(model, 1), "b": kit.vector(model, 2)}
    rows = [kit.row([1, 4, 5, 6], [7, 8], "a"), kit.row([1, 4, 5, 6], [7, 8], "b"), kit.row([1, 9], [10], "a")]
    config = IVGuidanceConfig()
    trainer = kit.trainer(model, tmp_path, rows, vector=vectors, guidance=config)
    loss = trainer.compute_loss(model, TreeCollator(model)(rows))
    assert loss.item() == pytest.approx(expected_loss(model, rows, vectors, config).item(), abs=TOLERANCE)
    swapped = expected_loss(model, rows, {"a": vectors["b"], "b": vectors["a"]}, config).item()
    assert abs(loss.item() - swapped) > 1e-3


def test_a_row_that_asks_for_a_vector_nobody_gave_is_refused(tmp_path):
    model = kit.adapted()
    rows = [kit.row([1, 4], [5], "missing")]
    trainer = kit.trainer(model, tmp_path, rows, vector={"a": kit.vector(model)})
    with pytest.raises(TrainingError, match="asks for the vector 'missing'; there are \\['a'\\]"):
        trainer.compute_loss(model, TreeCollator(model)(rows))


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_rows_whose_name_has_no_vector_are_trained_plainly_beside_guided_ones(tmp_path, packed):
    model, config = kit.adapted(), IVGuidanceConfig()
    mine = kit.vector(model)
    rows = [{**row, "vector": "held" if i % 2 else ""} for i, row in enumerate(kit.distinct_rows(5))]
    trainer = kit.trainer(model, tmp_path, rows, vector={"": None, "held": mine}, guidance=config)
    collate = TreeCollator(model) if packed else KeepsNames(kit.padded)
    loss = trainer.compute_loss(model, collate(rows))
    held, plain = rows[1::2], rows[::2]
    divergence = expected_loss(model, held, {"held": mine}, config) - expected_loss(model, held, {"held": mine}, OFF_KL)
    nats = [
        sum(len(row["labels"]) - row["labels"].count(-100) for row in part) * expected_loss(model, part, vectors, how)
        for part, vectors, how in ((held, {"held": mine}, OFF_KL), (plain, {"": None}, OFF))
    ]
    labels = sum(label != -100 for row in rows for label in row["labels"])
    assert loss.item() == pytest.approx((sum(nats) / labels + divergence).item(), abs=TOLERANCE)
    everywhere = kit.trainer(model, tmp_path, rows, vector=mine, guidance=config).compute_loss(model, collate(rows))
    assert abs(loss.item() - everywhere.item()) > 1e-3
    alone = trainer.compute_loss(model, collate(plain))
    assert alone.item() == kit.trainer(model, tmp_path, plain).compute_loss(model, collate(plain)).item()


def test_every_row_needs_a_vector_where_every_answer_token_is_compared(tmp_path):
    model = kit.adapted()
    with pytest.raises(TrainingError, match="give every row a vector"):
        kit.trainer(model, tmp_path, ROWS, vector={"": None}, guidance=GUIDED["answer positions"])


def test_the_teacher_runs_in_the_first_epoch_only(tmp_path):
    model = kit.adapted()
    watch = Forgetful()
    trainer = kit.trainer(model, tmp_path, ROWS, num_train_epochs=3, vector=kit.vector(model), callbacks=[watch])
    watch.note = lambda: (trainer.teacher.forwards, len(trainer.teacher))
    trainer.train()
    assert watch.noted == [(2, 8), (2, 8), (2, 8)]


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_what_the_teacher_remembers_is_what_it_would_say_again_whatever_the_student_learnt(tmp_path, packed):
    model = kit.adapted()
    vector = kit.vector(model)
    collate = TreeCollator(model) if packed else kit.padded
    trainer = kit.trainer(
        model, tmp_path, ROWS, vector=vector, data_collator=collate, guidance=IVGuidanceConfig(kl_positions="answer"),
        num_train_epochs=2,
    )  # fmt: skip
    trainer.train()
    batch = collate(ROWS)
    targets = Targets.of(batch)
    known = trainer.teacher.forwards
    remembered = trainer.teacher.logits(batch, targets, targets.rows)
    assert trainer.teacher.forwards == known
    with model.disable_adapter(), torch.no_grad():
        again = torch.cat([answer_logits(model, row, vector=vector) for row in ROWS])
    torch.testing.assert_close(remembered, again, rtol=0, atol=1e-5)


def test_the_teacher_tells_apart_equal_texts_whose_answers_begin_elsewhere(tmp_path):
    model = kit.adapted()
    early, late = kit.row([1, 4], [5, 6, 7]), kit.row([1, 4, 5], [6, 7])
    vector = kit.vector(model)
    trainer = kit.trainer(model, tmp_path, [early], vector=vector, guidance=IVGuidanceConfig(kl_positions="answer"))
    for row in (early, late):
        batch = kit.padded([row])
        targets = Targets.of(batch)
        said = trainer.teacher.logits(batch, targets, targets.rows)
        with model.disable_adapter(), torch.no_grad():
            torch.testing.assert_close(said, answer_logits(model, row, vector=vector), rtol=0, atol=1e-5)


def gradient_of_one_window(tmp_path, micro, config, rows=ROWS):
    """What one optimizer step over all rows changes, by plain descent at rate 1: the gradient."""
    model = kit.adapted()
    given = {"vector": kit.vector(model), "guidance": config} if config else {}
    trainer = kit.trainer(
        model,
        tmp_path,
        rows,
        data_collator=TreeCollator(model),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=len(rows) // micro,
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        weight_decay=0.0,
        **given,
    )
    before = kit.adapter_weights(model)
    trainer.train()
    (loss,) = kit.losses(trainer)
    return loss, {name: before[name] - weight for name, weight in kit.adapter_weights(model).items()}


@pytest.mark.parametrize(
    "config",
    [None, IVGuidanceConfig(), IVGuidanceConfig(kl_positions="answer", schedule="constant")],
    ids=["plain", "last input token", "answer tokens"],
)
def test_loss_and_gradient_do_not_depend_on_how_a_window_is_cut_into_micro_batches(tmp_path, config):
    loss, gradient = gradient_of_one_window(tmp_path, 8, config)
    assert max(float(g.abs().max()) for g in gradient.values()) > 1e-2
    for micro in (4, 2):
        its_loss, its_gradient = gradient_of_one_window(tmp_path, micro, config)
        assert its_loss == pytest.approx(loss, abs=1e-5)
        for name, want in gradient.items():
            torch.testing.assert_close(its_gradient[name], want, rtol=0, atol=1e-5)


def test_activation_checkpointing_changes_nothing(tmp_path):
    weights = []
    for checkpointing in (False, True):
        model = kit.adapted()
        trainer = kit.trainer(
            model,
            tmp_path,
            ROWS,
            vector=kit.vector(model),
            gradient_checkpointing=checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
        trainer.train()
        weights.append(kit.adapter_weights(model))
    for name, want in weights[0].items():
        torch.testing.assert_close(weights[1][name], want, rtol=0, atol=1e-6)


def test_the_vector_comes_off_after_every_step(tmp_path):
    model = kit.adapted()
    trainer = kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model), guidance=IVGuidanceConfig(schedule="constant"))
    trainer.train()
    after = copy.deepcopy(model)
    ids = torch.tensor([[1, 4, 5, 6]])
    for module in after.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()
    torch.testing.assert_close(model(input_ids=ids).logits, after(input_ids=ids).logits, rtol=0, atol=0)


def test_evaluation_is_of_the_model_as_it_will_be_used(tmp_path):
    model = kit.adapted()
    vector = kit.vector(model)
    trainer = kit.trainer(model, tmp_path, ROWS, vector=vector, gradient_accumulation_steps=2, per_device_eval_batch_size=8)
    before = trainer.evaluate(eval_dataset=ROWS)["eval_loss"]
    assert before == pytest.approx(expected_loss(model, ROWS, {"": vector}, OFF).item(), abs=1e-5)
    assert trainer.teacher.forwards == 0
    trainer.train()
    assert trainer.teacher.forwards > 0
    after = trainer.evaluate(eval_dataset=ROWS)["eval_loss"]
    assert after == pytest.approx(expected_loss(model, ROWS, {"": vector}, OFF).item(), abs=1e-5)
    # A step of training between evaluations is guided.
    guided = trainer.compute_loss(model, trainer.data_collator(ROWS)).item()
    assert guided == pytest.approx(expected_loss(model, ROWS, {"": vector}, IVGuidanceConfig(sign=0)).item(), abs=1e-5)


def test_asking_the_teacher_leaves_frozen_adapters_frozen(tmp_path):
    model = kit.adapted()
    frozen = [w for name, w in model.named_parameters() if "layers.0" in name and "lora_" in name]
    for weight in frozen:
        weight.requires_grad_(False)
    kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model)).train()
    assert frozen
    assert not any(w.requires_grad for w in frozen)
    assert all(w.grad is None for w in frozen)


def test_full_fine_tuning_needs_a_reference(tmp_path):
    model = tiny.model("llama")
    with pytest.raises(TrainingError, match="pass a frozen copy as `reference`"):
        kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model))


def test_full_fine_tuning_with_a_reference_is_taught_by_it(tmp_path):
    model, reference = tiny.model("llama"), tiny.model("llama")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    original = {name: weight.clone() for name, weight in reference.state_dict().items()}
    vector = kit.vector(reference)
    trainer = kit.trainer(model, tmp_path, ROWS, vector=vector, reference=reference)
    batch = kit.padded(ROWS)
    targets = Targets.of(batch)
    said = trainer.teacher.logits(batch, targets, targets.answers)
    with torch.no_grad():
        want = torch.cat([answer_logits(reference, row, vector=vector)[:1] for row in ROWS])
    torch.testing.assert_close(said, want, rtol=0, atol=1e-5)
    trainer.train()
    assert all(torch.equal(original[name], weight) for name, weight in reference.state_dict().items())


@pytest.mark.parametrize(
    "how", [{"target_modules": ["q_proj", "lm_head"]}, {"modules_to_save": ["lm_head"]}], ids=["lora", "copy"]
)
def test_the_original_head_teaches_where_the_head_itself_trains(tmp_path, how):
    torch.manual_seed(0)
    settings = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | how
    model = get_peft_model(tiny.model("llama"), LoraConfig(**settings)).to(torch.float64)
    with torch.no_grad():
        for weight in (w for w in model.parameters() if w.requires_grad):
            weight.add_(torch.randn_like(weight) * 0.3)
    vector = kit.vector(model)
    trainer = kit.trainer(model, tmp_path, ROWS, vector=vector)
    batch = kit.padded(ROWS)
    targets = Targets.of(batch)
    with torch.no_grad(), model.disable_adapter():
        want = torch.cat([answer_logits(model, row, vector=vector)[:1] for row in ROWS])
    with torch.no_grad():
        trained = torch.cat([answer_logits(model, row, vector=vector)[:1] for row in ROWS])
    assert (trained - want).abs().max() > 0.1
    for _ in range(2):  # asked, then remembered
        torch.testing.assert_close(trainer.teacher.logits(batch, targets, targets.answers), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("how", ["biases", "norms"])
def test_an_original_whose_own_weights_train_is_no_teacher(tmp_path, how):
    base = tiny.model("gpt2" if how == "biases" else "llama")
    settings = {"bias": "all", "target_modules": ["c_attn"]} if how == "biases" else {"target_modules": ["q_proj"]}
    model = get_peft_model(base, LoraConfig(r=2, task_type="CAUSAL_LM", **settings)).to(torch.float64)
    if how == "norms":
        model.base_model.model.model.norm.requires_grad_(True)
    vector = kit.vector(model)
    with pytest.raises(TrainingError, match=r"weights of the original model train beside the adapter \(.*(bias|norm)"):
        kit.trainer(model, tmp_path, ROWS, vector=vector)
    kit.trainer(model, tmp_path, ROWS, vector=vector, guidance=IVGuidanceConfig(teacher="previous"))
    kit.trainer(model, tmp_path, ROWS, vector=vector, reference=copy.deepcopy(base))


def test_predictions_stand_beside_their_labels(tmp_path):
    model, seen = kit.adapted(), []

    def metrics(predicted):
        seen.append(predicted)
        return {}

    settings = {"eval_dataset": ROWS, "compute_metrics": metrics}
    stock = Trainer(model=model, args=kit.arguments(tmp_path), data_collator=kit.padded, **settings)
    ours = IVTrainer(model=model, args=kit.arguments(tmp_path), data_collator=kit.padded, vector=kit.vector(model), **settings)
    assert ours.evaluate()["eval_loss"] == pytest.approx(stock.evaluate()["eval_loss"], abs=1e-6)
    assert seen[0].predictions.shape == (*seen[0].label_ids.shape, tiny.VOCABULARY)
    assert (seen[0].predictions == seen[1].predictions).all()
    packed = IVTrainer(model=model, args=kit.arguments(tmp_path), data_collator=TreeCollator(model), **settings)
    with pytest.raises(TrainingError, match="do not stand row by row"):
        packed.evaluate()


def test_one_process_over_several_gpus_is_refused(tmp_path):
    arguments = kit.arguments(tmp_path)
    arguments._n_gpu = 2
    with pytest.raises(TrainingError, match="over 2 GPUs; show it one"):
        IVTrainer(model=kit.adapted(), args=arguments, train_dataset=ROWS, data_collator=kit.padded)


def test_a_padded_batch_whose_prompts_are_not_masked_has_no_place_in_its_padding(tmp_path):
    model = kit.adapted()
    trainer = kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model))
    ids = torch.tensor([[0, 0, 1, 5, 6]])
    batch = {"input_ids": ids, "attention_mask": ids.clamp(max=1), "labels": torch.tensor([[-100, -100, 1, 5, 6]])}
    with pytest.raises(TrainingError, match="no place for the vector"):
        trainer.compute_loss(model, batch)


def test_full_fine_tuning_without_a_kl_needs_no_reference(tmp_path):
    model = tiny.model("llama")
    trainer = kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model), guidance=IVGuidanceConfig(kl_weight=0.0))
    trainer.train()
    assert len(kit.losses(trainer)) == 2


def test_a_loss_that_is_not_finite_stops_training_and_names_the_step(tmp_path):
    model = kit.adapted()

    class Break(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 1:
                with torch.no_grad():
                    next(w for name, w in model.named_parameters() if "lora_" in name).fill_(float("nan"))

    trainer = kit.trainer(model, tmp_path, ROWS, callbacks=[Break()])
    with pytest.raises(TrainingError, match=r"the loss is nan at step 1 .*whose tokens begin: "):
        trainer.train()


def test_processes_that_do_not_know_of_each_other_are_noticed(tmp_path, monkeypatch):
    model = kit.adapted()
    settings = kit.arguments(tmp_path)
    assert settings.world_size == 1
    IVTrainer(model=model, args=settings, train_dataset=ROWS)  # one process: nothing to say
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="2 processes were started but the Trainer sees only itself"):
        IVTrainer(model=model, args=settings, train_dataset=ROWS)


def test_a_teacher_is_refused_where_fsdp_1_shards_the_model(tmp_path):
    model = kit.adapted()
    trainer = kit.trainer(model, tmp_path, ROWS)
    trainer.is_fsdp_enabled = True
    with pytest.raises(TrainingError, match="which FSDP 1 does not gather"):
        trainer._make_teacher(model)


def test_a_batch_without_labels_stops_training(tmp_path):
    model = kit.adapted()
    masked = [{"input_ids": [1, 4, 5], "labels": [-100] * 3}] * 4
    for collate in (kit.padded, TreeCollator(model)):
        with pytest.raises(TrainingError, match="every label of a batch is masked"):
            kit.trainer(model, tmp_path, masked, data_collator=collate).train()


def test_guidance_with_no_place_for_the_vector_is_refused_rather_than_left_out(tmp_path):
    model = kit.adapted()
    unmasked = [{"input_ids": [1, 4, 5], "labels": [1, 4, 5]}]
    trainer = kit.trainer(model, tmp_path, unmasked, vector=kit.vector(model))
    for batch in (kit.padded(unmasked), TreeCollator(model)(unmasked)):
        with pytest.raises(TrainingError, match="no place for the vector"):
            trainer.compute_loss(model, batch)


def test_a_vector_with_a_head_the_model_lacks_is_refused_at_construction(tmp_path):
    model = kit.adapted()
    good = kit.vector(model)
    bad = InstructionVector((*good.heads[:-1], (tiny.LAYERS, 0)), good.values, good.summed)
    with pytest.raises(VectorError, match="needs head"):
        kit.trainer(model, tmp_path, ROWS, vector=bad)


def test_a_vector_of_another_architecture_is_refused_at_construction(tmp_path):
    other = tiny.model("qwen3")  # wider heads
    means = torch.ones(tiny.LAYERS, tiny.HEADS, 12)
    with pytest.raises(VectorError, match="another architecture"):
        kit.trainer(kit.adapted(), tmp_path, ROWS, vector={"a": InstructionVector.from_means(other, means, kit.HEADS)})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"kl_weight": -1.0}, "cannot be negative"),
        ({"kl_weight": float("nan")}, "cannot be negative"),
        ({"kl_threshold": -0.1}, "cannot be negative"),
        ({"sign": 2}, "sign must be 1 or 0 or -1, got 2"),
        ({"schedule": "stepwise"}, "schedule must be 'progressive' or 'linear'"),
        ({"mode": "sum"}, "mode must be 'distributed' or 'summed' or 'replace', got 'sum'"),
        ({"mode": "replace", "sign": -1}, "mode 'replace' .* whole or not at all"),
        ({"mode": "replace", "teacher_scale": 0.5}, "teacher_scale can only be 1 or 0"),
        ({"kl_positions": "last"}, "kl_positions must be 'last_input' or 'answer', got 'last'"),
        ({"kl_direction": "forward"}, "kl_direction must be 'student_teacher' or 'teacher_student', got 'forward'"),
    ],
)
def test_a_setting_without_meaning_is_refused_by_name(setting, message):
    with pytest.raises(TrainingError, match=message):
        IVGuidanceConfig(**setting)


def test_a_teacher_starts_knowing_nothing():
    assert len(Teacher(None, nullcontext, lambda starts: nullcontext())) == 0


BALANCED = {"output_router_logits": True, "router_aux_loss_coef": 0.5}


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_the_balance_of_a_mixture_of_experts_is_part_of_the_loss_as_in_the_stock_trainer(tmp_path, packed):
    losses = []
    for trainer in (Trainer, IVTrainer):
        model = get_peft_model(
            tiny.model("mixtral", **BALANCED), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        )
        collator = TreeCollator(model) if packed and trainer is IVTrainer else kit.padded
        made = trainer(model=model.double(), args=kit.arguments(tmp_path), train_dataset=ROWS, data_collator=collator)
        made.train()
        losses.append(kit.losses(made))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert made.last_parts["balance"] > 0.1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"init_lora_weights": "pissa"}, "begun with init_lora_weights='pissa'"),
        ({"init_lora_weights": "pissa_niter_2"}, "begun with init_lora_weights='pissa_niter_2'"),
        ({"init_lora_weights": "olora"}, "pass a frozen copy as `reference`"),
    ],
)
def test_a_start_for_which_peft_changes_the_weights_beneath_is_no_original(tmp_path, config, message):
    model = get_peft_model(tiny.model("llama", dtype=torch.float32), LoraConfig(r=2, target_modules=["q_proj"], **config))
    vector = kit.vector(model)
    with pytest.raises(TrainingError, match=message):
        kit.trainer(model, tmp_path, ROWS, vector=vector)
    original = tiny.model("llama", dtype=torch.float32)
    trainer = kit.trainer(
        model, tmp_path, ROWS, vector=vector, reference=original, guidance=IVGuidanceConfig(sign=0, teacher_scale=0)
    )
    trainer.compute_loss(model.eval(), kit.padded(ROWS))
    assert abs(trainer.last_parts["kl"]) < 1e-5  # with its start on, the model is the original still


def test_adalora_and_a_reference_that_is_the_model_itself_are_refused(tmp_path):
    base = tiny.model("llama")
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(TrainingError, match="`reference` is the model that trains"):
        kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model), reference=base)
    adaptive = get_peft_model(tiny.model("llama"), AdaLoraConfig(target_modules=["q_proj"], total_step=4))
    with pytest.raises(TrainingError, match="AdaLoRA adds a term"):
        kit.trainer(adaptive, tmp_path, ROWS)


def test_layers_that_fsdp_s_own_way_wraps_for_checkpointing_are_steered_when_they_run_again(tmp_path):
    gradients = []
    for wrapped in (False, True):
        model = kit.adapted()
        layers = model.base_model.model.model.layers
        for number in range(len(layers) if wrapped else 0):
            layers[number] = checkpoint_wrapper(layers[number], preserve_rng_state=False)
        trainer = kit.trainer(
            model, tmp_path, ROWS, vector=kit.vector(model), guidance=IVGuidanceConfig(sign=1, schedule="constant")
        )
        model.train()
        trainer.compute_loss(model, kit.padded(ROWS)).backward()
        gradients.append([weight.grad for weight in model.parameters() if weight.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("config", [IVGuidanceConfig(), IVGuidanceConfig(kl_weight=0, consistency_weight=1.0)])
def test_a_batch_with_more_than_text_is_no_question_for_the_teacher(tmp_path, config):
    model = kit.adapted()
    trainer = kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model), guidance=config)
    with pytest.raises(TrainingError, match="a batch has 'pixel_values', and the teacher reads text alone"):
        trainer.compute_loss(model, kit.padded(ROWS) | {"pixel_values": torch.zeros(8, 3, 2, 2)})


def test_in_mixed_precision_the_teacher_computes_as_the_student_does(tmp_path):
    model = get_peft_model(tiny.model("llama", dtype=torch.float32), LoraConfig(r=2, target_modules=["q_proj"]))
    config = IVGuidanceConfig(sign=0, teacher_scale=0, consistency_weight=1.0)
    trainer = kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model), guidance=config, bf16=True)
    wrapped = trainer.accelerator.prepare_model(model)  # as the Trainer does: its forward alone is under autocast
    trainer.compute_loss(wrapped.eval(), kit.padded(ROWS))
    assert (trainer.last_parts["kl"], trainer.last_parts["consistency"]) == (0, 0)


@pytest.mark.parametrize(("family", "asked"), [("gpt2", 2), ("llama", 1)])
def test_the_teacher_tells_rows_by_their_left_padding_where_positions_are_absolute_alone(tmp_path, family, asked):
    target = "c_attn" if family == "gpt2" else "q_proj"
    base = tiny.model(family, dtype=torch.float32)  # eager attention in float64 has no numbers for padding on the left
    model = get_peft_model(base, LoraConfig(r=2, target_modules=[target], task_type="CAUSAL_LM"))
    config = IVGuidanceConfig(sign=0, teacher_scale=0)
    trainer = kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model), guidance=config, num_train_epochs=2)
    batch, model = kit.padded(ROWS[:1]), model.eval()
    shifted = {name: F.pad(value, (4, 0), value=-100 if name == "labels" else 0) for name, value in batch.items()}
    for each in (batch, shifted):
        trainer.compute_loss(model, each)
        assert abs(trainer.last_parts["kl"]) < 1e-5
    assert len(trainer.teacher) == asked


def test_a_label_that_only_padding_predicts_is_no_place_without_tokens(tmp_path):
    model = get_peft_model(tiny.model("llama", dtype=torch.float32), LoraConfig(r=2, target_modules=["q_proj"]))
    trainer = kit.trainer(
        model, tmp_path, ROWS, vector=kit.vector(model), guidance=IVGuidanceConfig(kl_positions="answer"), num_train_epochs=2
    )
    batch = kit.padded([kit.row([1, 5, 6], [7, 8]), kit.row([], [9, 10])])
    shifted = {name: value.clone() for name, value in batch.items()}
    for name, value in batch.items():  # the second row, padded on the left
        shifted[name][1] = value[1].roll(3)
    assert torch.isfinite(trainer.compute_loss(model, shifted))


def test_where_no_row_comes_twice_nothing_is_kept_of_what_the_teacher_said(tmp_path):
    kept = []
    for epochs in (1, 2):
        model = kit.adapted()
        trainer = kit.trainer(
            model, tmp_path / str(epochs), ROWS, vector=kit.vector(model), num_train_epochs=epochs, save_strategy="epoch"
        )
        trainer.train()
        kept.append((len(trainer.teacher), len(list((tmp_path / str(epochs)).glob("*/teacher-*")))))
    assert kept == [(0, 0), (8, 2)]


class Stream(IterableDataset):
    """One that knows its length."""

    def __iter__(self):
        return iter(ROWS)

    def __len__(self):
        return len(ROWS)


def test_names_of_vectors_in_a_stream_of_several_processes_are_refused(tmp_path, monkeypatch):
    model = kit.adapted()
    trainer = kit.trainer(model, tmp_path, ROWS, vector={"a": kit.vector(model), "": kit.vector(model, 1)})
    trainer.train_dataset = Stream()
    trainer._refuse_names_in_streams()  # one process reads its own rows
    monkeypatch.setattr(type(trainer.args), "world_size", 2)
    with pytest.raises(TrainingError, match="are read by one process"):
        trainer._refuse_names_in_streams()
    trainer.train_dataset = ROWS
    trainer._refuse_names_in_streams()
