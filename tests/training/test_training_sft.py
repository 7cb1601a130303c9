"""TRL's trainer with guidance: its data, its losses where guidance is off, and ours where it is on."""

import subprocess
import sys

import datasets
import pytest
import tiny
import tiny_training as kit
import torch
import trl

from instruction_vectors.errors import IVError, TrainingError
from instruction_vectors.training import automatic
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.sft import IVSFTTrainer, check_version
from instruction_vectors.training.targets import Targets

OFF = IVGuidanceConfig(kl_weight=0.0, sign=0)
PAIRS = [
    {"prompt": tiny.text(4 + i, 9, 5 + (3 * i) % 20, 7), "completion": " " + tiny.text(*[8 + i, 20 + i, 12][: 1 + i % 3])}
    for i in range(8)
]
NAMED = [{**pair, "vector": "ab"[i % 2]} for i, pair in enumerate(PAIRS)]
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}w30 {% generation %}{{ m.content }} </s>{% endgeneration %} "
    "{% else %}{{ 'w31' if m.role == 'user' else 'w32' }} {{ m.content }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}w30 {% endif %}"
)
CHAT = {
    "messages": [
        {"role": "system", "content": "w5 w6"},
        {"role": "user", "content": "w1 w2 w3"},
        {"role": "assistant", "content": "w7 w8"},
        {"role": "user", "content": "w4"},
        {"role": "assistant", "content": "w9"},
    ]
}


def made(folder, rows=PAIRS, kind=IVSFTTrainer, family="llama", attention=None, **options):
    own = {k: options.pop(k) for k in ("vector", "guidance", "data_collator", "model", "compute_loss_func") if k in options}
    settings = kit.arguments(folder).to_dict() | {"bf16": False, "gradient_checkpointing": False, "remove_unused_columns": True}
    keys = ("output_dir", "per_device_train_batch_size", "num_train_epochs", "learning_rate", "logging_steps", "save_strategy")
    keys += ("report_to", "disable_tqdm", "dataloader_pin_memory", "use_cpu", "bf16", "gradient_checkpointing")
    config = trl.SFTConfig(**{**{key: settings[key] for key in keys}, **options})
    tokenizer = tiny.tokenizer(bos=False)
    tokenizer.chat_template = CHAT_TEMPLATE
    model = own.pop("model", None) or kit.adapted(family=family)
    return kind(model=model, args=config, train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer, **own)


def batch_of(trainer):
    """The one batch that holds every row, as the trainer collates it."""
    return next(iter(trainer.get_train_dataloader()))


def tokens_of(rows):
    """The same rows for our own trainer, tokenised by hand."""
    ids = tiny.tokenizer(bos=False)
    return [
        kit.row(ids(r["prompt"])["input_ids"], ids(r["completion"] + " </s>")["input_ids"], r.get("vector", "")) for r in rows
    ]


def ended(rows):
    """TRL adds the end token without a blank, which a tokenizer of words would not see."""
    return [{**row, "completion": row["completion"] + " </s>"} for row in rows]


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_plain_training_has_the_losses_metrics_and_weights_of_trl(tmp_path, accumulation, checkpointing):
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": accumulation, "num_train_epochs": 2}
    settings["gradient_checkpointing"] = checkpointing
    stock = made(tmp_path, ended(PAIRS), kind=trl.SFTTrainer, **settings)
    ours = made(tmp_path, ended(PAIRS), **settings)
    for each in (stock, ours):
        each.train()
    assert kit.losses(ours) == pytest.approx(kit.losses(stock), abs=1e-5)
    assert len(kit.losses(ours)) == 8 // accumulation
    for name in ("entropy", "mean_token_accuracy", "num_tokens"):
        want = [entry[name] for entry in stock.state.log_history if name in entry]
        assert len(want) >= 8 // accumulation
        assert [entry[name] for entry in ours.state.log_history if name in entry] == pytest.approx(want, abs=1e-5)
    for name, weight in kit.adapter_weights(stock.model).items():
        torch.testing.assert_close(kit.adapter_weights(ours.model)[name], weight, rtol=0, atol=1e-5)


def test_with_no_weight_and_no_sign_training_is_plain_training_bit_for_bit(tmp_path):
    runs = []
    for guided in (True, False):
        model = kit.adapted()
        given = {"vector": kit.vector(model), "guidance": OFF} if guided else {}
        trainer = made(tmp_path, ended(PAIRS), model=model, num_train_epochs=2, **given)
        trainer.train()
        runs.append((kit.losses(trainer), kit.adapter_weights(model)))
    model = kit.adapted()
    other = kit.trainer(model, tmp_path, tokens_of(PAIRS), num_train_epochs=2, seed=42)
    other.train()
    runs.append((kit.losses(other), kit.adapter_weights(model)))
    (guided, weights), *rest = runs
    assert len(guided) == 4
    for losses, theirs in rest:
        assert losses == guided
        assert all(torch.equal(weights[name], theirs[name]) for name in weights)


@pytest.mark.parametrize("padding_free", [False, True], ids=["padded", "padding-free"])
@pytest.mark.parametrize("positions", ["last_input", "answer"])
def test_trl_s_batches_are_guided_as_our_own_are_each_row_by_its_vector(tmp_path, padding_free, positions):
    model = kit.adapted()
    vectors = {"a": kit.vector(model, 1), "b": kit.vector(model, 2)}
    config = IVGuidanceConfig(kl_positions=positions)
    options = {"per_device_train_batch_size": 8, "num_train_epochs": 2, "padding_free": padding_free}
    options |= {"max_length": None} if padding_free else {}
    trainer = made(tmp_path, ended(NAMED), model=model, vector=vectors, guidance=config, **options)
    batch = batch_of(trainer)
    assert (len(batch["input_ids"]) == 1) == padding_free
    loss = trainer.compute_loss(model, batch)
    rows = tokens_of(NAMED)
    ours = kit.trainer(model, tmp_path, rows, vector=vectors, guidance=config)
    assert loss.item() == pytest.approx(ours.compute_loss(model, ours.data_collator(rows)).item(), abs=1e-6)
    swapped = [{**row, "vector": "ba"["ab".index(row["vector"])]} for row in rows]
    assert abs(loss.item() - ours.compute_loss(model, ours.data_collator(swapped)).item()) > 1e-3
    # What the teacher remembers of a sample does not depend on the samples beside it.
    assert len(trainer.teacher) == sum(len(row["labels"]) - row["labels"].count(-100) for row in rows) or positions != "answer"
    shuffled = made(tmp_path, ended(NAMED[::-1]), model=model, vector=vectors, guidance=config, **options)
    shuffled.teacher = trainer.teacher
    known = trainer.teacher.forwards
    shuffled.compute_loss(model, batch_of(shuffled))
    assert trainer.teacher.forwards == known


def test_samples_packed_whole_are_guided_as_they_are_alone(tmp_path):
    model = kit.adapted()
    vector = kit.vector(model)
    packed = made(tmp_path, ended(PAIRS), model=model, vector=vector, packing=True, max_length=40, per_device_train_batch_size=8)
    batch = batch_of(packed)
    assert len(batch["input_ids"]) == 1
    padded = made(tmp_path, ended(PAIRS), model=model, vector=vector, per_device_train_batch_size=8)
    assert packed.compute_loss(model, batch).item() == pytest.approx(
        padded.compute_loss(model, batch_of(padded)).item(), abs=1e-6
    )


def test_guided_training_does_not_depend_on_the_cut_into_micro_batches(tmp_path):
    weights = []
    for size in (8, 2):
        model = kit.adapted()
        options = {"optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
        options |= {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        trainer = made(tmp_path, ended(PAIRS), model=model, vector=kit.vector(model), **options)
        trainer.train()
        assert trainer.state.global_step == 1
        weights.append(kit.adapter_weights(model))
    for name, want in weights[0].items():
        torch.testing.assert_close(weights[1][name], want, rtol=0, atol=1e-5)


def test_in_a_chat_every_assistant_turn_is_steered_at_the_end_of_its_header(tmp_path):
    model = kit.adapted()
    trainer = made(tmp_path, [CHAT], model=model, vector=kit.vector(model), assistant_only_loss=True, num_train_epochs=2)
    batch = batch_of(trainer)
    words = tiny.tokenizer(bos=False).convert_ids_to_tokens(batch["input_ids"][0])
    assert " ".join(words) == "w32 w5 w6 w31 w1 w2 w3 w30 w7 w8 </s> w31 w4 w30 w9 </s>"
    (starts,) = Targets.of(batch).starts.values()
    assert starts[0].nonzero().flatten().tolist() == [7, 13]
    assert [words[i] for i in (7, 13)] == ["w30", "w30"]
    labelled = [word for word, label in zip(words, batch["labels"][0].tolist(), strict=True) if label != -100]
    assert labelled == ["w7", "w8", "</s>", "w9", "</s>"]
    assert torch.isfinite(trainer.compute_loss(model, batch))
    assert len(trainer.teacher) == 2


def test_the_balancing_loss_of_a_mixture_of_experts_is_added_as_trl_adds_it(tmp_path):
    runs = []
    for kind, coefficient in ((trl.SFTTrainer, 0.5), (IVSFTTrainer, 0.5), (IVSFTTrainer, 0.0)):
        trainer = made(tmp_path, ended(PAIRS), kind=kind, family="mixtral", router_aux_loss_coef=coefficient)
        trainer.train()
        runs.append(kit.losses(trainer))
    assert runs[1] == pytest.approx(runs[0], abs=1e-5)
    assert abs(runs[2][0] - runs[1][0]) > 0.1


def test_evaluation_gives_trl_s_loss(tmp_path):
    found = []
    for kind in (trl.SFTTrainer, IVSFTTrainer):
        trainer = made(tmp_path, ended(PAIRS), kind=kind)
        found.append(trainer.evaluate(datasets.Dataset.from_list(ended(PAIRS)))["eval_loss"])
    assert found[1] == pytest.approx(found[0], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"packing": True, "packing_strategy": "wrapped", "max_length": 8}, "'wrapped' cuts samples apart"),
        ({"packing": True, "packing_strategy": "bfd_split", "max_length": 8}, "'bfd_split' cuts samples apart"),
        ({"packing": True, "max_length": 40, "given": ("a", "b")}, "packing drops the column that names"),
        # Rows that name no vector train plainly, and once packed none names one.
        ({"packing": True, "max_length": 40, "given": ("a", None)}, "packing drops the column that names"),
        ({"completion_only_loss": False}, "the loss covers the prompts too"),
        ({"loss_type": "dft"}, "loss_type='nll', not 'dft'"),
        ({"label_smoothing_factor": 0.1}, "leave out label_smoothing_factor"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_guidance_cannot_go_with_is_refused_at_construction(tmp_path, options, message):
    model = kit.adapted()
    vector = kit.vector(model)
    names = options.pop("given", ())
    given = {name or "": vector if name else None for name in names} or vector
    with pytest.raises(TrainingError, match=message):
        made(tmp_path, ended(PAIRS), model=model, vector=given, **options)


@pytest.mark.parametrize(("version", "fits"), [("1.16.0", True), ("1.16.3", True), ("1.15.2", False), ("1.17.0", False)])
def test_only_tested_versions_of_trl_are_accepted(version, fits):
    if fits:
        check_version(version)
    else:
        with pytest.raises(IVError, match=f"tested with TRL >=1.16,<1.17, here is {version}; run `pip install"):
            check_version(version)


def test_without_trl_the_extra_is_named():
    code = (
        "import sys; sys.modules['trl'] = None\nimport instruction_vectors\n"
        "try:\n    instruction_vectors.IVSFTTrainer\nexcept instruction_vectors.errors.IVError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "pip install '.[trl]' in the repository's folder" in done.stdout, done.stderr


def test_with_auto_chats_are_steered_by_the_vector_of_their_system_prompt(tmp_path, monkeypatch):
    monkeypatch.setattr(automatic, "universal_heads", lambda model, tokenizer: kit.HEADS)
    other = {"messages": [{"role": "system", "content": "w9 w9"}, *CHAT["messages"][1:]]}
    trainer = made(
        tmp_path, [CHAT, other] * 20, vector="auto", assistant_only_loss=True, max_length=None, per_device_train_batch_size=8
    )
    assert set(trainer.vectors) == {"", "w5 w6", "w9 w9"}
    batch = batch_of(trainer)
    starts = Targets.of(batch).starts
    assert set(starts) == {"w5 w6", "w9 w9"}
    answers = sum(where for where in starts.values())
    assert answers.sum(1).tolist() == [2] * 8  # both turns of the assistant
    system = tiny.tokenizer(bos=False)("w9")["input_ids"][0]
    for ids, where in zip(batch["input_ids"], starts["w9 w9"], strict=True):
        assert bool(where.any()) == (system == ids[1])
    trainer.train()
    assert len(kit.losses(trainer)) == 5


def test_with_auto_packed_rows_have_the_universal_vector(tmp_path, monkeypatch):
    monkeypatch.setattr(automatic, "universal_heads", lambda model, tokenizer: kit.HEADS)
    rows = [{**pair, "instruction": "Say it."} for pair in ended(PAIRS)] * 3
    trainer = made(tmp_path, rows, vector="auto", packing=True, max_length=40)
    assert set(trainer.vectors) == {""}
    trainer.compute_loss(trainer.model, batch_of(trainer))
