"""Tiny random language models of many families, in float64 so that equal means equal, and a word-level tokenizer."""

from functools import cache
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerFast

WORDS = tuple(f"w{i}" for i in range(36))
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
VOCABULARY = len(SPECIAL) + len(WORDS)
LAYERS, HEADS, HEAD_DIM, HIDDEN = 3, 4, 8, 32
WINDOW = 5
"""Of the families with a sliding window: shorter than the prompts of these tests."""

_LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
_NEOX = {name: value for name, value in _LLAMA.items() if name != "num_key_value_heads"}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 128}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _LLAMA),
    "llama-mha": ("Llama", {**_LLAMA, "num_key_value_heads": HEADS}),
    "mistral": ("Mistral", {**_LLAMA, "sliding_window": WINDOW}),
    "qwen2": ("Qwen2", _LLAMA),
    "qwen3": ("Qwen3", {**_LLAMA, "head_dim": 12}),
    "gemma2": ("Gemma2", {**_LLAMA, "head_dim": 12, "sliding_window": WINDOW, "query_pre_attn_scalar": 12}),
    "gemma3": ("Gemma3", {**_LLAMA, "head_dim": 12, "sliding_window": WINDOW, "layer_types": _MIXED}),
    "phi3": ("Phi3", _LLAMA),
    "olmo2": ("Olmo2", _LLAMA),
    "smollm3": ("SmolLM3", {**_LLAMA, "no_rope_layers": [1, 0, 1]}),
    "starcoder2": ("Starcoder2", {**_LLAMA, "sliding_window": WINDOW}),
    "mixtral": ("Mixtral", {**_LLAMA, "num_local_experts": 3, "num_experts_per_tok": 2}),
    "qwen3-moe": (
        "Qwen3Moe",
        {**_LLAMA, "head_dim": 12, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
    "gpt2": ("GPT2", _GPT2),
    "gptj": ("GPTJ", {**_GPT2, "rotary_dim": 4}),
    "gpt-neox": ("GPTNeoX", {**_NEOX, "use_parallel_residual": True}),
    "opt": (
        "OPT",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "ffn_dim": 48,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "word_embed_proj_dim": HIDDEN,
            "max_position_embeddings": 128,
        },
    ),
    "falcon": ("Falcon", {**_NEOX, "new_decoder_architecture": False, "multi_query": True, "parallel_attn": True}),
    "falcon-alibi": ("Falcon", {**_NEOX, "alibi": True, "multi_query": False, "parallel_attn": False}),
    "gpt-neo": (
        "GPTNeo",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "num_layers": LAYERS,
            "num_heads": HEADS,
            "attention_types": [[["global", "local"], 1], [["global"], 1]],
            "window_size": WINDOW,
            "max_position_embeddings": 128,
        },
    ),
    "gpt-oss": (
        "GptOss",
        {
            **_LLAMA,
            "head_dim": HEAD_DIM,
            "num_local_experts": 3,
            "num_experts_per_tok": 2,
            "sliding_window": WINDOW,
            "layer_types": _MIXED,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "mpt": ("Mpt", {"vocab_size": VOCABULARY, "d_model": HIDDEN, "n_heads": HEADS, "n_layers": LAYERS, "max_seq_len": 128}),
    "bloom": ("Bloom", {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS}),
}
EAGER_ONLY = ("gemma2", "gptj", "bloom", "gpt-neo", "gpt-oss", "mpt")
WHOLE_FORWARDS = ("falcon-alibi", "bloom", "gpt-neo", "mpt")
"""Families that read no packed tree and no shared prefix, so that the slower routes must take over."""
NORMALISING = ("gemma2", "gemma3", "olmo2")
"""Families that normalise what attention writes before it reaches the residual stream."""
_O_PROJ = {
    "gpt2": "attn.c_proj",
    "gptj": "attn.out_proj",
    "gpt-neo": "attn.attention.out_proj",
    "mpt": "attn.out_proj",
    "gpt-neox": "attention.dense",
    "opt": "self_attn.out_proj",
    "falcon": "self_attention.dense",
    "falcon-alibi": "self_attention.dense",
    "bloom": "self_attention.dense",
}
_DROPOUT = ("attn_pdrop", "resid_pdrop", "embd_pdrop", "dropout", "attention_dropout", "hidden_dropout")


def model(family: str, *, attention: str = "eager", seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """A tiny model of `family` with weights large enough that replacing one head is felt in the output."""
    name, settings = FAMILIES[family]
    config_class = _named(name, ("Config", "TextConfig"))
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = config_class(**{**settings, **special, **changes})
    for field in _DROPOUT:
        if hasattr(config, field):
            setattr(config, field, 0.0)
    config._attn_implementation = attention
    config._experts_implementation = "eager"  # grouped matrix products know no float64
    torch.manual_seed(seed)
    causal_lm = _named(name, ("ForCausalLM", "LMHeadModel"))(config).to(dtype)
    _enlarge(causal_lm, seed)
    return causal_lm.eval()


def with_images() -> tuple[Any, Any]:
    """A model of text and images whose images' part has as many layers, and the text model that is inside it."""
    text = model("gemma3", attention="sdpa")
    vision = {"hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    config = transformers.Gemma3Config(
        text_config=text.config.to_dict(),
        vision_config={**vision, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_index=VOCABULARY - 1,
    )
    config._attn_implementation = "sdpa"
    both = transformers.Gemma3ForConditionalGeneration(config).to(torch.float64).eval()
    both.model.language_model.load_state_dict(text.model.state_dict())
    both.lm_head.load_state_dict(text.lm_head.state_dict())
    return both, text


@cache
def shared(family: str, attention: str = "eager") -> Any:
    """The same as `model`, built once for all tests: leave it as it is."""
    return model(family, attention=attention)


def o_projs(causal_lm: torch.nn.Module, family: str) -> list[torch.nn.Module]:
    """The attention output projections, by the names that the family gives them."""
    ending = f".{_O_PROJ.get(family, 'self_attn.o_proj')}"
    return [module for name, module in causal_lm.named_modules() if name.endswith(ending)]


def head_dim(family: str) -> int:
    """Width of a head in a family."""
    return int(FAMILIES[family][1].get("head_dim", HEAD_DIM))


def means(family: str, seed: int = 5) -> torch.Tensor:
    """Stand-ins for mean head outputs, large enough to be felt."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(LAYERS, HEADS, head_dim(family), generator=generator, dtype=torch.float64)


def _named(family: str, endings: tuple[str, ...]) -> Any:
    candidates = [getattr(transformers, family + ending, None) for ending in reversed(endings)]
    return next(found for found in candidates if found is not None)


@torch.no_grad()
def _enlarge(causal_lm: PreTrainedModel, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, weight in causal_lm.named_parameters():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.dtype)
        if weight.dim() > 1:
            weight.copy_(noise * 1.5 / HIDDEN**0.5)
        elif name.endswith("bias"):
            weight.copy_(noise * 0.3)
        else:
            weight.add_(noise * 0.1)


def tokenizer(*, bos: bool = True, padding_side: str = "right") -> PreTrainedTokenizerFast:
    """Words apart by blanks, one token each; every text starts with `<s>` unless `bos` is off."""
    words = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", words["<s>"])])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", **({"bos_token": "<s>"} if bos else {})}
    return PreTrainedTokenizerFast(tokenizer_object=raw, padding_side=padding_side, **names)


def text(*numbers: int) -> str:
    """The text of the words with these numbers."""
    return " ".join(WORDS[n] for n in numbers)


GRID = [(family, way) for family in FAMILIES for way in ("eager", "sdpa") if way == "eager" or family not in EAGER_ONLY]
"""Families by attention implementations. Eager attention takes its softmax in float32, sdpa in the model's own type."""
PROMPTS = (text(3, 7, 12, 7, 30, 2, 9, 11), text(3, 7, 12, 8), text(20, 21, 22, 23, 24, 25))
TARGETS = (" w5", " w6", " w7")
