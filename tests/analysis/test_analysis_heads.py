"""The strongest heads, on effects made by hand."""

import pytest
import torch

from instruction_vectors.analysis.heads import strongest
from instruction_vectors.errors import VectorError


def test_every_task_counts_alike_and_the_interval_holds_the_effect():
    one, many = torch.zeros(1, 2, 2), torch.zeros(4, 2, 2)
    one[0, 0, 1] = 0.6
    many[:, 1, 0] = torch.tensor([0.1, 0.3, 0.5, 0.7])
    first, second = strongest([one, many], 2)
    # 0.6 over two tasks is 0.3, and so is not outvoted by four prompts of the other task, whose 0.4 is 0.2.
    assert (first["layer"], first["head"], first["effect"]) == (0, 1, pytest.approx(0.3))
    assert (second["layer"], second["head"], second["effect"]) == (1, 0, pytest.approx(0.2))
    assert second["low"] < 0.2 < second["high"]


def test_prompts_that_agree_leave_no_doubt():
    (only,) = strongest([torch.full((3, 1, 1), 0.25)], 1)
    assert only["low"] == only["high"] == only["effect"] == 0.25


def test_more_heads_than_there_are_are_refused():
    with pytest.raises(VectorError, match="5 heads were asked for, but the model has 4"):
        strongest([torch.zeros(1, 2, 2)], 5)
