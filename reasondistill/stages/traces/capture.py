"""The top-K cache of a traces folder: opened before sampling, and filled afterwards for traces that
have no top K yet.

Log-probabilities come while a trace is generated. Traces that stand already (drawn before anybody
asked, with a smaller K, or by a teacher that gives none) get theirs in a second pass, which scores
prompt and completion. Where the cache knows a completion's token ids, it scores those; else the
text is tokenised as a student tokenises it, with an EOS where the trace ended by itself. A text's
canonical tokens are nearly always, not always, those that were generated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np

from reasondistill.config import SampledModel, TraceSettings
from reasondistill.durations import short_duration
from reasondistill.errors import ConfigError, StageError
from reasondistill.models.prompts import after_prompt, render_assistant
from reasondistill.models.samplers import Rendered, Sampler, Scored, Scorer, Written
from reasondistill.models.samplers.opening import identity_of
from reasondistill.models.tokenising import InputFault, tokenise_answer
from reasondistill.models.topk import (
    BLOCKS,
    FOLDER,
    HEADER,
    INDEX,
    VOCABULARY,
    Source,
    TopK,
    TopKReader,
    TopKWriter,
    cut_what_is_torn,
    mend_header,
    read_header,
    read_index,
    read_vocabulary,
)
from reasondistill.models.vocabulary import unequal_tokens, vocabulary_of
from reasondistill.records import Completion, Trace
from reasondistill.runs import layout
from reasondistill.runs.figures import TracesFigures
from reasondistill.runs.samples import read_samples
from reasondistill.runs.store import Manifest, drop_lines, read_records
from reasondistill.stages.traces.recorder import (
    BATCH_SECONDS,
    BATCH_TRACES,
    REPORT_SECONDS,
)

log = logging.getLogger(__name__)


# ---- what there is and what is missing -----------------------------------------------------------


def scoring_model(traces: TraceSettings) -> SampledModel | None:
    """The model that scores the traces of teachers which give no log-probabilities."""
    if traces.logprobs_model is None:
        return None
    return SampledModel(model=traces.logprobs_model)


def scoring_models(traces: TraceSettings) -> list[SampledModel]:
    """Every model whose log-probabilities the cache holds: the teachers that give them, and the one
    that scores for the others.
    """
    models = [model for model in traces.teachers if model.capabilities.gives_logprobs]
    scorer = scoring_model(traces)
    if scorer is not None:
        models.append(scorer)
    return models


def is_captured(traces: TraceSettings, folder: Path, manifest: Manifest) -> bool:
    """The finished folder holds what these settings ask for. Raises ConfigError when its cache is
    another model's.
    """
    if traces.logprobs is None:
        return True
    if not (folder / FOLDER / layout.TOPK_HEADER).exists():
        return False
    check_models(traces, folder)
    return TracesFigures.of(manifest).topk_k >= traces.logprobs


def check_models(traces: TraceSettings, folder: Path) -> None:
    """Raise ConfigError when the cache is of a model that these settings do not name."""
    if not (folder / FOLDER / layout.TOPK_HEADER).exists():
        return
    named = [identity_of(model) for model in scoring_models(traces)]
    cache = folder / FOLDER
    strange = [model for model in read_header(cache).models if model not in named]
    if strange:
        names = ", ".join(named)
        raise ConfigError(
            f"{cache}: holds log-probabilities of {strange[0]}, not of {names} ([traces] "
            "teachers, logprobs_model). Remove that folder to capture them anew."
        )


def check_tokenizers(traces: TraceSettings) -> None:
    """Before anything is drawn: several models in one cache must have the same tokens. Raises
    ConfigError.
    """
    models = scoring_models(traces)
    different = {(model.model, model.revision) for model in models}
    if traces.logprobs is None or len(different) < 2:
        return
    from reasondistill.models.samplers.vllm_engine import load_tokenizer

    tokenizers = [
        load_tokenizer(model.model, model.revision, model.trust_remote_code) for model in models
    ]
    for other, tokenizer in zip(models[1:], tokenizers[1:], strict=True):
        differences = unequal_tokens(tokenizers[0], tokenizer)
        if differences:
            listed = "; ".join(differences)
            raise ConfigError(
                f"[traces] logprobs: {models[0].model} and {other.model} do not have the "
                f"same tokens ({listed}). "
                "One cache holds one vocabulary: give each teacher a run of its own, or "
                "leave logprobs out."
            )


def unscored(folder: Path, k: int) -> set[str]:
    """The ids of all traces on disk that are whole and have no top K (or a smaller K)."""
    if not (folder / layout.TRACES).exists():
        return set()
    has = {line.trace_id: line.k for line in read_index(folder / FOLDER)}
    rows = read_samples(folder / layout.TRACES)
    whole = (row["id"] for row in rows if row["completion"]["finish"] != "error")
    return {trace_id for trace_id in whole if has.get(trace_id, 0) < k}


def forget_all_but(folder: Path, finished: Set[str]) -> None:
    """Take the top K of other samples out of the cache before these are drawn: a kill or a damage
    has taken their traces, and what is drawn now comes with its own.
    """
    others = {line.trace_id for line in read_index(folder / FOLDER)} - finished
    if others:
        drop_lines(folder / FOLDER / INDEX, others, key="trace_id")


def figures(folder: Path, k: int) -> TracesFigures:
    """What the cache takes, for the manifest. `topk_missing`: traces that could not be scored."""
    missing = len(unscored(folder, k))
    if not (folder / FOLDER / layout.TOPK_HEADER).exists():
        return TracesFigures(topk_k=k, topk_missing=missing)
    with TopKReader(folder / FOLDER) as reader:
        per_token = 0.0
        if reader.tokens:
            per_token = round(reader.bytes / reader.tokens, 2)
        sizes = TracesFigures(
            topk_k=k,
            topk_tokens=reader.tokens,
            topk_bytes=reader.bytes,
            topk_bytes_per_token=per_token,
        )
    if missing:
        sizes = sizes.joined(TracesFigures(topk_missing=missing))
    return sizes


def take_in(folder: Path, part: Path) -> None:
    """Put what a worker captured into the cache of its stage; what is there already stays.

    A worker that was killed may have left only a part of its files, or (at a URL) an index that was
    published later than its blocks.
    """
    captured, cache = part / FOLDER, folder / FOLDER
    if not all((captured / name).exists() for name in (HEADER, VOCABULARY, BLOCKS)):
        return
    mend_header(captured)
    cut_what_is_torn(captured)
    header = read_header(captured)
    sources = [
        Source(model, header.k, read_vocabulary(captured), header.vocabulary_size)
        for model in header.models
    ]
    for source in sources[:-1]:
        TopKWriter(cache, source).close()  # the header names all of them
    has = {line.trace_id: line.k for line in read_index(cache)}
    with TopKReader(captured) as reader, TopKWriter(cache, sources[-1]) as writer:
        wanted = [trace_id for trace_id in reader if has.get(trace_id, 0) < reader.line(trace_id).k]
        for start in range(0, len(wanted), BATCH_TRACES):
            batch = wanted[start : start + BATCH_TRACES]
            writer.append((trace_id, reader.read(trace_id)) for trace_id in batch)


# ---- the cache of one engine ---------------------------------------------------------------------


def open_cache(folder: Path, sampler: Sampler, k: int) -> TopKWriter:
    """The cache for what this sampler draws or scores. Raises ConfigError (no log-probabilities,
    fewer tokens than K, other tokens).
    """
    if not isinstance(sampler, Scorer):
        raise ConfigError(
            f"[traces] logprobs: {sampler.model} gives no log-probabilities; only vLLM does."
        )
    if k > sampler.vocabulary_size:
        raise ConfigError(
            f"[traces] logprobs = {k}: {sampler.model} has no more than "
            f"{sampler.vocabulary_size} tokens."
        )
    vocabulary = vocabulary_of(sampler.tokenizer)
    source = Source(sampler.model, k, vocabulary, sampler.vocabulary_size)
    return TopKWriter(folder / FOLDER, source)


# ---- the second pass -----------------------------------------------------------------------------


def score(
    folder: Path,
    sampler: Sampler,
    cache: TopKWriter,
    wanted: Set[str],
    *,
    prompt_of: Callable[[str], Rendered],
    has_drawn: bool,
    should_stop: Callable[[], bool],
) -> None:
    """Capture the top K of the wanted traces from what stands on disk. `prompt_of` renders the
    problem of an id; with `has_drawn` the traces must be this sampler's own.

    A trace that the engine does not take (longer than its context, text that no tokenizer takes) is
    told and left out.
    """
    assert isinstance(sampler, Scorer)
    k, total = cache.k, len(wanted)
    log.info("%s: capturing the %d most likely tokens of %d stored traces", sampler.model, k, total)
    started = last_report = last_write = time.monotonic()
    rows: list[tuple[str, TopK]] = []
    refused: list[str] = []
    done = tokens = 0
    with TopKReader(folder / FOLDER) as known:

        def written() -> Iterator[Written]:
            for trace in read_records(folder / layout.TRACES, Trace):
                if trace.id not in wanted:
                    continue
                if has_drawn and trace.model != sampler.model:
                    raise StageError(
                        f"{folder / layout.TRACES}: {trace.id} was drawn by {trace.model}; "
                        f"{sampler.model} cannot tell its top K."
                    )
                try:
                    rendered = prompt_of(trace.problem_id)
                    ids: tuple[int, ...] = ()
                    if trace.id in known:
                        ids = tuple(known.read(trace.id).token_ids.tolist())
                    if not ids:
                        ids = tokens_of(trace.completion, rendered, sampler.tokenizer)
                except InputFault as fault:
                    refused.append(f"{trace.id}: {fault}")
                    continue
                if not ids:
                    rows.append((trace.id, empty_top_k(k)))
                else:
                    yield Written(trace.id, rendered.token_ids or (), ids, k)

        for scored in until_the_end(sampler.score(written())):
            if scored is not None and scored.top_k is not None:
                rows.append((scored.written.id, scored.top_k))
                done += 1
                tokens += len(scored.written.token_ids)
            elif scored is not None:
                refused.append(f"{scored.written.id}: {scored.error}")
            now = time.monotonic()
            is_end = scored is None
            if is_end or len(rows) >= BATCH_TRACES or now - last_write > BATCH_SECONDS:
                cache.append(rows)
                rows.clear()
                last_write = now
            if is_end or now - last_report > REPORT_SECONDS:
                last_report = now
                log.info("%s", progress_line(done, total, tokens, now - started))
            if should_stop():
                cache.append(rows)
                break
    if refused:
        log.warning(
            "%s: %d traces have no top K; the first is %s", folder, len(refused), refused[0]
        )


def until_the_end(scored: Iterable[Scored]) -> Iterator[Scored | None]:
    """What comes, and None when nothing more does."""
    yield from scored
    yield None


def progress_line(done: int, total: int, tokens: int, seconds: float) -> str:
    """`1,240/8,000 scored · 312 tok/s · 1h12m left`."""
    rate = tokens / max(seconds, 1e-9)
    line = f"{done:,}/{total:,} scored · {rate:,.0f} tok/s"
    if 0 < done < total:
        left = short_duration((total - done) * seconds / done)
        line += f" · {left} left"
    return line


def tokens_of(completion: Completion, rendered: Rendered, tokenizer: Any) -> tuple[int, ...]:
    """The completion's text as a student tokenises it. Raises InputFault when no tokenizer takes
    it.
    """
    pieces = after_prompt(render_assistant(completion), opens_think=rendered.opens == "think")
    ids = tuple(tokenise_answer(tokenizer, pieces))
    if completion.finish == "stop":
        return (*ids, tokenizer.eos_token_id)
    return ids


def empty_top_k(k: int) -> TopK:
    """The top K of a completion without tokens: shapes (0,), (0, k) and (0, k)."""
    return TopK(np.empty(0, np.int32), np.empty((0, k), np.int32), np.empty((0, k), np.float32))
