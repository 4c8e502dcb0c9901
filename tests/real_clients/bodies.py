"""What each provider says, in its own words: error bodies, answers and streams."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

HTML = (
    "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
)
TEXT = "The answer is forty-two."

_OPENAI_LIKE = ("openai", "groq", "together", "llamacpp", "vllm", "openrouter")
_KIND = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 402: "FAILED_PRECONDITION",
         403: "PERMISSION_DENIED", 404: "NOT_FOUND", 408: "DEADLINE_EXCEEDED",
         413: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED",
         500: "INTERNAL", 503: "UNAVAILABLE", 529: "UNAVAILABLE"}  # fmt: skip
_ANTHROPIC = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
              403: "permission_error", 404: "not_found_error", 408: "timeout_error",
              413: "request_too_large", 422: "invalid_request_error", 429: "rate_limit_error",
              500: "api_error", 503: "api_error", 529: "overloaded_error"}  # fmt: skip
_BEDROCK = {400: "ValidationException", 401: "UnrecognizedClientException",
            402: "ValidationException", 403: "AccessDeniedException",
            404: "ResourceNotFoundException", 408: "ModelTimeoutException",
            413: "ValidationException", 422: "ValidationException", 429: "ThrottlingException",
            500: "InternalServerException", 503: "ServiceUnavailableException",
            529: "ModelNotReadyException"}  # fmt: skip
_DASHSCOPE = {400: "InvalidParameter", 401: "InvalidApiKey", 402: "Arrearage",
              403: "AccessDenied", 404: "ModelNotFound", 408: "RequestTimeOut",
              413: "InvalidParameter", 422: "InvalidParameter", 429: "Throttling.RateQuota",
              500: "InternalError", 503: "ServiceUnavailable",
              529: "ServiceUnavailable"}  # fmt: skip

_SAYS = {
    400: "Invalid value for 'temperature': expected a number between 0 and 2.",
    401: "Incorrect API key provided.",
    402: "Insufficient credits. Add more to go on.",
    403: "You have no access to this resource.",
    404: "The model `none` does not exist or you do not have access to it.",
    408: "The request timed out.",
    413: "The request is larger than the server takes.",
    422: "Field 'messages.0.role' is not valid.",
    429: "Rate limit reached for requests. Please try again later.",
    500: "The server had an error while processing your request.",
    503: "The engine is currently overloaded, please try again later.",
    529: "Overloaded",
}

TOO_LONG = {
    "openai": "This model's maximum context length is 128000 tokens. However, your messages"
    " resulted in 200001 tokens. Please reduce the length of the messages.",
    "groq": "Please reduce the length of the messages or completion.",
    "together": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193."
    " Given: 200000 `inputs` tokens and 512 `max_new_tokens`",
    "llamacpp": "the request exceeds the available context size. try increasing the context size"
    " or enable context shift",
    "vllm": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"
    " (4900 in the messages, 100 in the completion). Please reduce the length.",
    "openrouter": "This endpoint's maximum context length is 131072 tokens. However, you requested"
    " about 200000 tokens.",
    "anthropic": "prompt is too long: 210000 tokens > 200000 maximum",
    "gemini": "The input token count (1200000) exceeds the maximum number of tokens allowed"
    " (1048576).",
    "cohere": "too many tokens: total number of tokens in the prompt cannot exceed 128000",
    "mistral": "Prompt contains 40000 tokens, too large for model with 32768 maximum context"
    " length",
    "ollama": "input length exceeds the context length",
    "bedrock": "Input is too long for requested model.",
    "dashscope": "Range of input length should be [1, 129024]",
    "replicate": "Prompt length exceeds maximum input length of 8192 tokens",
}


def failure(provider: str, status: int, situation: str) -> Any:
    """The JSON body of a failure."""
    says = _SAYS.get(status, "failed")
    if situation == "400ctx":
        says = TOO_LONG.get(provider, TOO_LONG["openai"])
    return _FAILURES.get(provider, _openai)(provider, status, situation, says)


def _openai(provider: str, status: int, situation: str, says: str) -> Any:
    kind, code = "invalid_request_error", None
    match situation:
        case "400ctx":
            code = "context_length_exceeded"
            if provider == "vllm":
                return {"object": "error", "message": says, "type": "BadRequestError",
                        "param": None, "code": 400}  # fmt: skip
            if provider == "llamacpp":
                return {"error": {"code": 400, "message": says, "n_ctx": 4096,
                                  "type": "exceed_context_size_error",
                                  "n_prompt_tokens": 5000}}  # fmt: skip
            if provider == "together":
                code = None
        case "429quota":
            kind = code = "insufficient_quota"
            says = "You exceeded your current quota, please check your plan and billing details."
            if provider in ("groq", "together"):
                kind = "insufficient_quota"
        case "404":
            code = "model_not_found"
        case "401":
            code = "invalid_api_key"
        case "403":
            kind, code = "permission_denied", None
        case _ if status == 429:
            kind, code = "requests", "rate_limit_exceeded"
        case _ if status >= 500:
            kind = "server_error"
    if provider == "openrouter":
        return {"error": {"code": status, "message": says, "metadata": {"provider_name": "None"}}}
    if provider == "vllm":
        return {
            "object": "error",
            "message": says,
            "type": kind,
            "param": None,
            "code": code or status,
        }
    return {"error": {"message": says, "type": kind, "param": None, "code": code}}


def _anthropic(provider: str, status: int, situation: str, says: str) -> Any:
    kind = _ANTHROPIC.get(status, "api_error")
    if situation == "429quota":
        says = "You have reached your specified API usage limits."
        kind = "billing_error"
    if situation == "400credit":
        says = ("Your credit balance is too low to access the Anthropic API."
                " Please go to Plans & Billing to upgrade or purchase credits.")  # fmt: skip
    return {"type": "error", "error": {"type": kind, "message": says}, "request_id": "req_1"}


def _gemini(provider: str, status: int, situation: str, says: str) -> Any:
    error: dict[str, Any] = {
        "code": status,
        "message": says,
        "status": _KIND.get(status, "UNKNOWN"),
    }
    google = "type.googleapis.com/google.rpc."
    if situation == "429quota":
        error["message"] = (
            "You exceeded your current quota, please check your plan and billing details."
        )
        error["details"] = [
            {"@type": google + "QuotaFailure", "violations": [{
                "quotaMetric": "generativelanguage.googleapis.com/free_tier_requests",
                "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
                "quotaValue": "50"}]},
            {"@type": google + "RetryInfo", "retryDelay": "21s"}]  # fmt: skip
    if situation == "400key":
        error["message"] = "API key not valid. Please pass a valid API key."
        error["details"] = [{"@type": google + "ErrorInfo", "reason": "API_KEY_INVALID",
                             "domain": "googleapis.com"}]  # fmt: skip
    if situation == "429s":
        error["details"] = [{"@type": google + "RetryInfo", "retryDelay": "7s"}]
    return {"error": error}


def _cohere(provider: str, status: int, situation: str, says: str) -> Any:
    if situation == "429quota":
        says = (
            "You have exceeded your monthly quota. Please upgrade your plan or check your billing."
        )
    return {"id": "1", "message": says}


def _mistral(provider: str, status: int, situation: str, says: str) -> Any:
    if status == 422:
        return {"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]}
    kind = "invalid_request_error" if status < 500 else "internal_server_error"
    if status == 429:
        kind = "rate_limited"
    if situation == "429quota":
        kind, says = "insufficient_quota", "Insufficient quota: check your billing details."
    return {"object": "error", "message": says, "type": kind, "param": None, "code": "3051"}


def _ollama(provider: str, status: int, situation: str, says: str) -> Any:
    if status == 404:
        says = "model 'none' not found"
    if situation == "429quota":
        says = "you have exceeded your current quota, upgrade your plan"
    return {"error": says}


def _bedrock(provider: str, status: int, situation: str, says: str) -> Any:
    kind = _BEDROCK.get(status, "InternalServerException")
    match situation:
        case "429quota":
            kind, says = "ServiceQuotaExceededException", "Your account has reached its quota."
        case "400expired":
            kind, says = "ExpiredTokenException", "The security token in the request is expired"
        case "402":
            says = "Your account has insufficient credits; add a valid payment instrument."
        case "413":
            says = "Input is too long for requested model."
    return {"message": says, "__type": kind}


def _dashscope(provider: str, status: int, situation: str, says: str) -> Any:
    code = _DASHSCOPE.get(status, "InternalError")
    if situation == "429quota":
        code, says = (
            "Throttling.AllocationQuota",
            "You exceeded your current quota: insufficient_quota",
        )
        code = "insufficient_quota"
    return {"code": code, "message": says, "request_id": "1"}


def _replicate(provider: str, status: int, situation: str, says: str) -> Any:
    if situation == "429quota":
        says = "You have exceeded your spending quota: insufficient_quota"
    return {"type": "about:blank", "title": "Failure", "detail": says, "status": status}


_FAILURES = {
    "anthropic": _anthropic, "gemini": _gemini, "cohere": _cohere, "mistral": _mistral,
    "ollama": _ollama, "bedrock": _bedrock, "dashscope": _dashscope, "replicate": _replicate,
}  # fmt: skip


def success(dialect: str, situation: str) -> Any:
    """The JSON body of an answer, or of what passes for one."""
    text: str | None = TEXT
    if situation == "200empty":
        text = ""
    if situation == "200filter":
        text = ""
    return _ANSWERS.get(dialect, _openai_answer)(situation, text)


def error_in_200(dialect: str) -> Any:
    """An error body that comes with status 200."""
    status = 529 if dialect == "anthropic" else 503
    return failure(dialect.removeprefix("responses:"), status, "200err")


def mcp_handshake(asked: Any) -> Any:
    """The answer to what an MCP client asks before its first call; None for a notification."""
    if "id" not in asked:
        return None
    tool = {"name": "compute", "inputSchema": {"type": "object"}}
    result: dict[str, Any] = {"tools": [tool]} if asked["method"] == "tools/list" else {}
    if asked["method"] == "initialize":
        result = {
            "protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "nobody", "version": "1"},
        }
    return {"jsonrpc": "2.0", "id": asked["id"], "result": result}


def rpc_failure(asked: Any, situation: str) -> Any:
    """A JSON-RPC error of the code that the situation names, or a tool that failed."""
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": asked.get("id")}
    if situation == "toolerr":
        text = {"type": "text", "text": "Error executing tool compute"}
        return answer | {"result": {"content": [text], "isError": True}}
    code = int(situation.removeprefix("rpc"))
    says = {-32602: "Invalid params", -32601: "Method not found", -32603: "Internal error",
            -32000: "Server error", -32001: "Request timed out", -32004: "Unsupported"}  # fmt: skip
    return answer | {"error": {"code": code, "message": says[code]}}


def _reason(situation: str, stop: str, length: str, filtered: str) -> str:
    return {"200length": length, "200filter": filtered}.get(situation, stop)


def _openai_answer(situation: str, text: str | None) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": text},
              "finish_reason": _reason(situation, "stop", "length", "content_filter")}  # fmt: skip
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "none",
            "choices": [] if situation == "200empty" else [choice],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}  # fmt: skip


def _responses_answer(situation: str, text: str | None) -> Any:
    out = [{"type": "message", "id": "m1", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": text, "annotations": []}]}]  # fmt: skip
    partly = {"200filter": "content_filter", "200length": "max_output_tokens"}.get(situation)
    return {"id": "r1", "object": "response", "created_at": 1, "model": "none",
            "status": "incomplete" if partly else "completed", "error": None,
            "incomplete_details": {"reason": partly} if partly else None,
            "output": [] if situation == "200empty" else out,
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}  # fmt: skip


def _anthropic_answer(situation: str, text: str | None) -> Any:
    return {"id": "m1", "type": "message", "role": "assistant", "model": "none",
            "content": [] if not text else [{"type": "text", "text": text}],
            "stop_reason": _reason(situation, "end_turn", "max_tokens", "refusal"),
            "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 5}}  # fmt: skip


def _gemini_answer(situation: str, text: str | None) -> Any:
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 5, "totalTokenCount": 8}
    if situation == "200empty":
        return {"candidates": [], "usageMetadata": usage}
    if situation == "200filter":
        return {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage}
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0,
                 "finishReason": _reason(situation, "STOP", "MAX_TOKENS", "SAFETY")}  # fmt: skip
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "none"}


def _cohere_answer(situation: str, text: str | None) -> Any:
    content = [] if not text else [{"type": "text", "text": text}]
    return {"id": "c1", "message": {"role": "assistant", "content": content},
            "finish_reason": _reason(situation, "COMPLETE", "MAX_TOKENS", "ERROR_TOXIC"),
            "usage": {"tokens": {"input_tokens": 3, "output_tokens": 5}}}  # fmt: skip


def _ollama_answer(situation: str, text: str | None) -> Any:
    return {"model": "none", "created_at": "2026-01-01T00:00:00Z", "done": True,
            "message": {"role": "assistant", "content": text or ""},
            "done_reason": _reason(situation, "stop", "length", "content_filter")}  # fmt: skip


def _bedrock_answer(situation: str, text: str | None) -> Any:
    content = [] if not text else [{"text": text}]
    return {"output": {"message": {"role": "assistant", "content": content}},
            "stopReason": _reason(situation, "end_turn", "max_tokens", "content_filtered"),
            "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8},
            "metrics": {"latencyMs": 1}}  # fmt: skip


def _dashscope_answer(situation: str, text: str | None) -> Any:
    choice = {"finish_reason": _reason(situation, "stop", "length", "content_filter"),
              "message": {"role": "assistant", "content": text}}  # fmt: skip
    return {"request_id": "1", "usage": {"input_tokens": 3, "output_tokens": 5},
            "output": {"choices": [] if situation == "200empty" else [choice]}}  # fmt: skip


def _replicate_answer(situation: str, text: str | None) -> Any:
    failed = situation == "200filter"
    return {"id": "p1", "version": "v1", "model": "none/none", "input": {}, "logs": "",
            "output": None if failed or situation == "200empty" else [text],
            "status": "failed" if failed else "succeeded",
            "error": "NSFW content detected. Try running it again, or try a different prompt."
            if failed else None,
            "created_at": "2026-01-01T00:00:00Z", "urls": {}, "source": "api",
            "started_at": None, "completed_at": None, "metrics": None, "webhook": None,
            "webhook_completed": None}  # fmt: skip


_ANSWERS = {
    "responses": _responses_answer, "anthropic": _anthropic_answer, "gemini": _gemini_answer,
    "cohere": _cohere_answer, "ollama": _ollama_answer, "bedrock": _bedrock_answer,
    "dashscope": _dashscope_answer, "replicate": _replicate_answer,
}  # fmt: skip


def stream(dialect: str, ending: str) -> tuple[str, list[bytes]]:
    """The content type and the pieces of a streamed answer: "ok", "cut" (half of it), or "err"."""
    begin, end, error, form = _STREAMS.get(dialect, _openai_stream)()
    pieces = {"ok": begin + end, "err": [*begin, error]}.get(ending, begin)
    return _FORMS[form][0], [_FORMS[form][1](piece) for piece in pieces]


def _sse(piece: Any) -> bytes:
    if isinstance(piece, str):
        return f"data: {piece}\n\n".encode()
    if isinstance(piece, dict) and "event" in piece and "data" in piece:
        return f"event: {piece['event']}\ndata: {json.dumps(piece['data'])}\n\n".encode()
    return f"data: {json.dumps(piece)}\n\n".encode()


def _line(piece: Any) -> bytes:
    return json.dumps(piece).encode() + b"\n"


def _frame(piece: Any) -> bytes:
    """One message of AWS's binary event stream."""
    kind, body, failed = piece
    names = {":message-type": "exception" if failed else "event",
             ":exception-type" if failed else ":event-type": kind,
             ":content-type": "application/json"}  # fmt: skip
    head = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in names.items()
    )
    payload = json.dumps(body).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack(">I", zlib.crc32(message))


_FORMS: dict[str, tuple[str, Any]] = {
    "sse": ("text/event-stream", _sse),
    "lines": ("application/x-ndjson", _line),
    "frames": ("application/vnd.amazon.eventstream", _frame),
}

Stream = tuple[list[Any], list[Any], Any, str]


def _openai_stream() -> Stream:
    def chunk(text: str | None, reason: str | None = None) -> Any:
        delta = {} if text is None else {"role": "assistant", "content": text}
        return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "none",
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}  # fmt: skip

    error = {"error": {"message": "The server is overloaded.", "type": "overloaded_error",
                       "param": None, "code": None}}  # fmt: skip
    return [chunk("The "), chunk("answer ")], [chunk(None, "stop"), "[DONE]"], error, "sse"


def _responses_stream() -> Stream:
    def event(kind: str, number: int, **more: Any) -> Any:
        return {"event": kind, "data": {"type": kind, "sequence_number": number, **more}}

    whole = _responses_answer("", TEXT)
    begin = [event("response.created", 0, response=whole | {"status": "in_progress", "output": []})]
    begin += [event("response.output_text.delta", n, delta=word, item_id="m1", output_index=0,
                    content_index=0, logprobs=[])
              for n, word in enumerate(("The ", "answer "), 1)]  # fmt: skip
    end = [event("response.completed", 3, response=whole)]
    failed = whole | {"status": "failed", "output": [],
                      "error": {"code": "server_error", "message": "overloaded"}}  # fmt: skip
    return begin, end, event("response.failed", 3, response=failed), "sse"


def _anthropic_stream() -> Stream:
    def event(kind: str, **more: Any) -> Any:
        return {"event": kind, "data": {"type": kind, **more}}

    message = _anthropic_answer("", "") | {"stop_reason": None}
    begin = [event("message_start", message=message),
             event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
             *(event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
               for text in ("The ", "answer "))]  # fmt: skip
    end = [event("content_block_stop", index=0),
           event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None},
                 usage={"output_tokens": 5}), event("message_stop")]  # fmt: skip
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    return begin, end, error, "sse"


def _gemini_stream() -> Stream:
    def chunk(text: str, reason: str | None = None) -> Any:
        part = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
        return {"candidates": [part | ({"finishReason": reason} if reason else {})]}

    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    return [chunk("The "), chunk("answer ")], [chunk("is 42.", "STOP")], error, "sse"


def _cohere_stream() -> Stream:
    def event(kind: str, **more: Any) -> Any:
        return {"event": kind, "data": {"type": kind, **more}}

    start = {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}}
    begin = [event("message-start", id="c1", delta=start),
             *(event("content-delta", index=0, delta={"message": {"content": {"text": text}}})
               for text in ("The ", "answer "))]  # fmt: skip
    usage = {"tokens": {"input_tokens": 3, "output_tokens": 5}}
    end = [event("message-end", delta={"finish_reason": "COMPLETE", "usage": usage})]
    error = event("message-end", delta={"finish_reason": "ERROR", "error": "overloaded"})
    return begin, end, error, "sse"


def _ollama_stream() -> Stream:
    def chunk(text: str, done: bool = False) -> Any:
        return {"model": "none", "created_at": "2026-01-01T00:00:00Z", "done": done,
                "message": {"role": "assistant", "content": text}}  # fmt: skip

    end = [chunk("", True) | {"done_reason": "stop"}]
    return [chunk("The "), chunk("answer ")], end, {"error": "llama runner has terminated"}, "lines"


def _bedrock_stream() -> Stream:
    delta = [("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}, False)
             for text in ("The ", "answer ")]  # fmt: skip
    begin = [("messageStart", {"role": "assistant"}, False), *delta]
    end = [("contentBlockStop", {"contentBlockIndex": 0}, False),
           ("messageStop", {"stopReason": "end_turn"}, False)]  # fmt: skip
    return begin, end, ("serviceUnavailableException", {"message": "overloaded"}, True), "frames"


def _dashscope_stream() -> Stream:
    def chunk(text: str, reason: str) -> Any:
        message = {"role": "assistant", "content": text}
        return {"request_id": "1", "usage": {"input_tokens": 3, "output_tokens": 5},
                "output": {"choices": [{"message": message, "finish_reason": reason}]}}  # fmt: skip

    error = {"code": "ServiceUnavailable", "message": "overloaded", "request_id": "1"}
    return (
        [chunk("The ", "null"), chunk("answer ", "null")],
        [chunk("is 42.", "stop")],
        error,
        "sse",
    )


_STREAMS = {
    "responses": _responses_stream, "anthropic": _anthropic_stream, "gemini": _gemini_stream,
    "cohere": _cohere_stream, "ollama": _ollama_stream, "bedrock": _bedrock_stream,
    "dashscope": _dashscope_stream,
}  # fmt: skip
