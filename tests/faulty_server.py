"""An OpenAI-compatible server with a switch for each way in which real ones fail.

    server = FaultyServer()
    server.fault = "no_money"      # any name in FAULTS; "" is a healthy server
    server.after = 20              # so many answers come before
    server.only = "What is 3"      # only for questions with this text
    server.times_left = 1          # it heals after so many (None: never)

Answers are a function of question and seed. `bodies` are the requests that came; also a program:
`python tests/faulty_server.py FAULT [AFTER]` prints its address.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = {"Content-Type": "application/json"}
STREAM = {"Content-Type": "text/event-stream"}
PAGE = {"Content-Type": "text/html; charset=utf-8"}


@dataclass(frozen=True)
class Reply:
    """What goes back; `is_cut`: the connection ends before all of it came."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    is_cut: bool = False


Body = dict[str, Any]
Fault = Callable[[Body], Reply]


def question_of(body: Body) -> str:
    return str(body["messages"][-1]["content"] if "messages" in body else body["prompt"])


def text_of(body: Body) -> str:
    """A function of question and seed."""
    return f"seed {body.get('seed')} says \\boxed{{{len(question_of(body)) % 7}}}"


def whole(body: Body, **changes: Any) -> Body:
    """A healthy reply; keys of the message, the choice or the reply may be replaced, or left out by
    `...`.
    """
    message: Body = {"role": "assistant", "content": text_of(body)}
    choice: Body = {"index": 0, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    reply: Body = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "usage": usage,
    }
    for name, value in changes.items():
        place = (
            message
            if name in _OF_THE_MESSAGE
            else choice
            if name in ("finish_reason", "text")
            else reply
        )
        place[name] = value
        if value is ...:
            del place[name]
    said = {"message": message} if "messages" in body else {"text": message["content"]}
    return {"choices": [choice | said]} | reply


_OF_THE_MESSAGE = {
    "content",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "tool_calls",
    "refusal",
}


def good(**changes: Any) -> Fault:
    return lambda body: Reply(200, json.dumps(whole(body, **changes)).encode())


def says(status: int, value: Any, headers: dict[str, str] | None = None) -> Fault:
    return lambda body: Reply(status, json.dumps(value).encode(), JSON | (headers or {}))


def refuses(
    status: int, message: str, headers: dict[str, str] | None = None, **error: Any
) -> Fault:
    return says(status, {"error": {"message": message} | error}, headers)


def page(status: int, text: str) -> Fault:
    return lambda body: Reply(status, text.encode(), PAGE)


# ---- replies in pieces ---------------------------------------------------------------------------


def events(*pieces: Any, is_done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(piece)}\n\n" for piece in pieces]
    return "".join(
        [": keep-alive\n\n", *lines, *(["data: [DONE]\n\n"] if is_done else [])]
    ).encode()


def delta(body: Body, finish: str | None = None, **words: Any) -> Body:
    return {
        "model": body["model"],
        "choices": [{"index": 0, "delta": words, "finish_reason": finish}],
    }


USAGE = {"prompt_tokens": 7, "completion_tokens": 5}


def streams(body: Body) -> Reply:
    half = len(text_of(body)) // 2
    first = [
        delta(body, role="assistant", content=""),
        delta(body, reasoning_content="I th"),
        delta(body, reasoning_content="ink."),
    ]
    texts = [
        delta(body, content=text_of(body)[:half]),
        delta(body, "stop", content=text_of(body)[half:]),
    ]
    return Reply(200, events(*first, *texts, {"choices": [], "usage": USAGE}), STREAM)


def streams_an_error(body: Body) -> Reply:
    return Reply(
        200,
        events(delta(body, content="I"), {"error": {"message": "engine died", "code": 500}}),
        STREAM,
    )


def streams_half(body: Body) -> Reply:
    return Reply(200, events(delta(body, content="I am"), is_done=False), STREAM)


# ---- context -------------------------------------------------------------------------------------

CONTEXT, PROMPT = 40, 11


def has_a_small_context(words: str) -> Fault:
    """Refuses what does not fit, in some server's words, which may name {context}, {prompt},
    {asked} and {total}.
    """

    def answer(body: Body) -> Reply:
        asked = body["max_tokens"]
        if asked <= CONTEXT - PROMPT:
            return good()(body)
        text = words.format(context=CONTEXT, prompt=PROMPT, asked=asked, total=PROMPT + asked)
        return refuses(400, text, type="BadRequestError", code=400)(body)

    return answer


def wants_max_completion_tokens(body: Body) -> Reply:
    if "max_tokens" not in body:
        return good()(body)
    text = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead."
    )
    return refuses(
        400, text, type="invalid_request_error", param="max_tokens", code="unsupported_parameter"
    )(body)


def refuses_seed(value: Any) -> Fault:
    return lambda body: says(422, value)(body) if "seed" in body else good()(body)


FASTAPI = {
    "detail": [
        {
            "type": "extra_forbidden",
            "loc": ["body", "seed"],
            "msg": "Extra inputs are not permitted",
            "input": 1,
        }
    ]
}
GEMINI = [
    {
        "error": {
            "code": 400,
            "message": 'Invalid JSON payload received. Unknown name "seed"',
            "status": "INVALID_ARGUMENT",
        }
    }
]
VLLM_CONTEXT = (
    "This model's maximum context length is {context} tokens. However, you requested "
    "{total} tokens "
    "({prompt} in the messages, {asked} in the completion). Please reduce the length "
    "of the messages or completion."
)
SGLANG_CONTEXT = (
    "Requested token count exceeds the model's maximum context length of {context} "
    "tokens. You requested a total of {total} tokens: "
    "{prompt} tokens from the input messages and {asked} tokens for the completion."
)
NEW_VLLM_CONTEXT = (
    "'max_tokens' or 'max_completion_tokens' is too large: {asked}. This model's "
    "maximum context length is {context} tokens and your "
    "request has {prompt} input tokens ({asked} > {context} - {prompt}). "
    "(parameter=max_tokens, value={asked})"
)
TGI_CONTEXT = (
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= {context}. "
    "Given: {prompt} `inputs` tokens and {asked} `max_new_tokens`"
)


def bomb(body: Body) -> Reply:
    """300 KB that unpack to 300 MiB."""
    return Reply(200, gzip.compress(b" " * (300 << 20), 6), JSON | {"Content-Encoding": "gzip"})


FAULTS: dict[str, Fault] = {
    # nobody pays
    "no_money": refuses(402, "Payment Required: your balance is 0"),
    "no_quota": refuses(429, "You exceeded your current quota", code="insufficient_quota"),
    "no_credit": refuses(
        400, "Your credit balance is too low to access the API.", type="invalid_request_error"
    ),
    "no_billing": refuses(403, "Billing is not enabled for this project"),
    # the input
    "too_long": refuses(
        400,
        "This model's maximum context length is 40 tokens. However, your request has 41 "
        "input tokens.",
    ),
    "llama_cpp": refuses(
        400,
        "request (5000 tokens) exceeds the available context size (4096 tokens)",
        type="exceed_context_size_error",
    ),
    "too_large": page(413, "<html><title>413 Request Entity Too Large</title></html>"),
    "azure_filter": refuses(
        400,
        "The response was filtered",
        code="content_filter",
        innererror={"code": "ResponsibleAIPolicyViolation"},
    ),
    "policy": refuses(400, "rejected", code="content_policy_violation"),
    "moderation": refuses(
        403, 'Your input was flagged for "violence"', metadata={"flagged_input": "x"}
    ),
    "deepseek": refuses(400, "Content Exists Risk"),
    "filter_finish": good(content="", finish_reason="content_filter"),
    "SAFETY": good(content=None, finish_reason="SAFETY"),
    "template": refuses(400, "Conversation roles must alternate user/assistant/user/assistant/..."),
    "template_500": refuses(500, "Jinja Exception: this template takes no such row"),
    # the service
    "unsure": refuses(400, "Bad request"),
    "broken": refuses(500, "CUDA out of memory"),
    "busy": refuses(
        429,
        "Rate limit reached. Visit https://x.test/billing for more",
        headers={"Retry-After": "0"},
    ),
    "error_in_200": says(
        200, {"error": {"message": "upstream provider is down", "type": "server_error"}}
    ),
    "error_in_choice": lambda body: Reply(
        200,
        json.dumps({"choices": [{"error": {"message": "provider hung up", "code": 502}}]}).encode(),
    ),
    "no_choices": says(200, {"choices": []}),
    "no_json": lambda body: Reply(200, b"{not json"),
    "number": lambda body: Reply(200, b"7"),
    "deep": lambda body: Reply(200, b"[" * 200_000),
    "cut": lambda body: Reply(200, b"", is_cut=True),
    "bomb": bomb,
    "gateway_page": page(
        502, "<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
    ),
    "tool_calls": good(content="half an answer", finish_reason="tool_calls"),
    "unknown_finish": good(content="half an answer", finish_reason="insufficient_system_resource"),
    "stream_error": streams_an_error,
    "stream_cut": streams_half,
    # no request will be taken
    "bad_key": refuses(401, "Incorrect API key provided"),
    "no_model": refuses(404, "The model `m` does not exist", code="model_not_found"),
    "no_path": page(404, "<html><title>404 Not Found</title></html>"),
    "web_page": page(200, "<!doctype html><title>Welcome to the lab</title>"),
    "seed_fastapi": refuses_seed(FASTAPI),
    "seed_gemini": lambda body: says(400, GEMINI)(body) if "seed" in body else good()(body),
    "seed_tgi": refuses_seed(
        {
            "error": "Failed to deserialize: unknown field `seed`, expected one of `model`",
            "error_type": "validation",
        }
    ),
    "seed_openai": lambda body: (
        refuses(400, "Unsupported parameter: 'seed'", param="seed", code="unsupported_parameter")(
            body
        )
        if "seed" in body
        else good()(body)
    ),
    "come_back_tomorrow": refuses(429, "daily limit", headers={"Retry-After": "86400"}),
    "come_back_never": refuses(503, "down", headers={"Retry-After": "9" * 400}),
    # ways of answering
    "stream": streams,
    "all_in_reasoning": good(content=None, reasoning_content="I think and think."),
    "no_usage": good(usage=...),
    "negative_usage": good(usage={"prompt_tokens": 7, "completion_tokens": -5}),
    "absurd_usage": good(usage={"prompt_tokens": 7, "completion_tokens": 10**12}),
    "half_usage": good(usage={"prompt_tokens": 7, "completion_tokens": 1.5}),
    "wants_max_completion_tokens": wants_max_completion_tokens,
    "context_vllm": has_a_small_context(VLLM_CONTEXT),
    "context_new_vllm": has_a_small_context(NEW_VLLM_CONTEXT),
    "context_sglang": has_a_small_context(SGLANG_CONTEXT),
    "context_tgi": has_a_small_context(TGI_CONTEXT),
    "other_model": good(model="another-model-2026"),
    "fingerprint": good(system_fingerprint="fp_1"),
}


class FaultyServer:
    """Listens on loopback from its making on; `context` is what /models tells, `path` where
    redirects lead.
    """

    def __init__(self) -> None:
        self.fault, self.after, self.only = "", 0, ""
        self.times_left: int | None = None
        self.context: int | None = None
        self.redirects_to = ""
        self.delay_s = 0.0
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.answered = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                entry = {"id": "m"} | (
                    {"max_model_len": server.context} if server.context is not None else {}
                )
                known = self.path.endswith("/models") and server.context is not None
                self._send(Reply(200 if known else 404, json.dumps({"data": [entry]}).encode()))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(server.reply(body, dict(self.headers)))

            def _send(self, reply: Reply) -> None:
                length = len(reply.body) + (100 if reply.is_cut else 0)
                try:
                    self.send_response(reply.status)
                    for name, value in (reply.headers | {"Content-Length": str(length)}).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(reply.body)
                except OSError:  # who asked is gone
                    self.close_connection = True
                if reply.is_cut:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def reply(self, body: Body, headers: dict[str, str]) -> Reply:
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self.times.append(time.monotonic())
            is_well = (
                not self.fault
                or self.answered < self.after
                or self.only not in question_of(body)
                or self.times_left == 0
            )
            if self.times_left is not None and not is_well:
                self.times_left -= 1
            self.answered += is_well
        time.sleep(self.delay_s)
        if self.redirects_to:
            return Reply(307, b"", JSON | {"Location": self.redirects_to})
        return good()(body) if is_well else FAULTS[self.fault](body)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


if __name__ == "__main__":
    running = FaultyServer()
    running.fault = sys.argv[1]
    running.after = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    print(running.url, flush=True)
    threading.Event().wait()
