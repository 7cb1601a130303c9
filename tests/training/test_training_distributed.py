"""Two processes learn from a batch what one process learns from it."""

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
given = {"vector": kit.vector(model), "guidance": IVGuidanceConfig(kl_positions=positions)} if positions != "plain" else {}
trainer = kit.trainer(
    model, out + ".d", kit.distinct_rows(8), data_collator=TreeCollator(model), per_device_train_batch_size=8 // processes,
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


def one_step(tmp_path, processes, positions):
    script, out = tmp_path / "step.py", tmp_path / f"{processes}.safetensors"
    script.write_text(ONE_STEP)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(out), positions],
        env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return safetensors.torch.load_file(out)


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["plain", "last_input", "answer"])
def test_two_processes_take_the_step_that_one_takes(tmp_path, positions):
    alone, together = one_step(tmp_path, 1, positions), one_step(tmp_path, 2, positions)
    assert max(float(g.abs().max()) for g in alone.values()) > 1e-2
    for name, want in alone.items():
        torch.testing.assert_close(together[name], want, rtol=0, atol=1e-5)
