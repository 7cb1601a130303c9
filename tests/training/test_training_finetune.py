"""`iv train` end to end on a tiny model: what it writes, how it goes on, what it refuses."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training as kit
import tiny_world
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, TrainerCallback, TrainingArguments

from instruction_vectors.cli import main
from instruction_vectors.errors import DataError, IVError, TrainingError
from instruction_vectors.models.loading import load, model_fingerprint
from instruction_vectors.tasks import load_task, task_names
from instruction_vectors.training import automatic, finetune
from instruction_vectors.training.anchors import input_of
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.finetune import fine_tune
from instruction_vectors.training.recipe import Recipe
from instruction_vectors.training.run_folder import last_checkpoint
from instruction_vectors.vectors.vector import InstructionVector


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model in a folder and a file of 40 rows under two instructions."""
    folder = tmp_path_factory.mktemp("world")
    model = tiny_world.save(folder / "model")
    rows = [
        {"instruction": (name := ("up", "down")[i % 2]), "prompt": f"{name} {i}:", "completion": f" {'ud'[i % 2]}{i % 3}"}
        for i in range(40)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return model, str(folder / "rows.jsonl")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Finding the heads on real tasks has a test of its own."""
    monkeypatch.setattr(automatic, "universal_heads", lambda model, tokenizer: kit.HEADS)


@pytest.fixture
def recipe(world):
    model, rows = world
    return Recipe(data=rows, model=model, epochs=1.0, learning_rate=1e-2, lora_rank=2)


def weights(out):
    return load_file(out / "adapter" / "adapter_model.safetensors")


def test_an_adapter_comes_out_that_guidance_made(recipe, tmp_path):
    result = fine_tune(recipe, tmp_path)
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert (result["rows"], result["left_out"], result["steps"]) == (40, 0, 5)
    assert result["vectors"] == ["", "down", "up"]
    assert len(result["losses"]) == 5
    assert result["config"]["guidance"]["schedule"] == "progressive"
    base = AutoModelForCausalLM.from_pretrained(recipe.model)
    assert result["model_fingerprint"] == model_fingerprint(base)
    assert InstructionVector.from_pretrained(tmp_path / "vectors" / "1").metadata["group"] == "down"
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["teacher_forwards"] == 5
    assert run["processes"] == 1
    assert not (tmp_path / "checkpoints").exists()
    adapted, tokenizer = load(recipe.model, adapter=tmp_path / "adapter")
    ids = tokenizer("up 2:", return_tensors="pt")
    assert (adapted(**ids).logits - base(**ids).logits).abs().max() > 1e-2
    again = fine_tune(recipe, tmp_path, progress=lambda done, steps: pytest.fail("trained again"))
    assert again == result


def test_anchors_stand_beside_rows_that_train_plainly(recipe, tmp_path, monkeypatch):
    made = []
    packed = finetune.packed_trainer
    monkeypatch.setattr(finetune, "packed_trainer", lambda *a, **k: made.append((a[2], packed(*a, **k))) or made[-1][1])
    result = fine_tune(replace(recipe, vector="anchors", anchors=0.5), tmp_path)
    ((rows, trainer),) = made
    assert result["rows"] == len(rows) == 40 + result["anchors"]
    assert 1 <= result["anchors"] <= 20
    assert result["vectors"] == sorted(task_names())
    assert [row["vector"] for row in rows[:40]] == [""] * 40
    assert {row["vector"] for row in rows[40:]} <= set(task_names())
    assert trainer.unguided == {""}
    assert trainer.teacher.forwards > 0
    again = fine_tune(replace(recipe, vector="anchors", anchors=0.5), tmp_path / "again")
    assert again == result
    plain = fine_tune(replace(recipe, vector="none"), tmp_path / "plain")
    assert plain["anchors"] == 0
    assert len(result["losses"]) > len(plain["losses"])


def test_an_anchor_asks_about_what_a_row_asks_about():
    told = {"prompt": "Say it.\nInput: hot: or cold\nOutput:", "completion": " x", "instruction": "Say it."}
    assert input_of(told) == "hot: or cold"
    assert input_of({"prompt": "hot", "completion": " cold"}) == "hot"
    turns = [("system", "s"), ("user", "first"), ("assistant", "a"), ("user", "second"), ("assistant", "b")]
    assert input_of({"messages": [{"role": role, "content": text} for role, text in turns]}) == "second"


def test_rows_without_an_input_have_nothing_to_ask_about(recipe, tmp_path):
    rows = [{"prompt": "Say it.", "completion": f" {i}", "instruction": "Say it."} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(TrainingError, match="no row has one beside its instruction; take vector 'auto'"):
        fine_tune(replace(recipe, data=str(tmp_path / "rows.jsonl"), vector="anchors"), tmp_path / "run")


def test_plain_training_and_training_towards_nothing_are_the_same(recipe, tmp_path):
    off = IVGuidanceConfig(kl_weight=0.0, sign=0)
    recipe = replace(recipe, epochs=3.0)
    plain = fine_tune(replace(recipe, vector="none"), tmp_path / "plain")
    guided = fine_tune(replace(recipe, guidance=off), tmp_path / "off")
    assert plain["losses"] == guided["losses"]
    assert sum(plain["losses"][-5:]) < 0.9 * sum(plain["losses"][:5])
    assert plain["vectors"] == []
    mine = weights(tmp_path / "plain")
    assert all(torch.equal(mine[name], weight) for name, weight in weights(tmp_path / "off").items())


class Kill(TrainerCallback):
    """Pulls the plug once."""

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt


def stopped_in_the_middle(recipe, out):
    made = finetune._trainer

    def doomed(*args):
        trainer = made(*args)
        trainer.add_callback(Kill())
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "_trainer", doomed)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(recipe, out)


def test_a_stopped_run_goes_on_from_its_last_whole_checkpoint_and_ends_the_same(recipe, tmp_path, monkeypatch):
    recipe = replace(recipe, forgetting=True)
    monkeypatch.setattr(finetune, "_LOOKS", 2)
    whole = fine_tune(recipe, tmp_path / "whole")
    stopped_in_the_middle(recipe, tmp_path / "cut")
    checkpoints = tmp_path / "cut" / "checkpoints"
    assert last_checkpoint(checkpoints).name == "checkpoint-3"
    shutil.copytree(checkpoints / "checkpoint-3", checkpoints / "checkpoint-4")  # killed while it was written
    (checkpoints / "checkpoint-4" / "trainer_state.json").write_text('{"global_st')
    assert last_checkpoint(checkpoints).name == "checkpoint-3"
    done = []
    result = fine_tune(recipe, tmp_path / "cut", progress=lambda step, steps: done.append((step, steps)))
    assert done == [(4, 5), (5, 5)]
    assert result == whole
    assert set(result["forgetting"]) == {"0", "2", "4", "5"}  # not 3, where it went on
    mine = weights(tmp_path / "whole")
    assert all(torch.equal(mine[name], weight) for name, weight in weights(tmp_path / "cut").items())
    assert (tmp_path / "cut" / "result.json").read_bytes() == (tmp_path / "whole" / "result.json").read_bytes()


def test_a_stopped_run_does_not_go_on_over_another_model(recipe, tmp_path):
    model = Path(shutil.copytree(recipe.model, tmp_path / "model"))
    recipe = replace(recipe, model=str(model), vector="none")
    stopped_in_the_middle(recipe, tmp_path / "cut")
    weights_file = model / "model.safetensors"
    stored = load_file(weights_file)
    save_file({name: weight * 1.5 for name, weight in stored.items()}, weights_file, {"format": "pt"})
    with pytest.raises(DataError, match=r"holds a run with other settings \(model_fingerprint\)"):
        fine_tune(recipe, tmp_path / "cut")
    save_file(stored, weights_file, {"format": "pt"})
    assert fine_tune(recipe, tmp_path / "cut")["steps"] == 5


@pytest.mark.parametrize(("rows", "batch", "accumulation", "epochs"), [(40, 8, 1, 1.0), (40, 6, 2, 2.0), (7, 4, 4, 1.5)])
def test_the_steps_told_beforehand_are_those_taken(recipe, tmp_path, rows, batch, accumulation, epochs):
    (tmp_path / "rows.jsonl").write_text("".join(open(recipe.data).readlines()[:rows]))  # noqa: PTH123, SIM115
    config = replace(
        recipe, data=str(tmp_path / "rows.jsonl"), batch_size=batch, accumulation=accumulation, epochs=epochs, vector="none"
    )
    told = []
    result = fine_tune(config, tmp_path / "run", say=told.append)
    assert f"{rows} rows (" in told[0]
    assert f" {result['steps']} steps on 1 process, " in told[0]
    assert ", plain; weights, gradients and optimizer hold " in told[0]
    assert re.fullmatch(rf"a step took \d+\.\d s, {result['steps'] - 1} more: about \d+ s; [\d,]+ MB at most so far", told[1])
    assert told[-1].startswith(f"step {result['steps']} of {result['steps']}: lm ")


def test_teacher_states_are_shared_by_runs(recipe, tmp_path):
    for name in ("a", "b"):
        fine_tune(recipe, tmp_path / name, teacher_cache=tmp_path / "shelf")
    asked = [json.loads((tmp_path / name / "run.json").read_text())["teacher_forwards"] for name in ("a", "b")]
    assert asked == [5, 0]
    assert (tmp_path / "a" / "result.json").read_bytes() == (tmp_path / "b" / "result.json").read_bytes()


def test_a_folder_holds_one_run_and_other_data_is_another_run(recipe, tmp_path):
    fine_tune(recipe, tmp_path / "run")
    with pytest.raises(DataError, match=r"holds a run with other settings \(learning_rate\)"):
        fine_tune(replace(recipe, learning_rate=1e-3), tmp_path / "run")
    data = tmp_path / "rows.jsonl"
    shutil.copy(recipe.data, data)
    mine = replace(recipe, data=str(data), vector="none")
    fine_tune(mine, tmp_path / "mine")
    data.write_text(data.read_text() + json.dumps({"prompt": "x", "completion": "y"}))
    with pytest.raises(DataError, match=r"other settings \(data_sha256\)"):
        fine_tune(mine, tmp_path / "mine")
    guide = InstructionVector.from_pretrained(tmp_path / "run" / "vectors" / "1")
    guide.save_pretrained(tmp_path / "vector")
    guided = replace(recipe, vector=str(tmp_path / "vector"))
    fine_tune(guided, tmp_path / "guided")
    (2 * guide).save_pretrained(tmp_path / "vector")
    with pytest.raises(DataError, match=r"other settings \(vector_fingerprint\)"):
        fine_tune(guided, tmp_path / "guided")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": "nothing_like_it"}, "the model has no module 'nothing_like_it'"),
        ({"target_modules": "q_proj, no_proj,"}, "the model has no module 'no_proj'"),
        ({"target_modules": "input_layernorm"}, "PEFT cannot put an adapter on this model"),
        ({"batch_size": 7, "accumulation": 2}, "batch_size 7 cannot be divided by accumulation times processes .2."),
        ({"learning_rate": 1e30}, "the loss is"),
    ],
)
def test_what_cannot_be_trained_is_said(recipe, tmp_path, changes, message):
    with pytest.raises(TrainingError, match=message):
        fine_tune(replace(recipe, **changes), tmp_path)
    assert (tmp_path / "config.json").exists() == ("learning_rate" in changes)  # mistakes do not hold the folder


def test_a_full_disk_costs_a_sentence_and_the_run_goes_on_later(recipe, tmp_path, monkeypatch):
    from transformers import Trainer

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises(TrainingError, match=r"No space left on device.*goes on from its last checkpoint"):
            fine_tune(recipe, tmp_path)
    assert fine_tune(recipe, tmp_path)["steps"] == 5


def test_a_disk_that_takes_half_of_an_optimizer_costs_a_sentence_too(recipe, tmp_path, monkeypatch):
    """`torch.save` names no reason, and raises no OSError."""
    from transformers import Trainer

    whole = Trainer._save_optimizer_and_scheduler

    def full(self, folder):
        half = (Path(folder) / "adapter_model.safetensors").stat().st_size // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (half, resource.RLIM_INFINITY))
        whole(self, folder)

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
            with pytest.raises(TrainingError, match="goes on from its last checkpoint"):
                fine_tune(recipe, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, handler)
    assert fine_tune(recipe, tmp_path)["steps"] == 5


def test_of_several_gpus_one_is_trained_on(recipe, tmp_path, monkeypatch):
    """As where two are seen: a Trainer would spread each batch over them, which guidance refuses."""
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 1 if vars(self).get("_n_gpu") == 1 else 2))
    assert fine_tune(recipe, tmp_path)["steps"] == 5


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, TrainingError, "nothing to train on: give `data`"),
        ({"data": "x", "learn": 1}, IVError, "unknown settings: learn; there are data, model"),
        ({"data": "x", "epochs": "many"}, IVError, "epochs: expected float, got 'many'"),
        ({"data": "x", "lora_rank": 2.5}, IVError, "lora_rank: expected int, got 2.5"),
        ({"data": "x", "batch_size": 0}, TrainingError, "batch_size must be above 0, got 0"),
        ({"data": "x", "dtype": "float16"}, TrainingError, "dtype must be"),
        ({"data": "x", "anchors": 0}, TrainingError, "anchors must be above 0, got 0"),
        ({"data": "x", "vector": "anchors", "guidance": {"kl_positions": "answer"}}, TrainingError, "must be 'last_input'"),
        ({"data": "x", "guidance": {"mode": "summed"}}, TrainingError, "vector 'auto' does not choose"),
        ({"data": "x", "guidance": [1]}, IVError, "guidance: expected settings by name"),
        ({"data": "x", "guidance": {"lambda": 1}}, IVError, "unknown settings under guidance: lambda; there are schedule"),
        ({"data": "x", "guidance": {"sign": 2}}, TrainingError, "sign must be"),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused_by_name(settings, error, message):
    with pytest.raises(error, match=message):
        Recipe.of(settings)


def test_a_recipe_comes_back_from_what_it_resolves_to():
    made = Recipe.of({"data": "x", "learning_rate": "1e-3", "epochs": 2, "guidance": {"kl_weight": 2, "sign": 0}})
    assert (made.learning_rate, made.epochs, made.guidance.kl_weight, made.guidance.sign) == (1e-3, 2.0, 2.0, 0)
    assert Recipe.of(made.resolved()) == made


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(world, tmp_path):
    model, rows = world
    verb = ["instruction_vectors.cli", "train", "--data", rows, "--model", model, "--epochs", "1", "--lora-rank", "2", "--json"]
    found = []
    for processes in (1, 2):
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
        done = subprocess.run(
            [sys.executable, *launcher, "-m", *verb, "--out", str(tmp_path / str(processes))],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert json.loads((tmp_path / "2" / "run.json").read_text())["processes"] == 2
    assert found[1]["losses"] == pytest.approx(found[0]["losses"], abs=1e-4)
    alone, together = weights(tmp_path / "1"), weights(tmp_path / "2")
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, rtol=0, atol=1e-4)


@pytest.fixture
def iv():
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


def test_the_verb_takes_a_file_of_settings_and_flags_above_it(iv, world, tmp_path):
    model, rows = world
    config = tmp_path / "train.yaml"
    config.write_text(
        f"data: {rows}\nmodel: {model}\nlora_rank: 2\nepochs: 3\nlearning_rate: 1e-2\nguidance: {{kl_weight: 0.5}}\n"
    )
    result = iv("train", "--config", config, "--epochs", "1", "--out", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["config"]["epochs"] == 1.0
    assert printed["config"]["guidance"]["kl_weight"] == 0.5
    assert printed["steps"] == 5
    assert "torchrun --nproc_per_node N -m instruction_vectors.cli" in result.stderr
    assert "40 rows (" in result.stderr
    assert "step 5 of 5: lm " in result.stderr


def test_bad_use_of_the_verb_is_told_before_a_model_is_opened(iv, world, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "load", lambda *a, **k: pytest.fail("a model was opened"))
    assert iv("train", "--data", world[1], "--plain", "--vector", "auto", "--out", tmp_path).exit_code == 2
    assert iv("train", "--data", world[1], "--guided", "--vector", "none", "--out", tmp_path).exit_code == 2
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n')
    result = iv("train", "--data", bad, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert f"iv: {bad}, line 2: no 'completion'" in result.stderr
    assert not (tmp_path / "run").exists()
    result = iv("train", "--data", world[1], "--vector", tmp_path, "--out", tmp_path / "run")
    assert "is not an instruction vector" in result.stderr


def test_what_is_learnt_is_not_watched_for_forgetting():
    told = []
    plural = load_task("singular-plural")
    rows = [
        {"prompt": f"{plural.instruction}\nInput: cat\nOutput:", "completion": " cats"},
        {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]},
    ]
    assert [probe.task.name for probe in finetune._untouched(rows, told.append)] == ["country-capital", "animal-or-object"]
    assert told == ["not watched for forgetting, since the rows are under its instruction: singular-plural"]
    assert len(finetune._untouched(rows[1:], told.append)) == 3
    asked = {"messages": [{"role": "system", "content": plural.instructions[-1]}, *rows[1]["messages"]]}
    assert len(finetune._untouched([asked], None)) == 2
