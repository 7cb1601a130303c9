"""A tiny model in a folder, with a tokenizer of single characters, so that it reads the shipped tasks."""

import string
from pathlib import Path

import tiny
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.stage import StageConfig

STAGE = StageConfig(epochs=1, learning_rate=1e-2, batch_size=4, rank=2, lora_alpha=4)
TASKS = ("sentiment-word", "verb-v-adjective-3")


def save(folder: Path, family: str = "llama") -> str:
    """Write the model and return its folder's name."""
    characters = ["<unk>", "<eos>", *string.printable]
    raw = Tokenizer(models.WordLevel({c: i for i, c in enumerate(characters)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", eos_token="<eos>").save_pretrained(folder)
    tiny.model(family, dtype=torch.float32, vocab_size=len(characters), max_position_embeddings=4096).save_pretrained(folder)
    return str(folder)


def cell(model: str, **changes: object) -> Cell:
    """A cell that takes about a second."""
    small = {
        "benchmark": "shipped", "sequence": ",".join(TASKS), "model": model, "stage": STAGE, "train_rows": 8, "test_rows": 6,
        "probes": ("present-past", "capitalize"), "probe_rows": 4, "heads": 2, "shots": 2, "mean_prompts": 3,
        "effect_prompts": 1, "max_tokens": 512, "max_new_tokens": 8,
    }  # fmt: skip
    return Cell(**(small | changes))  # type: ignore[arg-type]
