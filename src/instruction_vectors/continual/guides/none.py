"""No guide: plain training, the baseline of IV-guided training (Jiang et al. 2406.12227)."""

from instruction_vectors.continual.guide import Guide, Vectors


class Unguided(Guide):
    """No vector, and so no KL term either: the language-model loss alone."""

    name = "none"
    source = "baseline of Jiang et al. 2406.12227"

    def vector(self, task: str, vectors: Vectors) -> None:
        """None."""
