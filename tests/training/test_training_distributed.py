"""Two processes learn from a batch what one process learns from it, ask the teacher once, and outlive one of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

TESTS = Path(__file__).parents[1]
ONE_STEP = """
import os, sys
import safetensors.torch
import tiny_training as kit
import torch
from instruction_vectors.training.collator import TreeCollator
from instruction_vectors.training.config import IVGuidanceConfig

torch.set_num_threads(1)
out, positions = sys.argv[1], sys.argv[2]
processes = int(os.environ.get("WORLD_SIZE", 1))
model = kit.adapted()
rows, given = kit.distinct_rows(8), {}
if positions == "one guided row":
    rows[0]["vector"] = "held"
    given = {"vector": {"": None, "held": kit.vector(model)}, "guidance": IVGuidanceConfig(consistency_weight=0.5)}
elif positions != "plain":
    given = {"vector": kit.vector(model), "guidance": IVGuidanceConfig(kl_positions=positions)}
trainer = kit.trainer(
    model, out + ".d", rows, data_collator=TreeCollator(model), per_device_train_batch_size=8 // processes,
    optim="sgd", learning_rate=1.0, lr_scheduler_type="constant", max_grad_norm=0.0, weight_decay=0.0, **given,
)
before = kit.adapter_weights(model)
trainer.train()
assert trainer.state.global_step == 1
assert trainer.args.world_size == processes
if trainer.is_world_process_zero():
    change = {name: before[name] - weight for name, weight in kit.adapter_weights(model).items()}
    safetensors.torch.save_file(change | {"loss": torch.tensor(kit.losses(trainer))}, out)
"""
EPOCHS = """
import json, os, signal, sys
import safetensors.torch
import tiny_training as kit
import torch
from transformers import TrainerCallback
from instruction_vectors.training.config import IVGuidanceConfig

torch.set_num_threads(1)
folder, kill_at = sys.argv[1], int(sys.argv[2])


class Killed(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == kill_at and args.process_index == 1:
            os.kill(os.getpid(), signal.SIGKILL)


model = kit.adapted()
trainer = kit.trainer(
    model, folder + "/run", kit.distinct_rows(8), vector=kit.vector(model), callbacks=[Killed()], num_train_epochs=3,
    per_device_train_batch_size=2, save_strategy="steps", save_steps=2,
    guidance=IVGuidanceConfig(kl_positions="answer", consistency_weight=0.5),
)
trainer.train(resume_from_checkpoint=sys.argv[3:] == ["resume"])
own = {"forwards": trainer.teacher.forwards, "known": len(trainer.teacher)}
with open(f"{folder}/{trainer.args.process_index}.json", "w") as file:
    json.dump(own, file)
if trainer.is_world_process_zero():
    safetensors.torch.save_file(kit.adapter_weights(model), folder + "/end.safetensors")
"""
SHARDED = """
import torch
import torch.distributed as dist
import tiny_training as kit
from pathlib import Path
import sys
from torch.distributed.fsdp import fully_shard
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.training.collator import TreeCollator
from instruction_vectors.training.config import IVGuidanceConfig

torch.set_num_threads(1)
guidance = IVGuidanceConfig(consistency_weight=0.5)


def made():
    model = kit.adapted()
    vectors = {"": kit.vector(model), "plain": None}
    given = {"vector": vectors, "guidance": guidance, "data_collator": TreeCollator(model)}
    return model, kit.trainer(model, Path(sys.argv[1]), kit.distinct_rows(8), **given)


def step(model, trainer, rows):
    loss = trainer.compute_loss(model, trainer.data_collator(rows))
    loss.backward()
    return loss.item()


whole, alone = made()
parted, trainer = made()
rank = dist.get_rank()
for layer in anatomy_of(parted).layers:
    fully_shard(layer)
fully_shard(parted)
rows = kit.distinct_rows(12)
for row in rows[8:]:
    row["vector"] = "plain"
# In the first step one process has no guided row, in the third it knows all that its rows need and the other nothing.
for shares in ((rows[8:], rows[:4]), (rows[:4], rows[:4]), (rows[:4], rows[4:8])):
    mine = step(parted, trainer, shares[rank])
    want = [step(whole, alone, share) for share in shares]
    assert abs(mine - want[rank]) < 1e-9, (mine, want)
    grads = dict(whole.named_parameters())
    for name, weight in parted.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(weight.grad.full_tensor(), grads[name].grad / 2, rtol=0, atol=1e-9)
            assert grads[name].grad.abs().max() > 0
            weight.grad = grads[name].grad = None
assert len(trainer.teacher) == len(alone.teacher)
"""


def started(script, processes, *arguments):
    """A script under torchrun, or alone."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    return subprocess.run(
        [sys.executable, *launcher, str(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def one_step(tmp_path, processes, positions):
    script, out = tmp_path / "step.py", tmp_path / f"{processes}.safetensors"
    script.write_text(ONE_STEP)
    done = started(script, processes, out, positions)
    assert done.returncode == 0, done.stderr
    return safetensors.torch.load_file(out)


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["plain", "last_input", "answer", "one guided row"])
def test_two_processes_take_the_step_that_one_takes(tmp_path, positions):
    alone, together = one_step(tmp_path, 1, positions), one_step(tmp_path, 2, positions)
    assert max(float(g.abs().max()) for g in alone.values()) > 1e-2
    for name, want in alone.items():
        torch.testing.assert_close(together[name], want, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def three_epochs(tmp_path_factory):
    """A folder after three epochs of two processes, and the script."""
    folder = tmp_path_factory.mktemp("epochs")
    script = folder / "epochs.py"
    script.write_text(EPOCHS)
    done = started(script, 2, folder, -1)
    assert done.returncode == 0, done.stderr
    return folder, script


@pytest.mark.slow
def test_processes_tell_each_other_what_the_teacher_said(three_epochs):
    folder, _ = three_epochs
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(2))
    # Two steps an epoch; in the later epochs rows come to the other process and are known there.
    assert first["forwards"] + second["forwards"] == 2 * 2 * 2  # steps, processes, states and head outputs
    assert first["known"] == second["known"]


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_the_next_goes_on_from_the_checkpoint(three_epochs, tmp_path):
    undisturbed, script = three_epochs
    killed = started(script, 2, tmp_path, 3)
    assert killed.returncode != 0
    assert "SIGKILL" in killed.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint-2"]
    assert [path.name for path in (tmp_path / "run" / "checkpoint-2").glob("teacher-*")] == ["teacher-0.safetensors"]
    resumed = started(script, 2, tmp_path, -1, "resume")
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "end.safetensors").read_bytes() == (undisturbed / "end.safetensors").read_bytes()
    assert json.loads((tmp_path / "0.json").read_text())["forwards"] == 0


@pytest.mark.slow
def test_a_model_sharded_by_fsdp_is_guided_as_a_whole_one_is(tmp_path):
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    done = started(script, 2, tmp_path)
    assert done.returncode == 0, done.stderr
