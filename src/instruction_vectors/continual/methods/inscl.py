"""InsCL: replay, more of the tasks whose prompts are furthest from this one's."""

import random
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from instruction_vectors.continual.method import Row
from instruction_vectors.continual.methods.replay import Replay
from instruction_vectors.files import write_atomic
from instruction_vectors.models.anatomy import anatomy_of, evaluating
from instruction_vectors.models.tokens import pad
from instruction_vectors.training.views import original


class InsCL(Replay):
    r"""Replay whose budget is shared out by Wasserstein distance to the task at hand (Wang et al. 2403.11435, eq. 4).

    Of `memory` rows for each earlier task in all, task i gets the share $W_i / \sum_k W_k$, as far as it has kept rows. W is
    between the embeddings of the tasks' prompts in the original model: means of the last hidden states. The authors'
    second part, a choice of rows by tags that a large model writes, is not taken over.
    """

    name = "inscl"
    source = "Wang et al. 2403.11435"
    settings = ("memory", "embedded")
    embedded = 32
    """Prompts of each task that stand for it."""

    def attach(self, base: nn.Module) -> None:
        """An adapter, and nothing to remember yet."""
        super().attach(base)
        self.places: dict[str, Tensor] = {}

    def begin(self, number: int, rows: Sequence[Row]) -> list[Row]:
        """This task's rows and, of each earlier task, as many as its distance earns."""
        here = self.embed(rows)
        earlier = sorted(self.kept, key=int)
        counts = shares([wasserstein(here, self.places[each]) for each in earlier], self.memory * len(earlier))
        chosen = list(rows)
        for each, count in zip(earlier, counts, strict=True):
            generator = random.Random(f"inscl/{self.stage.seed}/{number}/{each}")
            chosen += generator.sample(self.kept[each], min(count, len(self.kept[each])))
        return chosen

    def end(self, number: int, rows: Sequence[Row]) -> None:
        """Keep rows of this task (twice what an even share would need) and where its prompts lie."""
        generator = random.Random(f"inscl/{self.stage.seed}/{number}")
        self.kept[str(number)] = generator.sample(list(rows), min(2 * self.memory, len(rows)))
        self.places[str(number)] = self.embed(rows)

    @torch.no_grad()
    def embed(self, rows: Sequence[Row]) -> Float[Tensor, "prompt hidden"]:
        """The mean last hidden state of each of the first prompts, in the original model."""
        prompts = [
            [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == -100]
            for row in rows[: self.embedded]
        ]
        ids, mask = pad(prompts)
        anatomy = anatomy_of(self.model)
        with evaluating(self.model), original(self.model):
            hidden = anatomy.backbone(input_ids=ids.to(anatomy.device), attention_mask=mask.long().to(anatomy.device))[0]
        weights = mask.to(hidden)[..., None]
        return (hidden * weights).sum(1) / weights.sum(1)

    def save(self, folder: Path) -> None:
        """The adapter, the memory and the places."""
        super().save(folder)
        places = {number: place.contiguous() for number, place in self.places.items()}
        write_atomic(folder / "places.safetensors", safetensors.torch.save(places))

    def restore(self, base: nn.Module, folder: Path) -> None:
        """The adapter, the memory and the places."""
        super().restore(base, folder)
        self.places = safetensors.torch.load_file(folder / "places.safetensors", device=str(self.model.device))


def wasserstein(one: Float[Tensor, "point hidden"], other: Float[Tensor, "point hidden"]) -> float:
    """The 1-Wasserstein distance of two clouds of equally heavy points; of the larger, the first as many as the smaller has.

    Between as many points, some one-to-one matching carries the least (Peyré and Cuturi 1803.00567, prop. 2.1).
    """
    count = min(len(one), len(other))
    distances = torch.cdist(one[:count].cpu().double(), other[:count].cpu().double()).numpy()
    return float(distances[linear_sum_assignment(distances)].mean())


def shares(weights: Sequence[float], total: int) -> list[int]:
    """`total` rows shared out in proportion to the weights, in whole rows by largest remainder; evenly if all weigh nothing."""
    if not weights:
        return []
    weighed = sum(weights)
    exact = [total * weight / weighed if weighed else total / len(weights) for weight in weights]
    counts = [int(each) for each in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts
