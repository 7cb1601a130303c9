"""How large an intervention is beside what it meets: ‖αv‖ / ‖h‖."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError, VectorError
from instruction_vectors.models.anatomy import Anatomy, anatomy_of, evaluating
from instruction_vectors.models.hooks import capture_heads, edit_stream
from instruction_vectors.models.tokens import encode
from instruction_vectors.settings import one_of
from instruction_vectors.vectors.injection import Mode
from instruction_vectors.vectors.vector import InstructionVector


@torch.no_grad()
def dose(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    vector: InstructionVector,
    prompts: Sequence[str],
    *,
    mode: Mode = "distributed",
    scale: float = 1.0,
) -> dict[int, float]:
    """Norm of what is added to the residual stream after each layer over the stream's own there, at the prompts' last token.

    Args:
        model: the model the vector goes into.
        tokenizer: its tokenizer.
        vector: what is put in.
        prompts: texts that end where the answer begins.
        mode: as in `InstructionVector.applied`.
        scale: α.

    Returns:
        By layer that something is added at, the mean ratio over prompts. The stream is that of the model left alone; of
        families that normalise what heads write, it is what they write before that which is set beside it.

    Raises:
        VectorError: another mode; or the vector does not fit the model or its tokenizer, or has no layer to be summed at.
        DataError: no prompt.
    """
    one_of(Mode, mode, "mode", VectorError)
    vector.check_fits(model, tokenizer)
    if not prompts:
        raise DataError("a dose needs at least one prompt")
    anatomy = anatomy_of(model)
    layers = sorted({layer for layer, _ in vector.heads})
    if mode == "summed":
        if vector.layer is None:
            raise VectorError("a summed intervention needs a layer: set `layer` when extracting, or use mode='distributed'")
        layers = [vector.layer]
    ratios: dict[int, list[float]] = {layer: [] for layer in layers}
    with evaluating(anatomy.causal_lm):
        for prompt in prompts:
            ids = torch.tensor([encode(tokenizer, prompt)], device=anatomy.device)
            last = torch.zeros(ids.shape, dtype=torch.bool)
            last[0, -1] = True
            stream: dict[int, Tensor] = {}

            def seen(layer: int, hidden: Tensor, stream: dict[int, Tensor] = stream) -> Tensor:
                stream[layer] = hidden[0, -1]
                return hidden

            with ExitStack() as stack:
                heads = stack.enter_context(capture_heads(anatomy, last))
                stack.enter_context(edit_stream(anatomy, set(layers), seen))
                anatomy.backbone(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
            for layer in layers:
                added = _added(anatomy, vector, layer, mode, scale, heads[layer][0])
                ratios[layer].append(float(added.norm() / stream[layer].norm()))
    return {layer: sum(found) / len(found) for layer, found in ratios.items()}


def _added(
    anatomy: Anatomy, vector: InstructionVector, layer: int, mode: Mode, scale: float, heads: Float[Tensor, "head head_dim"]
) -> Float[Tensor, " hidden"]:
    """What the mode adds to the stream after one layer, before any later layer has seen it."""
    if mode == "summed":
        return scale * vector.summed.to(heads)
    mine = [(head, value.to(heads)) for (at, head), value in zip(vector.heads, vector.values, strict=True) if at == layer]
    changes = [(head, scale * value if mode == "distributed" else value - heads[head]) for head, value in mine]
    return torch.stack([anatomy.write(layer, head, change) for head, change in changes]).sum(0)
