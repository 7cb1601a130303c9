"""Teachers other than the original model, the consistency of head outputs, and what a checkpoint keeps of a teacher."""

import gc
import logging
import weakref
from contextlib import nullcontext

import pytest
import tiny
import tiny_training as kit
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback

from instruction_vectors.errors import TrainingError
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.hooks import head_at
from instruction_vectors.training.collator import TreeCollator
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.consistency import squared_distance
from instruction_vectors.training.memory import Memory
from instruction_vectors.training.targets import Targets, model_inputs
from instruction_vectors.training.views import snapshot

ROWS = kit.distinct_rows(8)
TOLERANCE = 1e-6
ROUNDING = {"rtol": 0, "atol": 2e-6}
"""Some families normalise in float32."""
CONSISTENT = IVGuidanceConfig(sign=0, kl_weight=0.0, consistency_weight=0.02)


def start_of(row):
    return next(i for i, label in enumerate(row["labels"]) if label != -100) - 1


def run_alone(model, row, *, vector=None, scale=1.0):
    """One row's logits before its labels, and its heads' own outputs `[head, head_dim]` at the last input token."""
    ids, start = torch.tensor([row["input_ids"]]), start_of(row)
    seen = {}

    handles = []
    for layer, projection in enumerate(tiny.o_projs(model, "llama")):

        def keep(module, args, layer=layer):
            seen.setdefault(layer, args[0][0, start].view(tiny.HEADS, tiny.HEAD_DIM))

        handles.append(projection.register_forward_pre_hook(keep))
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[0, start] = True
    try:
        with vector.applied(model, scale=scale, positions=where) if vector else nullcontext():
            logits = model(input_ids=ids).logits[0, start:-1]
    finally:
        for handle in handles:
            handle.remove()
    return logits, torch.stack([seen[layer][head] for layer, head in kit.HEADS])


def expected(model, rows, vector, weight, sign, original):
    """L_LM plus the weighted mean over rows of what the heads strayed, each row run alone."""
    nats, strayed = [], []
    for row in rows:
        logits, heads = run_alone(model, row, vector=vector if sign else None, scale=sign)
        labels = torch.tensor([label for label in row["labels"] if label != -100])
        nats.append(F.cross_entropy(logits, labels, reduction="none"))
        with original(), torch.no_grad():
            was = run_alone(model, row)[1]
        strayed.append(sum(((heads[i] - was[i]) ** 2).sum() for i in range(len(kit.HEADS))))
    return torch.cat(nats).mean() + weight * torch.stack(strayed).mean()


def test_the_distance_is_summed_over_heads_and_averaged_over_answers():
    student = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [3.0, 1.0]]])
    teacher = torch.tensor([[[0.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [3.0, 0.0]]])
    assert squared_distance(student, teacher).item() == pytest.approx((1 + 4 + 1 + 1) / 2)
    assert squared_distance(student, teacher, total=7).item() == pytest.approx(1.0)


SHARED = [*kit.distinct_rows(3), kit.row([1, 30, 31], [9, 9, 10]), kit.row([1, 30, 31], [12])]
"""Two rows with one prompt, which a packed tree computes once."""


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("sign", [0, 1])
def test_consistency_is_what_the_heads_strayed_from_the_original(tmp_path, packed, sign):
    model = kit.adapted()
    vector = kit.vector(model)
    config = IVGuidanceConfig(sign=sign, kl_weight=0.0, consistency_weight=0.02)
    trainer = kit.trainer(model, tmp_path, SHARED, vector=vector, guidance=config)
    batch = TreeCollator(model)(SHARED) if packed else kit.padded(SHARED)
    loss, want = trainer.compute_loss(model, batch), expected(model, SHARED, vector, 0.02, sign, model.disable_adapter)
    assert loss.item() == pytest.approx(want.item(), abs=TOLERANCE)
    assert trainer.last_parts["consistency"] > 0.01
    weights = [w for w in model.parameters() if w.requires_grad]
    got, by_hand = torch.autograd.grad(loss, weights), torch.autograd.grad(want, weights)
    assert max(float(g.abs().max()) for g in by_hand) > 1e-2
    for g, w in zip(got, by_hand, strict=True):
        torch.testing.assert_close(g, w, rtol=0, atol=1e-5)


def test_consistency_does_not_depend_on_the_cut_into_micro_batches_nor_on_checkpointing(tmp_path):
    weights = []
    for size, checkpointing in ((8, False), (2, False), (4, True)):
        model = kit.adapted()
        settings = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
        settings |= {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        if checkpointing:
            settings |= {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
        kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model), guidance=CONSISTENT, **settings).train()
        weights.append(kit.adapter_weights(model))
    for other in weights[1:]:
        for name, want in weights[0].items():
            torch.testing.assert_close(other[name], want, rtol=0, atol=1e-6)


def test_checkpointing_that_would_leave_consistency_without_a_gradient_is_refused(tmp_path):
    model = kit.adapted()
    trainer = kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model), guidance=CONSISTENT)
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    with pytest.raises(TrainingError, match="'use_reentrant': False"):
        trainer.compute_loss(model, kit.padded(ROWS))


def test_the_teacher_of_consistency_is_asked_once_a_row(tmp_path):
    model = kit.adapted()
    trainer = kit.trainer(model, tmp_path, ROWS, num_train_epochs=3, vector=kit.vector(model), guidance=CONSISTENT)
    trainer.train()
    assert (trainer.teacher.forwards, len(trainer.teacher)) == (2, 8)


@pytest.mark.parametrize("full", [False, True], ids=["adapter", "full fine-tuning"])
def test_the_previous_teacher_is_the_model_as_it_was_given_whatever_it_learns(tmp_path, full):
    model = tiny.model("llama") if full else kit.adapted()
    vector, batch = kit.vector(model), kit.padded(ROWS)
    targets = Targets.of(batch)
    with torch.no_grad():
        want = torch.cat([run_alone(model, row, vector=vector)[0][:1] for row in ROWS])
    trainer = kit.trainer(model, tmp_path, ROWS, vector=vector, guidance=IVGuidanceConfig(teacher="previous"))
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    trainer.train()
    changed = {name: weight.clone() for name, weight in model.named_parameters()}
    assert any(not torch.equal(before[name], changed[name]) for name in before)
    trainer.teacher._memory = Memory()
    said = trainer.teacher.logits(batch, targets, targets.answers)
    torch.testing.assert_close(said, want, rtol=0, atol=TOLERANCE)
    assert all(torch.equal(changed[name], weight) for name, weight in model.named_parameters())
    if not full:
        with model.disable_adapter(), torch.no_grad():
            original = torch.cat([run_alone(model, row, vector=vector)[0][:1] for row in ROWS])
        assert (said - original).abs().max() > 1e-2


def test_under_autocast_the_student_is_not_given_the_teacher_s_weights():
    model = kit.adapted().float()
    view = snapshot(model)
    ids = torch.tensor([[1, 4, 5, 6]])
    weights = [w for w in model.parameters() if w.requires_grad]
    with torch.no_grad():
        for weight in weights:
            weight.mul_(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alone = model(input_ids=ids).logits.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with view(), torch.no_grad():
            before = model(input_ids=ids).logits.float()
        after = model(input_ids=ids).logits.float()
    assert (before - alone).abs().max() > 0.1
    torch.testing.assert_close(after, alone, rtol=0, atol=0)
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(after.square().sum(), weights))


class Spy(TrainerCallback):
    """Notes how often the teacher has run when training ends."""

    forwards = -1

    def on_train_end(self, args, state, control, **kwargs):
        self.forwards = self.trainer.teacher.forwards


GUIDED = {
    "last input token": IVGuidanceConfig(),
    "answers, consistency": IVGuidanceConfig(kl_positions="answer", consistency_weight=0.5),
    "previous": IVGuidanceConfig(teacher="previous", consistency_weight=0.5),
}


@pytest.mark.parametrize("name", GUIDED)
@pytest.mark.parametrize("step", [1, 2])
def test_a_resumed_run_goes_on_bit_for_bit_and_asks_the_teacher_nothing_twice(tmp_path, name, step):
    runs = []
    for resume in (False, True):
        model = kit.adapted()
        spy = Spy()
        trainer = kit.trainer(
            model,
            tmp_path,
            ROWS,
            vector=kit.vector(model),
            guidance=GUIDED[name],
            num_train_epochs=3,
            save_strategy="steps",
            save_steps=1,
            callbacks=[spy],
        )
        spy.trainer = trainer
        trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}") if resume else None)
        runs.append((kit.losses(trainer), kit.adapter_weights(model), spy.forwards))
    (losses, weights, _), (its_losses, its_weights, forwards) = runs
    assert its_losses == losses
    assert len(losses) == 6
    assert all(torch.equal(weights[key], its_weights[key]) for key in weights)
    assert (forwards == 0) == (step == 2)  # two steps are an epoch


def test_a_memory_comes_back_from_its_file_as_it_was(tmp_path):
    memory, back = Memory(), Memory()
    wide, narrow = torch.randn(3, 4, dtype=torch.float64), torch.randn(2, 2, 5).bfloat16()
    keys = [bytes([i] * 32) for i in range(5)]
    memory.recall(keys[:3], lambda: wide)
    memory.recall(keys[3:], lambda: narrow)
    memory.save(tmp_path / "said.safetensors", "mine")
    back.load(tmp_path / "said.safetensors", "mine")
    assert len(back) == 5
    assert torch.equal(torch.stack(back.recall(keys[:3], lambda: ())), wide)
    assert torch.equal(torch.stack(back.recall(keys[3:], lambda: ())), narrow)


def test_a_file_of_another_teacher_or_a_damaged_one_is_left_with_a_warning(tmp_path, caplog):
    memory, path = Memory(), tmp_path / "said.safetensors"
    memory.recall([b"k" * 32], lambda: torch.ones(1, 2))
    memory.save(path, "mine")
    with caplog.at_level(logging.WARNING):
        (other := Memory()).load(path, "another")
        path.write_bytes(path.read_bytes()[:20])
        other.load(path, "mine")
        memory.save(path / "below a file", "mine")
    assert len(other) == 0
    said = [record.message for record in caplog.records]
    assert "was written for another model, vector or setting" in said[0]
    assert "cannot be read" in said[1]
    assert "a resumed run asks it again" in said[2]


def test_teachers_that_say_otherwise_have_other_fingerprints(tmp_path):
    def fingerprint(seed=0, adapter=0, **config):
        model = kit.adapted(adapter)
        vector = kit.vector(kit.adapted(), seed)
        return kit.trainer(model, tmp_path, ROWS, vector=vector, guidance=IVGuidanceConfig(**config)).teacher.fingerprint

    first = fingerprint()
    assert fingerprint(kl_positions="answer", kl_weight=3.0) == first
    assert fingerprint(adapter=1) == first  # the original has no adapter
    others = [fingerprint(seed=1), fingerprint(teacher_scale=0.5), fingerprint(mode="replace"), fingerprint(teacher="previous")]
    others.append(fingerprint(teacher="previous", adapter=1))
    assert len({first, *others}) == 6
    references = [
        kit.trainer(kit.adapted(), tmp_path, ROWS, vector=kit.vector(kit.adapted()), reference=kit.adapted(adapter)).teacher
        for adapter in (0, 1)
    ]
    assert len({first, *(each.fingerprint for each in references)}) == 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"teacher": "base"}, "teacher must be 'original' or 'previous', got 'base'"),
        ({"consistency_weight": -1.0}, "cannot be negative"),
    ],
)
def test_a_setting_without_meaning_is_refused_by_name(setting, message):
    with pytest.raises(TrainingError, match=message):
        IVGuidanceConfig(**setting)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "opt", "mixtral"])
def test_the_student_s_pass_through_the_head_says_what_the_teacher_s_own_would(family):
    model = kit.adapted(family=family) if family in ("llama", "gemma2", "mixtral") else tiny.model(family)
    anatomy = anatomy_of(model)
    batch = kit.padded(ROWS)
    places = Targets.of(batch).places
    states = torch.randn(3, anatomy.hidden_size, dtype=anatomy.dtype)
    with torch.no_grad():
        whole = model(**model_inputs(batch)).logits[places]
        with head_at(anatomy, places, beside=states):
            logits = model(**model_inputs(batch)).logits[0]
        torch.testing.assert_close(logits[: len(whole)], whole, **ROUNDING)
        torch.testing.assert_close(logits[len(whole) :], anatomy.logits(states[None])[0], **ROUNDING)


def test_a_head_that_trains_or_is_adapted_or_another_model_s_is_not_shared(tmp_path):
    def same(model, **given):
        trainer = kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model), **given)
        return trainer.teacher.has_the_head_of(anatomy_of(model))

    def adapted(**more):
        return get_peft_model(
            tiny.model("llama"), LoraConfig(r=2, task_type="CAUSAL_LM", **{"target_modules": ["q_proj"], **more})
        )

    assert same(adapted())
    assert not same(adapted(target_modules=["q_proj", "lm_head"]))
    assert not same(adapted(modules_to_save=["lm_head"]))
    assert not same(tiny.model("llama"), reference=tiny.model("llama"))
    whole = tiny.model("llama")
    assert not same(whole, guidance=IVGuidanceConfig(teacher="previous"))


def test_a_reference_does_not_read_across_samples_of_a_row(tmp_path):
    """Rows side by side without padding are told apart by their positions, but not where a cache is kept."""
    from transformers import DataCollatorWithFlattening

    said = []
    for name, collator in (("flat", DataCollatorWithFlattening(return_position_ids=True)), ("padded", kit.padded)):
        model, reference = tiny.model("llama"), tiny.model("llama")
        reference.config.use_cache = True
        with torch.no_grad():
            model.lm_head.weight.mul_(1.5)
        rows = [{name: row[name] for name in ("input_ids", "labels")} for row in ROWS]
        trainer = kit.trainer(
            model, tmp_path / name, rows, vector=kit.vector(model), reference=reference, data_collator=collator,
            guidance=IVGuidanceConfig(sign=0), max_steps=1, per_device_train_batch_size=8, learning_rate=0.0,
        )  # fmt: skip
        trainer.train()
        said.append(trainer.last_parts["kl"])
    assert said[0] > 1e-3
    assert said[0] == pytest.approx(said[1], rel=1e-6)


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_parts_of_the_loss_are_those_of_the_whole_step(tmp_path, accumulation):
    model = kit.adapted()
    trainer = kit.trainer(
        model, tmp_path, ROWS, vector=kit.vector(model), max_steps=1, gradient_accumulation_steps=accumulation,
        per_device_train_batch_size=8 // accumulation, train_sampling_strategy="sequential",
        guidance=IVGuidanceConfig(kl_weight=0.5),
    )  # fmt: skip
    trainer.train()
    parts = trainer.last_parts
    assert list(parts) == ["lm", "scale", "kl"]
    assert kit.losses(trainer)[0] == pytest.approx(parts["lm"] + 0.5 * parts["kl"], rel=1e-5)
    trainer.evaluate(ROWS)
    assert trainer.last_parts == parts


def test_a_guided_trainer_is_gone_when_nobody_holds_it(tmp_path):
    """Its optimizer and the weights that it keeps aside would else lie on the device until somebody collects circles."""
    model = kit.adapted()
    for teacher in ("original", "previous"):
        trainer = kit.trainer(model, tmp_path, ROWS, vector=kit.vector(model), guidance=IVGuidanceConfig(teacher=teacher))
        trainer.train()
        gone = weakref.ref(trainer)
        gc.collect()
        gc.disable()
        try:
            del trainer
            assert gone() is None
        finally:
            gc.enable()


def test_what_would_not_be_heard_is_said(tmp_path, caplog):
    model = kit.adapted()
    with caplog.at_level(logging.WARNING, "instruction_vectors"):
        kit.trainer(model, tmp_path, ROWS, guidance=IVGuidanceConfig(kl_weight=5.0))
    assert "guidance was given without a vector, so this trains plainly" in caplog.text
    with pytest.raises(TrainingError, match="`reference` would not be asked"):
        kit.trainer(
            model, tmp_path, ROWS, vector=kit.vector(model), reference=tiny.model("llama"),
            guidance=IVGuidanceConfig(teacher="previous"),
        )  # fmt: skip


def test_a_row_that_is_told_to_others_is_no_view_of_all():
    rows = torch.randn(64, 512)
    memory = Memory()
    found = memory.recall([b"1", b"2"], lambda: iter(rows[:2]))
    assert torch.equal(found[1], rows[1])
    assert found[1].untyped_storage().nbytes() == 512 * 4


def test_head_outputs_in_half_precision_are_compared_in_float32():
    student, teacher = torch.full((8, 10, 64), 4.0, dtype=torch.float16), torch.zeros(8, 10, 64, dtype=torch.float16)
    assert squared_distance(student, teacher).item() == 10 * 64 * 16
