"""How much of what others wrote is taken in: every bound by name, with its unit and its reason.

    if len(line) > LINE_BYTES.most:
        raise DataError(f"{path}:{number}: a line beyond {LINE_BYTES}")

They are chosen so that no honest input meets one. A bound that someone meets all the same is
raised from outside, for this process and its children: `REASONDISTILL_MOST_LINE_BYTES=1000000000`.
They have no part in what a run is: its fingerprints stay.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from reasondistill.errors import ConfigError


@dataclass(frozen=True)
class Bound:
    """At most `default` of `unit`, unless the environment says another number."""

    name: str
    default: int
    unit: str
    reason: str

    @property
    def variable(self) -> str:
        """The environment variable that raises it."""
        return f"REASONDISTILL_MOST_{self.name}"

    @property
    def most(self) -> int:
        """The number that holds in this process. Raises ConfigError for what is no number."""
        text = os.environ.get(self.variable, "").strip()
        if not text:
            return self.default
        is_number = text.isascii() and text.isdigit() and len(text) < 19
        if not is_number or int(text) == 0:
            raise ConfigError(f"{self.variable} = {text[:40]!r}: want a whole number above 0.")
        return int(text)

    def __str__(self) -> str:
        """`4 MiB (REASONDISTILL_MOST_TOML_BYTES raises it)`."""
        most = self.most
        amount = f"{most:,} {self.unit}"
        if self.unit == "bytes":
            for name, size in _SIZES.items():
                if most % size == 0:
                    amount = f"{most // size:,} {name}"
        return f"{amount} ({self.variable} raises it)"


_SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


# ---- files that people write ---------------------------------------------------------------------

TOML_BYTES = Bound(
    "TOML_BYTES", 4 << 20, "bytes", "a pipeline file has a few KB, a prompt file with shots more"
)
TOML_DEPTH = Bound(
    "TOML_DEPTH", 32, "levels", "parts of a dotted key, and lists and tables inside each other"
)
TOML_SIGNS = Bound(
    "TOML_SIGNS",
    50_000,
    "keys, values, brackets, commas and lines",
    "the longest pipeline of ours has 700; each costs 12 µs at most",
)
# What TOML says of integers, in files and in --set; no generator takes a larger seed.
INTEGER_BITS = 64

# ---- data ----------------------------------------------------------------------------------------

LINE_BYTES = Bound(
    "LINE_BYTES", 64 << 20, "bytes", "a line of a JSONL or CSV file; a long trace has 1 MB"
)
JSON_FILE_BYTES = Bound(
    "JSON_FILE_BYTES", 256 << 20, "bytes", "a .json file is read whole; a .jsonl line by line"
)
JSON_DEPTH = Bound("JSON_DEPTH", 100, "levels", "lists and objects of JSON inside each other")
DICTIONARY_BYTES = Bound(
    "DICTIONARY_BYTES",
    16 << 20,
    "bytes",
    "a dictionary of a Parquet file that UNPACKED_RATIO does not judge; writers end it at 1 MB",
)
BATCH_BYTES = Bound("BATCH_BYTES", 256 << 20, "bytes", "rows of a Parquet file that are in memory")
UNPACKED_RATIO = Bound(
    "UNPACKED_RATIO",
    1000,
    "times",
    "a column of a Parquet file unpacked, and all its rows; text packs 3 to 20 times",
)
# What a row of a Parquet file counts beside its values, if only null.
ROW_BYTES = 100
ROWS = Bound(
    "ROWS", 100_000_000, "rows of a source", "the largest public set of problems has 14 million"
)
BENCHMARK_ROWS = Bound(
    "BENCHMARK_ROWS",
    1_000_000,
    "rows of a benchmark",
    "they are read whole; large ones have 15,000",
)
COLUMNS = Bound("COLUMNS", 10_000, "columns of a CSV or Parquet file", "sets of problems have 20")

TEXT_RATIO = Bound(
    "TEXT_RATIO", 100, "times", "a packed text file (.gz, .zip) of a data set; text packs 3 to 20"
)
PACK_BYTES = Bound(
    "PACK_BYTES",
    8 << 30,
    "bytes",
    "all files of a packed run, unpacked; a run of 10,000 problems has some 200 MB",
)
PACK_FILES = Bound(
    "PACK_FILES", 100_000, "files", "of a packed run; one student or measured model has ten"
)
DIRECTORY_BYTES = Bound(
    "DIRECTORY_BYTES",
    16 << 20,
    "bytes",
    "the list of files in a log that is a zip; each file has some 100",
)
LOG_METRICS = Bound(
    "LOG_METRICS", 1_000, "metrics", "of a log of another tool; they have one to ten"
)
CARD_BYTES = Bound(
    "CARD_BYTES", 4 << 20, "bytes", "the card (README.md) of a data set; large ones have 1 MB"
)
CARD_VALUES = Bound(
    "CARD_VALUES",
    10**6,
    "values",
    "of the head of a card, aliases counted each time",
)

# ---- servers -------------------------------------------------------------------------------------

REPLY_BYTES = Bound(
    "REPLY_BYTES", 64 << 20, "bytes", "a reply, unpacked; a million tokens have about 4 MB"
)
REPLIES_BYTES = Bound(
    "REPLIES_BYTES", 1 << 30, "bytes", "all replies of a server that are under way, unpacked"
)
ERROR_BYTES = Bound(
    "ERROR_BYTES", 64 << 10, "bytes", "what is read of an error: its words stand at the beginning"
)
SECONDS_PER_TOKEN = Bound(
    "SECONDS_PER_TOKEN",
    1,
    "seconds",
    "a whole reply comes within timeout_s and this for each token that was asked for",
)
COUNTED_TOKENS = Bound(
    "COUNTED_TOKENS", 10**9, "tokens", "no model has such a context: a larger count is not believed"
)

# ---- models --------------------------------------------------------------------------------------

TEMPLATE_CHARACTERS = Bound(
    "TEMPLATE_CHARACTERS", 16 << 20, "characters", "what a chat template makes beyond its turns"
)
TEMPLATE_SECONDS = Bound(
    "TEMPLATE_SECONDS", 3, "seconds of CPU", "a chat template takes a thousandth of that"
)
TEMPLATE_MIB = Bound("TEMPLATE_MIB", 1024, "MiB", "memory of the process that renders templates")
TOKENIZER_BYTES = Bound(
    "TOKENIZER_BYTES", 256 << 20, "bytes", "a file of a tokenizer; the largest known have 33 MB"
)
ADDED_TOKENS = Bound(
    "ADDED_TOKENS", 100_000, "added tokens", "Gemma has 6,400; each costs 60 µs and 5 kB"
)

TOKENS = Bound(
    "TOKENS",
    1_000_000,
    "tokens",
    "a vocabulary, its merges at most as many; the largest has 262,144",
)
TOKENIZER_GROWTH = Bound(
    "TOKENIZER_GROWTH",
    20_000,
    "times",
    "what a normalizer can make of one byte, counted as if all its steps met it; Llama's 12",
)
NORMALIZED_BYTES = Bound(
    "NORMALIZED_BYTES",
    16 << 20,
    "bytes",
    "what a tokenizer makes of one text beyond four times its size, before it cuts it",
)
TEMPLATE_BYTES = Bound(
    "TEMPLATE_BYTES", 4 << 20, "bytes", "the chat templates of a tokenizer; the longest has 30 KB"
)
CONFIG_BYTES = Bound(
    "CONFIG_BYTES", 64 << 20, "bytes", "config.json and its kin; an index of shards has 9 MB"
)
MODEL_LAYERS = Bound("MODEL_LAYERS", 1_000, "layers", "config.json; the deepest known have 130")
MODEL_EXPERTS = Bound(
    "MODEL_EXPERTS", 250_000, "experts", "of all layers in config.json; the most known have 25,000"
)
MODEL_LABELS = Bound(
    "MODEL_LABELS", 100_000, "labels", "config.json; a language model has two, a classifier 21,000"
)
HEADER_BYTES = Bound(
    "HEADER_BYTES", 32 << 20, "bytes", "the header of a safetensors file; 120 bytes a tensor"
)
MODEL_TENSORS = Bound(
    "MODEL_TENSORS", 500_000, "tensors", "of a model's files; the most known have 210,000"
)

# ---- what is shown -------------------------------------------------------------------------------

TASK_LINE_BYTES = Bound(
    "TASK_LINE_BYTES", 1 << 20, "bytes", "a line that a task prints; a longer one comes in parts"
)
PAGE_TEXT = Bound(
    "PAGE_TEXT", 60_000, "characters", "a text in report.html; the run folder has all of it"
)
PAGE_FACT = Bound(
    "PAGE_FACT", 4_000, "characters", "a setting or an answer in a list of report.html"
)
BROWSER_TRACES = Bound(
    "BROWSER_TRACES",
    200_000,
    "traces",
    "of the folder beside report.html; `reasondistill view` shows larger runs",
)
BROWSER_FILE_BYTES = Bound(
    "BROWSER_FILE_BYTES",
    5 << 20,
    "bytes",
    "of data in the one file of `view --file`, packed; a folder or a server shows larger runs",
)
MARKDOWN_TEXT = Bound(
    "MARKDOWN_TEXT", 4_000, "characters", "a text in report.md; report.html has more of it"
)
MARKDOWN_VALUE = Bound("MARKDOWN_VALUE", 400, "characters", "the value of a setting in report.md")

BOUNDS = tuple(value for value in list(globals().values()) if isinstance(value, Bound))
