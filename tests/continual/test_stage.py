"""A batch that is too long for one forward is cut, which changes memory and nothing else."""

from pathlib import Path

import pytest
import tiny
import tiny_training as kit
import torch

from instruction_vectors.continual.stage import StageConfig, add_adapter, rows_together, train_stage
from instruction_vectors.errors import TrainingError
from instruction_vectors.training.config import IVGuidanceConfig


def config(**changes: int) -> StageConfig:
    return StageConfig(epochs=2, learning_rate=1e-2, batch_size=6, rank=2, **changes)


def test_as_many_rows_go_together_as_the_longest_leave_room_for() -> None:
    rows = [kit.row([1] * (length - 1), [2]) for length in (10, 4, 4, 4, 4, 4, 4)]
    for tokens, count in ((30, 6), (29, 3), (18, 3), (17, 2), (14, 2), (13, 1), (3, 1)):
        assert rows_together(rows, config(tokens_at_once=tokens)) == count


@pytest.mark.parametrize("guided", [False, True], ids=["plain", "guided"])
def test_losses_and_weights_are_those_of_whole_batches(guided: bool, tmp_path: Path) -> None:
    ends = []
    for tokens in (2048, 8):
        model = add_adapter(tiny.model("llama"), config()).to(torch.float64)
        given = {"vector": kit.vector(model), "guidance": IVGuidanceConfig()} if guided else {}
        widths: set[int] = set()
        model.base_model.model.model.register_forward_pre_hook(
            lambda module, args, kwargs, widths=widths: widths.add(kwargs["input_ids"].numel()), with_kwargs=True
        )
        told = train_stage(model, kit.distinct_rows(12), config(tokens_at_once=tokens), folder=tmp_path, **given)
        ends.append((told["steps"], told["loss"], kit.adapter_weights(model), max(widths)))
    (steps, loss, weights, wide), (cut_steps, cut_loss, cut_weights, narrow) = ends
    assert steps == cut_steps == 4
    assert narrow < wide / 2
    assert cut_loss == pytest.approx(loss, rel=1e-6)
    for name, weight in weights.items():
        torch.testing.assert_close(cut_weights[name], weight, rtol=0, atol=1e-6)


def test_no_tokens_at_once_are_refused() -> None:
    with pytest.raises(TrainingError, match="tokens_at_once must be above 0, got 0"):
        config(tokens_at_once=0)


def test_a_stage_without_a_vector_trains_plainly_and_says_nothing_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = add_adapter(tiny.model("llama"), config())
    train_stage(model, kit.distinct_rows(6), config(), folder=tmp_path, guidance=IVGuidanceConfig())
    assert "without a vector" not in caplog.text
