"""A cell: one method, guided or not, through one sequence with one seed, and everything its numbers depend on."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

from instruction_vectors.continual.guides import guide_named, guides
from instruction_vectors.continual.methods import method_if_known, method_named
from instruction_vectors.continual.stage import StageConfig
from instruction_vectors.errors import IVError
from instruction_vectors.models.loading import DType
from instruction_vectors.settings import one_of, settings_of
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.vectors.prompting import Source

LINKED_PROBES = (
    "country-capital",
    "country-continent",
    "present-past",
    "singular-plural",
    "animal-or-object",
    "fruit-or-vegetable",
)
"""Shipped tasks with a knowledge form, measured and never trained on: every measure stands on the same tasks."""
PROBES = (*LINKED_PROBES, "capitalize", "choose-last-of-3")
"""With two more that have none."""
HEADS = 10
SOURCE: Source = "demonstrations"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a grid.

    Attributes:
        benchmark: as `load_benchmark` takes it.
        sequence: one of its orders.
        method: one of `continual.methods`.
        guide: one of `continual.guides`.
        seed: decides the training rows, the adapter's start and their order; test rows are the same for all seeds.
        model: short name, hub id or folder.
        dtype: of its frozen weights, and so of what it computes; adapters train in float32.
        stage: how each task is trained on.
        guidance: how the guide guides.
        method_settings: values in place of a method's own, by method (`{ewc: {strength: 400}}`); those of other methods than
            the cell's concern other cells of its grid.
        train_rows: rows a task, as far as it has them.
        test_rows: rows a task of the score matrix.
        probes: shipped tasks that are not trained on (GP, IP, knowledge, instruction).
        probe_rows: rows a probe.
        general: sets of `eval/` in the data folder (GP and IP on general ability); none by default.
        general_rows: questions a set.
        triangle: measure only the tasks learnt so far (FWT is then not known).
        max_tokens: longest input; a longer one is cut in its middle.
        max_new_tokens: longest answer.
        heads: heads of a vector, k.
        source: what the prompts show that a vector is made from: solved examples, or the instruction alone (`vectors.extract`).
        shots: shots of in-context prompts.
        mean_prompts: prompts that head outputs are averaged over.
        effect_prompts: counterfactual prompts a task that the causal heads are found on.
    """

    benchmark: str
    sequence: str
    method: str = "sequential"
    guide: str = "none"
    seed: int = 0
    model: str = "smollm2-135m-instruct"
    dtype: DType = "float32"
    stage: StageConfig = field(default_factory=StageConfig)
    guidance: IVGuidanceConfig = field(default_factory=IVGuidanceConfig)
    method_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    train_rows: int = 1000
    test_rows: int = 40
    probes: tuple[str, ...] = PROBES
    probe_rows: int = 25
    general: tuple[str, ...] = ()
    general_rows: int = 60
    triangle: bool = False
    max_tokens: int = 512
    max_new_tokens: int = 128
    heads: int = HEADS
    source: Source = SOURCE
    shots: int = 5
    mean_prompts: int = 25
    effect_prompts: int = 2

    def __post_init__(self) -> None:
        # One seed for everything that is drawn.
        object.__setattr__(self, "stage", replace(self.stage, seed=self.seed))
        method, guide = method_named(self.method), guide_named(self.guide)
        if not isinstance(self.method_settings, Mapping):
            raise IVError(f"method_settings: expected settings by method, got {self.method_settings!r}")
        changed = {name: method_named(name).changed(given) for name, given in self.method_settings.items()}
        object.__setattr__(self, "method_settings", {name: values for name, values in changed.items() if values})
        if guide.anchors_only and not method.anchors_share:
            raise IVError(f"guide {self.guide!r} guides anchors, which method {self.method!r} does not make")
        if guide.anchors_only and self.guidance.kl_positions == "answer":
            raise IVError(f"guide {self.guide!r} leaves the tasks' own rows alone, so kl_positions must be 'last_input'")
        compared = guide.guidance(self.guidance).kl_positions
        if method.trains_on_instructions and self.guide != "none" and compared == "answer":
            raise IVError(
                f"method {self.method!r} trains on rows that no vector is of, and guide {self.guide!r} compares every answer "
                "token (kl_positions 'answer'): take another of the two, or kl_positions 'last_input'"
            )
        if self.guidance.mode == "summed":
            raise IVError("guidance.mode 'summed' needs a vector's layer, which no cell chooses; take 'distributed'")
        one_of(DType, self.dtype, "dtype")
        one_of(Source, self.source, "source")
        counts = (
            "train_rows",
            "test_rows",
            "probe_rows",
            "general_rows",
            "max_tokens",
            "max_new_tokens",
            "heads",
            "mean_prompts",
            "effect_prompts",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise IVError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.shots < 0:
            raise IVError(f"shots must be at least 0, got {self.shots}")

    @property
    def name(self) -> str:
        """What its folder is called, unique in a grid."""
        method, guide = arm(self.resolved(), "-")
        way, stage = method if self.guide == "none" else f"{method}+{guide}", self.stage
        sequence = short(self.sequence.replace("/", "_"))  # of task files
        return f"{self.benchmark}-{sequence}/{way}-lr{stage.learning_rate:g}-e{stage.epochs}-s{self.seed}"

    @property
    def own_settings(self) -> Mapping[str, Any]:
        """What its method is given in place of its own values."""
        return self.method_settings.get(self.method, {})

    def resolved(self) -> dict[str, Any]:
        """Every setting it depends on, written out; `Cell.of` reads it back.

        `method_settings` are those of its own method. They are left out where it has its own values, and the source of vectors
        where it is the usual one: so cells were written before there were any.
        """
        written = asdict(self)
        del written["method_settings"]
        if self.source == SOURCE:
            del written["source"]
        return written | ({"method_settings": {self.method: dict(self.own_settings)}} if self.own_settings else {})

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Cell":
        """From `resolved()` or a YAML file with the same names.

        Raises:
            IVError: an unknown setting, a missing one, or a value of the wrong kind.
        """
        return settings_of(cls, settings)


def arm(cell: Mapping[str, Any], between: str = " ") -> tuple[str, str]:
    """Method and guide of a cell's resolved settings, each with what it uses otherwise than by default (`ewc strength=400`)."""
    method, guide, vectors = cell["method"], cell["guide"], vector_settings(cell)
    own = dict(cell.get("method_settings", {}).get(method, {}))
    guided, steers = _guidance(cell)
    if steers:
        guided |= vectors
    elif (known := method_if_known(method)) and known.anchors_steered:
        own |= vectors
    return told(method, own, between), told(guide, guided, between)


def told(name: str, settings: Mapping[str, Any], between: str = " ") -> str:
    """A name and the settings that go with it, in full, so that no two values read alike."""
    return between.join([name, *(f"{key}={str(value).removesuffix('.0')}" for key, value in settings.items())])


_LONGEST_NAME = 200
"""Bytes of a sequence in the name of a folder, of 255 that file systems allow the whole."""


def short(name: str) -> str:
    """A name as it is, or the beginning of one too long for a folder with what tells it from others that begin so."""
    told = name.encode()
    if len(told) <= _LONGEST_NAME:
        return name
    return f"{told[: _LONGEST_NAME - 13].decode(errors='ignore')}-{hashlib.sha256(told).hexdigest()[:12]}"


def vector_settings(cell: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell's vectors have otherwise than by default, from its resolved settings."""
    return _changed({"heads": HEADS, "source": SOURCE}, cell)


def _guidance(cell: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """What of the guidance the cell's guide leaves and is not as usual, and whether a vector has any part in it."""
    if cell["guide"] == "none":
        return {}, False
    usual = IVGuidanceConfig()
    given = settings_of(IVGuidanceConfig, cell.get("guidance", {}))
    if cell["guide"] in guides():
        usual, given = (guides()[cell["guide"]].guidance(each) for each in (usual, given))
    return _changed(asdict(usual), asdict(given)), bool(given.sign or given.teacher_scale or given.consistency_weight)


def _changed(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name, value in usual.items() if given.get(name, value) != value}


def grid(
    base: Cell,
    *,
    methods: Sequence[str] | None = None,
    guides: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    learning_rates: Sequence[float] | None = None,
    epochs: Sequence[int] | None = None,
) -> Iterator[Cell]:
    """Every combination of what is given, the rest as in `base`; all arms of a seed come before the next seed."""
    for seed, rate, length, method, guide in product(
        (base.seed,) if seeds is None else seeds,
        (base.stage.learning_rate,) if learning_rates is None else learning_rates,
        (base.stage.epochs,) if epochs is None else epochs,
        (base.method,) if methods is None else methods,
        (base.guide,) if guides is None else guides,
    ):
        stage = replace(base.stage, learning_rate=rate, epochs=length)
        yield replace(base, method=method, guide=guide, seed=seed, stage=stage)
