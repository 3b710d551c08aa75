"""Evals that other tools ran: their logs, read as they are, sample by sample. lm-eval's
`samples_*.jsonl`, inspect's `.eval` and `.json`, lighteval's `details_*.parquet`.

    log = find_log(Path("out/model/samples_gsm8k_2025-01-01T12-00-00.0.jsonl"))      # finding
    found = survey(log)                                                             # surveying
    found.scores("exact_match,strict-match").correct                # (problems, samples)
"""
