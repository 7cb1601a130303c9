"""Where a written answer has ended: what each token of a vocabulary reads, and whether a word or a line is over with it."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

Ends = Literal["word", "line"]


def _ends_word(text: str) -> bool:
    """Whether no letter, digit or mark on a letter comes first; a part of a letter counts as one (it decodes to U+FFFD)."""
    return not text or not (text[0].isalnum() or text[0] == "\ufffd" or unicodedata.category(text[0]).startswith("M"))


def _ends_line(text: str) -> bool:
    """Whether no more than blanks come before a line break, LF or CR LF."""
    return bool(re.match(r"[ \t]*[\r\n]", text))


_RULES: Mapping[Ends, Callable[[str], bool]] = {"word": _ends_word, "line": _ends_line}


@dataclass(frozen=True)
class Endings:
    """What each token of a vocabulary reads after a letter, and which of them end a text.

    Attributes:
        texts: by token id.
        special: ids that are no text: each ends a line and a word.
        ends: what has to be over, the answer's last word or its line.
    """

    texts: list[str]
    special: frozenset[int]
    ends: Ends

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, ends: Ends) -> "Endings":
        """Those of a tokenizer, which keeps what its tokens read."""
        texts: list[str] = getattr(tokenizer, "_iv_texts", [])
        if len(texts) != len(tokenizer):  # tokens may have been added since
            # Decoding after a letter keeps the leading space that some tokenizers strip from a lone token.
            anchor = tokenizer("x", add_special_tokens=False)["input_ids"]
            skip = len(tokenizer.decode(anchor))
            texts = [text[skip:] for text in tokenizer.batch_decode([[*anchor, token] for token in range(len(tokenizer))])]
            tokenizer._iv_texts = texts
        # A model's end of turn may be marked special without a role of its own (eos, pad …), Phi-3's `<|end|>` for one.
        # (Mistral's own tokenizer keeps no such table.)
        table = getattr(tokenizer, "added_tokens_decoder", None)
        unnamed = (token for token, added in table.items() if added.special) if isinstance(table, Mapping) else ()
        return cls(texts, frozenset((*tokenizer.all_special_ids, *unnamed)), ends)

    def after(self, token: int) -> bool:
        """Whether what was written before `token` is over with it. (Ids beyond the tokenizer's are no text.)"""
        return token in self.special or token >= len(self.texts) or _RULES[self.ends](self.texts[token])

    def within(self, last: int, written: int) -> bool:
        """Whether `written` is the token `last` and an ending in one: a full stop and a newline are, for some tokenizers."""
        if written >= len(self.texts):
            return False
        text, whole = self.texts[last], self.texts[written]
        begun = bool(text) and "\ufffd" not in text and len(whole) > len(text) and whole.startswith(text)
        return begun and _RULES[self.ends](whole[len(text) :])
