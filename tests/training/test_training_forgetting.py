"""A callback that watches abilities: what it says, what it does on a drop, and that it leaves training alone."""

import logging
from statistics import fmean

import datasets
import pytest
import tiny
import tiny_training as kit
import torch
import trl
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback

from instruction_vectors.errors import TrainingError
from instruction_vectors.evaluation.abilities import Probe, measure
from instruction_vectors.tasks import Example, Task
from instruction_vectors.tasks.prompts import instructed
from instruction_vectors.training.forgetting import ForgettingCallback

ROWS = kit.distinct_rows(8)
TASK = Task("shift", ("w30 w31",), tuple(Example(f"w{i}", f"w{i + 12}") for i in range(12)), knowledge=("w32 {input} w33",))
BARE = Task("copy", ("w33",), tuple(Example(f"w{i}", f"w{i}") for i in range(12)))
PROBES = (Probe.of(TASK, 8, reserve=4), Probe.of(BARE, 6, reserve=6))


def adapted():
    """With dropout, so that a number drawn too many would change what is learnt."""
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=4, lora_dropout=0.3, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return get_peft_model(tiny.model("llama"), config).to(torch.float64)


def stock(model, folder, **options):
    tokenizer = tiny.tokenizer()
    settings = {"per_device_train_batch_size": 2, "num_train_epochs": 2, **options}
    arguments = kit.arguments(folder, **settings)
    return Trainer(model=model, args=arguments, train_dataset=ROWS, data_collator=kit.padded, processing_class=tokenizer)


def entries(trainer, name="instruction"):
    return [(e["step"], e[f"forgetting/{name}"]) for e in trainer.state.log_history if f"forgetting/{name}" in e]


class Spoil(TrainerCallback):
    """Ruins the adapter after a step, and remembers what it was before and after."""

    def __init__(self, model, step):
        self.model, self.step, self.weights = model, step, {}

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            with torch.no_grad():
                for name, weight in self.model.named_parameters():
                    if "lora_" in name:
                        weight.copy_(5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        self.weights[state.global_step] = kit.adapter_weights(self.model)


@pytest.mark.parametrize("full", [False, True], ids=["adapter", "full fine-tuning"])
def test_training_with_the_callback_is_training_without_it_bit_for_bit(tmp_path, full):
    runs = []
    for watched in (False, True):
        model = tiny.model("llama") if full else adapted()
        trainer = stock(model, tmp_path, gradient_accumulation_steps=2)
        if watched:
            vectors = {"shift": kit.vector(model)}
            trainer.add_callback(ForgettingCallback(trainer, PROBES, every=1, vectors=vectors, action="roll_back", margin=2.0))
        trainer.train()
        assert model.training
        runs.append(([e for e in trainer.state.log_history if "loss" in e], dict(model.named_parameters()), trainer))
    (losses, weights, _), (its_losses, its_weights, trainer) = runs
    assert [e["loss"] for e in its_losses] == [e["loss"] for e in losses]
    assert len(losses) == 4
    assert all(torch.equal(weights[name], its_weights[name]) for name in weights)
    assert [w.requires_grad for w in weights.values()] == [w.requires_grad for w in its_weights.values()]
    assert [step for step, _ in entries(trainer)] == [0, 1, 2, 3, 4]


def test_what_is_logged_is_what_one_measures_by_hand(tmp_path):
    model = adapted()
    trainer = stock(model, tmp_path)
    vector = kit.vector(model)
    trainer.add_callback(Spoil(model, 8))
    trainer.add_callback(ForgettingCallback(trainer, PROBES, every=100, vectors={"shift": vector}))
    trainer.train()
    found = [e for e in trainer.state.log_history if "forgetting/kl" in e]
    assert [e["step"] for e in found] == [0, 8]
    first, last = found
    assert first["forgetting/kl"] == pytest.approx(0, abs=1e-9)
    assert first["forgetting/cosine"] == pytest.approx(1, abs=1e-6)
    assert last["forgetting/cosine"] < 0.99
    tokenizer = tiny.tokenizer()
    for form in ("instruction", "knowledge"):  # the second task has no knowledge form, so neither is ranked
        want = fmean(measure(model, tokenizer, PROBES[0], [form])[form])
        assert last[f"forgetting/{form}"] == pytest.approx(want, abs=1e-12)
    want = fmean(fmean(measure(model, tokenizer, probe, ["in_context"])["in_context"]) for probe in PROBES)
    assert last["forgetting/in_context"] == pytest.approx(want, abs=1e-12)
    model.eval()
    logprobs, divergences = [], []
    for probe in PROBES:
        rows = []
        for row in probe.queries:
            prompt = instructed(probe.task, row)
            ids = torch.tensor([tokenizer(prompt.text)["input_ids"]])
            with torch.no_grad():
                now = model(input_ids=ids).logits[0, -1].log_softmax(-1)
                with model.disable_adapter():
                    base = model(input_ids=ids).logits[0, -1].log_softmax(-1)
            rows.append(now[tokenizer.convert_tokens_to_ids(row.output)].item())
            divergences.append((now.exp() * (now - base)).sum().item())
        logprobs.append(fmean(rows))
    assert last["forgetting/instruction_logprob"] == pytest.approx(fmean(logprobs), abs=1e-6)
    assert last["forgetting/kl"] == pytest.approx(fmean(divergences), abs=1e-6)
    assert last["forgetting/kl"] > 0.01


def run_with_a_drop(tmp_path, action, caplog, monkeypatch):
    """The scores are made to fall at step 4; everything else is real."""
    model = adapted()
    trainer = stock(model, tmp_path)
    spoil = Spoil(model, 4)
    trainer.add_callback(spoil)
    callback = ForgettingCallback(trainer, PROBES, every=2, action=action, margin=0.05)
    real = callback.watch.values
    monkeypatch.setattr(
        callback.watch, "values", lambda m: real(m) | {"instruction": 0.8 if trainer.state.global_step < 4 else 0.7}
    )
    trainer.add_callback(callback)
    with caplog.at_level(logging.WARNING, logger="instruction_vectors.training.forgetting"):
        trainer.train()
    return trainer, spoil, kit.adapter_weights(model)


def test_a_drop_beyond_the_margin_is_said_and_training_goes_on(tmp_path, caplog, monkeypatch):
    trainer, *_ = run_with_a_drop(tmp_path, "warn", caplog, monkeypatch)
    assert trainer.state.global_step == 8
    said = [r.message for r in caplog.records]
    assert said[0] == "instruction fell from 0.80 to 0.70 by step 4, more than the margin of 0.05"
    assert len(said) == 3


def test_a_drop_stops_training_where_that_is_asked_for(tmp_path, caplog, monkeypatch):
    trainer, spoil, weights = run_with_a_drop(tmp_path, "stop", caplog, monkeypatch)
    assert trainer.state.global_step == 4
    assert all(torch.equal(weights[name], spoil.weights[4][name]) for name in weights)
    assert caplog.records[0].message.endswith("; training stops")


def test_a_drop_puts_back_the_last_good_weights(tmp_path, caplog, monkeypatch):
    trainer, spoil, weights = run_with_a_drop(tmp_path, "roll_back", caplog, monkeypatch)
    assert trainer.state.global_step == 4
    assert caplog.records[0].message.endswith("; training stops with the weights of step 2")
    assert all(torch.equal(weights[name], spoil.weights[2][name]) for name in weights)
    assert not any(torch.equal(weights[name], spoil.weights[4][name]) for name in weights)


def test_a_resumed_run_is_held_against_the_first_measurement_of_the_run(tmp_path):
    seen = []
    for resume in (False, True):
        model = adapted()
        trainer = stock(model, tmp_path, save_strategy="steps", save_steps=4, max_steps=8 if resume else 4)
        trainer.add_callback(ForgettingCallback(trainer, PROBES, every=4))
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4") if resume else None)
        seen.append(entries(trainer, "kl"))
        callback = next(c for c in trainer.callback_handler.callbacks if isinstance(c, ForgettingCallback))
        assert callback._first["forgetting/kl"] == entries(trainer, "kl")[0][1]
    assert [step for step, _ in seen[1]] == [0, 4, 4, 8]
    assert seen[1][1][1] == pytest.approx(seen[1][2][1], abs=1e-9)  # against the same original before and after


def test_trl_s_trainer_keeps_its_own_metrics_in_its_own_entries(tmp_path):
    histories = []
    for watched in (False, True):
        rows = [{"prompt": tiny.text(4 + i, 9), "completion": " " + tiny.text(8 + i)} for i in range(4)]
        settings = {"per_device_train_batch_size": 2, "num_train_epochs": 1, "logging_steps": 2, "report_to": [], "use_cpu": True}
        settings |= {"bf16": False, "gradient_checkpointing": False, "save_strategy": "no", "disable_tqdm": True}
        trainer = trl.SFTTrainer(
            model=adapted(),
            args=trl.SFTConfig(output_dir=str(tmp_path), **settings),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tiny.tokenizer(bos=False),
        )
        if watched:
            trainer.add_callback(ForgettingCallback(trainer, PROBES, every=1))
        trainer.train()
        histories.append(
            [{k: v for k, v in e.items() if "runtime" not in k and "per_second" not in k} for e in trainer.state.log_history]
        )
    plain, watched = histories
    assert [e for e in watched if "loss" in e] == [e for e in plain if "loss" in e]
    assert "mean_token_accuracy" in next(e for e in watched if "loss" in e)
    assert [e["step"] for e in watched if "forgetting/kl" in e] == [0, 1, 2]


def test_other_callbacks_see_the_measurements_as_report_to_would(tmp_path):
    class Listen(TrainerCallback):
        heard = ()

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.heard += tuple(key for key in logs if key.startswith("forgetting/"))

    trainer = stock(adapted(), tmp_path, num_train_epochs=1)
    listen = Listen()
    trainer.add_callback(listen)  # before ours, as the callbacks of report_to are
    trainer.add_callback(ForgettingCallback(trainer, PROBES, every=2))
    trainer.train()
    assert listen.heard.count("forgetting/instruction") == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": "panic"}, "action must be 'warn' or 'stop' or 'roll_back', got 'panic'"),
        ({"every": 0}, "every must be at least 1"),
        ({"margin": float("nan")}, "margin not below 0"),
        ({"probes": []}, "give at least one probe"),
        (
            {"probes": PROBES[1:], "forms": ("instruction",)},
            "no probe can be measured in the form 'instruction': copy have no cloze",
        ),
        ({"vectors": {"elsewhere": None}}, "vectors of elsewhere but no probes of these; probes: shift, copy"),
    ],
)
def test_settings_without_meaning_are_refused(tmp_path, options, message):
    with pytest.raises(TrainingError, match=message):
        ForgettingCallback(stock(adapted(), tmp_path), options.pop("probes", PROBES), **options)


def test_rolling_back_and_the_best_checkpoint_cannot_both_have_the_last_word(tmp_path):
    trainer = stock(adapted(), tmp_path)
    trainer.args.load_best_model_at_end = True
    trainer.add_callback(ForgettingCallback(trainer, PROBES, action="roll_back"))
    with pytest.raises(TrainingError, match="'roll_back' and load_best_model_at_end both choose the last weights"):
        trainer.train()


def test_without_a_tokenizer_the_remedy_is_named(tmp_path):
    trainer = Trainer(model=adapted(), args=kit.arguments(tmp_path), train_dataset=ROWS, data_collator=kit.padded)
    with pytest.raises(TrainingError, match="pass `tokenizer`, or `processing_class` to the trainer"):
        ForgettingCallback(trainer, PROBES)


def test_without_forms_the_path_alone_is_watched_and_nothing_counts_as_a_drop(tmp_path, caplog):
    trainer = stock(model := adapted(), tmp_path)
    trainer.add_callback(ForgettingCallback(trainer, PROBES, every=4, forms=(), vectors={"shift": kit.vector(model)}))
    trainer.train()
    looks = [entry for entry in trainer.state.log_history if "forgetting/cosine" in entry]
    assert [entry["step"] for entry in looks] == [0, 4, 8]
    assert not [name for name in looks[0] if name in ("forgetting/instruction", "forgetting/knowledge", "forgetting/in_context")]
    assert not caplog.records


def test_tasks_without_a_cloze_are_watched_in_what_they_write(tmp_path):
    trainer = stock(adapted(), tmp_path)
    assert ForgettingCallback(trainer, PROBES[1:]).forms == ("in_context",)
    assert ForgettingCallback(trainer, PROBES).forms == ("in_context", "instruction", "knowledge")


def test_a_model_whose_adapter_peft_took_off_its_weights_is_held_against_both_together(tmp_path):
    base = tiny.model("llama", dtype=torch.float32)
    ids = torch.tensor([[1, 5, 9]])
    with torch.no_grad():
        before = base(input_ids=ids).logits
        model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="olora", task_type="CAUSAL_LM"))
        torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=0, atol=1e-4)
    trainer = stock(model, tmp_path)
    trainer.add_callback(ForgettingCallback(trainer, probes=PROBES, every=4))
    trainer.train()
    kl = entries(trainer, "kl")
    assert abs(kl[0][1]) < 1e-6 < kl[-1][1]
