"""A forecast for GPUs that nobody has run it on: speeds from what their makers publish, lengths and
yields from stated assumptions where no run tells them.

    paper = paper_of("8xh100")
    paper.writing_speed(shape, tokens=6_000, seats=256)         # tokens per second of all eight
    paper.training_speed(student, settings, shape, row_tokens=6_000)

Everything here is arithmetic. Each assumption has an interval, and is named in the forecast.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from reasondistill.config import (
    Cluster,
    ResourceSettings,
    StudentSettings,
    TrainSettings,
)
from reasondistill.errors import ConfigError
from reasondistill.forecast.evidence import Speed
from reasondistill.models.shapes import ModelShape
from reasondistill.nearest import nearest


@dataclass(frozen=True)
class Gpu:
    """A GPU by its maker's data sheet: dense bfloat16 FLOP/s, bytes of memory and bytes per second
    of it; and what an hour is taken to cost, in US dollars.
    """

    title: str
    flops: float
    memory: float
    bandwidth: float
    usd_hour: float


# NVIDIA's data sheets (SXM boards; the L40S is a PCIe card), bfloat16 without sparsity. Prices are
# assumptions, between what small and large providers asked for an hour on demand in 2025.
GPUS = {
    "h100": Gpu("H100 SXM 80 GB", 989.4e12, 80e9, 3.35e12, 3.0),
    "h200": Gpu("H200 SXM 141 GB", 989.4e12, 141e9, 4.8e12, 3.8),
    "a100": Gpu("A100 SXM 80 GB", 312e12, 80e9, 2.039e12, 1.8),
    "l40s": Gpu("L40S 48 GB", 362e12, 48e9, 0.864e12, 1.0),
}
# A node, where no number is given.
_A_NODE = 8

# The share of a GPU's FLOP/s that training uses. 38 to 43 % are reported of thousands of H100s with
# code of their own (Llama 3, arXiv 2407.21783, table 4), 46 % of PaLM (arXiv 2204.02311); a small
# model under a general trainer has less. As a factor with a spread: 90 % between 0.18 and 0.49.
_TRAINING_SHARE, _TRAINING_SPREAD = 0.30, 0.31
# Of memory's bandwidth while tokens are written one by one, and of FLOP/s while they are computed
# in batches. Assumptions; together 90 % between 0.55 and 1.8 times the expected speed.
_BANDWIDTH_SHARE, _FLOPS_SHARE, _WRITING_SPREAD = 0.6, 0.45, 0.36
# What each doubling of GPUs that share one model, or one training, keeps of their speed.
_KEPT_BY_DOUBLING = 0.9
# Of a GPU's memory for weights and keys, as [vllm] gpu_memory_utilization has it, and what the
# engine itself takes.
_MEMORY_SHARE, _ENGINE_BYTES = 0.9, 3e9
# Starting an engine, or a training: loading weights, compiling.
_START_S = 180.0

# The mean length of a text, as a share of max_tokens, and how far it may be off: 90 % between a
# fifth and a half. Of DeepSeek-R1's traces of OpenR1-Math three quarters ended within half of the
# 16k tokens that these may have (Open R1's second update, February 2025).
LENGTH_SHARE, LENGTH_SPREAD = 0.35, 0.29
# The share of traces that are right: of 400,000 problems with two traces each 220,000 had one (same
# place).
RIGHT_SHARE, RIGHT_LOW, RIGHT_HIGH = 0.55, 0.35, 0.75
# Tokens of a question with its prompt, and of a text's bytes in a file.
PROMPT_TOKENS, BYTES_PER_TOKEN = 200.0, 4.5

NEVER_RUN = "on paper, never run"
ASSUMED_LENGTHS = (
    f"assumed: a text has {LENGTH_SHARE:.0%} of its max_tokens, 20 to 55 %; --tokens-per-trace or "
    "--like says it better"
)
ASSUMED_YIELD = (
    f"assumed: {RIGHT_SHARE:.0%} of the traces are right ({RIGHT_LOW:.0%} to {RIGHT_HIGH:.0%})"
)


def shape_unknown(model: str) -> ConfigError:
    """What to raise for a model of which nothing here tells how large it is."""
    return ConfigError(
        f"--gpus: how large {model} is cannot be known here: its config.json is neither in a "
        "folder of that name nor in the hub's cache, and it is not among the models whose shape "
        "this program knows. Put its config.json into a folder, and name that folder (--set)."
    )


@dataclass(frozen=True)
class Paper:
    """So many GPUs of one kind."""

    gpu: Gpu
    count: int

    @property
    def title(self) -> str:
        return f"{self.count} × {self.gpu.title}, {NEVER_RUN}"

    def cluster(self, cluster: Cluster, usd_hour: float | None) -> Cluster:
        """The cluster file's settings on these GPUs: each stage with a model has all of them."""
        node = ResourceSettings(gpus=self.count, shards=1)
        alone = ResourceSettings()
        stages = cluster.stages.model_copy(
            update={
                "default": alone,
                **dict.fromkeys(("problems", "verdicts", "examples", "report"), alone),
                **dict.fromkeys(("traces", "students", "evals"), node),
            }
        )
        prices = cluster.prices
        if usd_hour is not None:
            prices = prices.model_copy(update={"gpu_hour": usd_hour})
        elif not prices.gpu_hour:
            prices = prices.model_copy(update={"gpu_hour": self.gpu.usd_hour})
        train = cluster.train.model_copy(update={"processes": self.count, "parallel": 1})
        return cluster.model_copy(
            update={
                "kind": "local",
                "about": self.title,
                "stages": stages,
                "prices": prices,
                "train": train,
            }
        )

    # ---- writing ---------------------------------------------------------------------------------

    def writing_speed(self, shape: ModelShape, tokens: float, seats: int) -> Speed | None:
        """Tokens per second of all GPUs while texts of so many tokens are written, at most `seats`
        at once in an engine; the best division into engines is taken. None where the weights do not
        fit.
        """
        rates = [self.engines_speed(shape, tokens, seats, each) for each in self.divisions()]
        best = max(rates)
        if not best:
            return None
        return Speed(best, _WRITING_SPREAD, _START_S)

    def divisions(self) -> list[int]:
        """How many GPUs an engine may have: 1, 2, 4, …"""
        return [2**power for power in range(int(math.log2(self.count)) + 1)]

    def engine_gpus(self, shape: ModelShape, tokens: float, seats: int) -> int:
        """How many GPUs an engine has in the best division."""
        return max(
            self.divisions(), key=lambda each: self.engines_speed(shape, tokens, seats, each)
        )

    def engines_speed(self, shape: ModelShape, tokens: float, seats: int, each: int) -> float:
        """Tokens per second of all engines where each has so many GPUs; 0 where they do not fit.

        A step gives each text one token. It reads the weights and, on average, the keys and values
        of half a text; and it computes two FLOPs per weight and text.
        """
        weights = 2.0 * shape.parameters
        room = each * (self.gpu.memory * _MEMORY_SHARE - _ENGINE_BYTES) - weights
        of_a_token = 2.0 * shape.key_value_numbers
        # Texts are as long as their mean, twice as long at their end as on average.
        fitting = int(room / (of_a_token * (tokens + PROMPT_TOKENS)))
        at_once = min(seats, fitting)
        if at_once < 1:
            return 0.0
        kept = each * _KEPT_BY_DOUBLING ** math.log2(each)
        context = PROMPT_TOKENS + tokens / 2
        read = weights + at_once * context * of_a_token
        reading_s = read / (self.gpu.bandwidth * _BANDWIDTH_SHARE * kept)
        attention = 4.0 * context * shape.layers * shape.attention_width
        flops = at_once * (2.0 * shape.parameters + attention)
        computing_s = flops / (self.gpu.flops * _FLOPS_SHARE * kept)
        engines = self.count // each
        return engines * at_once / max(reading_s, computing_s)

    def engine_memory(self, shape: ModelShape, each: int) -> float:
        """The bytes of weights on each GPU of an engine."""
        return 2.0 * shape.parameters / each

    # ---- training --------------------------------------------------------------------------------

    def training_speed(
        self,
        student: StudentSettings,
        settings: TrainSettings,
        shape: ModelShape,
        row_tokens: float,
    ) -> Speed:
        """Tokens per second of all GPUs in training.

        Six FLOPs a parameter and token, of which an adapter saves the two for the weights'
        gradients, two more where activations are computed again; attention over the texts before.
        """
        passes = 3.0
        if student.lora is not None:
            passes -= 1.0
        if settings.gradient_checkpointing:
            passes += 1.0
        attention = 2.0 * shape.layers * shape.attention_width * row_tokens
        flops = passes * (2.0 * shape.parameters + attention)
        kept = self.count * _KEPT_BY_DOUBLING ** math.log2(self.count)
        rate = self.gpu.flops * _TRAINING_SHARE * kept / flops
        return Speed(rate, _TRAINING_SPREAD, _START_S)


def paper_of(words: str) -> Paper:
    """`h100`, a node of eight, or `4xh100`. Raises ConfigError for a GPU that is not known."""
    match = re.fullmatch(r"(?:(\d{1,4})\s*[x×])?\s*([a-z]\w*)", words.strip().lower())
    name = match[2] if match is not None else words
    if match is None or name not in GPUS:
        raise ConfigError(
            f"--gpus {words}: want a kind of GPU, or a number of them: h100 (a node of "
            f"{_A_NODE}), 4xh100. {nearest(name, list(GPUS))} Known: {', '.join(GPUS)}."
        )
    count = int(match[1] or _A_NODE)
    if count < 1:
        raise ConfigError(f"--gpus {words}: at least one.")
    return Paper(GPUS[name], count)


def assumptions(paper: Paper, usd_hour: float) -> tuple[str, ...]:
    """What the forecast stands on, for people."""
    gpu = paper.gpu
    return (
        f"{NEVER_RUN}: speeds are computed for {paper.count} × {gpu.title} "
        f"({gpu.flops / 1e12:,.0f} TFLOP/s dense bfloat16, {gpu.bandwidth / 1e12:.2f} TB/s, by the "
        f"data sheet). Assumed: training uses {_TRAINING_SHARE:.0%} of FLOP/s (0.18 to 0.49), "
        f"writing {_BANDWIDTH_SHARE:.0%} of the bandwidth or {_FLOPS_SHARE:.0%} of FLOP/s (0.55 to "
        f"1.8 times the speed), each doubling of GPUs keeps {_KEPT_BY_DOUBLING:.0%}",
        f"money at {usd_hour:,.2f} a GPU-hour: --gpu-hour, or [prices] gpu_hour of the cluster "
        "file, says another price",
    )
