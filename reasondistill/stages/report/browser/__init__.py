"""The trace browser: every problem, trace and sample of a run, to be filtered, searched and read.

    write_browser(run_folder, folder / "browser", title="demo")   # opens from disk
    serve_browser(run_folder, title="demo")                       # on loopback, texts page by page
    one_page(run_folder, title="demo")                            # of a small run, all in one file

    index.html      the page: our own script and style (page/), no network (its own content policy)
    katex.js        KaTeX, which sets formulas, loaded when the first one is shown
    index.js        the columns by which rows are filtered, and the sums of all files below
    problems-*.js   questions and golds
    texts-*.js      traces with their verdicts, as they are stored
    logprobs-*.js   probabilities of tokens, where they are stored
    words-*.js      which words stand in which problems and traces, in the order of words

A file of data is one call with a text: base64 of compressed JSON, so nothing that a model wrote is
ever script. Its sum stands in the index, the index's in the page, and the page compares them before
it unpacks anything.
"""

from __future__ import annotations

from reasondistill.stages.report.browser.folder import one_page, write_browser
from reasondistill.stages.report.browser.rows import count_traces
from reasondistill.stages.report.browser.serving import BrowserServer, serve_browser

__all__ = ["BrowserServer", "count_traces", "one_page", "serve_browser", "write_browser"]
