"""The words of failures: codes, types, class names and phrases, each with the status it stands for.

Pure tables. They are read off the clients and the providers' pages; `docs/failures.md` says whose
they are. All are in the terms of HTTP, since most providers speak it: what a name, a gRPC code or a
close code means is said by the status that means the same.
"""

from __future__ import annotations

import re
from itertools import islice

from greenroom.messages.status import FailureKind

# What no HTTP status says.
CUT = 600
"""A connection that broke off, or a response that does: another try may do better at once."""
REFUSED = 601
"""A connection that was never made."""
TIMED_OUT = 602
CRASHED = 603
UNKNOWN = 604
"""Known not to be known."""

_KINDS = {
    status: kind
    for kind, statuses in {
        FailureKind.AUTH: (401, 403, 407),
        FailureKind.QUOTA: (402,),
        FailureKind.NOT_FOUND: (404, 410),
        FailureKind.TIMEOUT: (408, 504, TIMED_OUT),
        FailureKind.UNAVAILABLE: (409, 424, 425, 498, 499, CUT, REFUSED),
        FailureKind.TOO_LARGE: (413,),
        FailureKind.RATE_LIMITED: (429,),
        FailureKind.CRASHED: (CRASHED,),
        FailureKind.UNKNOWN: (UNKNOWN,),
    }.items()
    for status in statuses
}

MENDS_AT_ONCE = frozenset({CUT, 500, 502, 503})
"""After these the same member may do better at once, unless it names a time."""

DISCONNECTED = frozenset({CUT, REFUSED})
"""After these nobody has answered."""

CERTAIN = frozenset({401, 402, 407})
"""These say of the member alone that it can answer nobody; a 403 may be about the request."""


def kind_of_status(status: int) -> FailureKind:
    """What a status from 400 to 599, or one of those above, means."""
    known = _KINDS.get(status)
    if known is not None:
        return known
    return FailureKind.CALLER if status < 500 else FailureKind.UNAVAILABLE


FIRST = (413, 402, 401, 451, 404, 403, 429, 504, 529, 503, 500, 499, 400)
"""Which of several words counts where there is no status: the most exact one."""


def _table(text: str) -> dict[str, int]:
    """`status: word word`, a line each."""
    rows = (line.split(":") for line in text.strip().splitlines())
    return {word: int(status) for status, words in rows for word in words.split()}


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    """`phrase | phrase`, as many a line as fit."""
    return tuple(each.strip() for line in text.strip().splitlines() for each in line.split(" | "))


TOKENS = _table("""
    413: contextlengthexceeded stringabovemaxlength requesttoolarge exceedcontextsize
    413: payloadtoolarge
    413: requestentitytoolarge contextwindowexceeded maxtokensexceeded prompttoolong inputtoolong
    413: modelcontextwindowexceeded 1261
    402: insufficientquota billinghardlimitreached billingnotactive billing insufficientbalance
    402: insufficientcredits paymentrequired servicequotaexceeded arrearage quotaexhausted 1113
    401: apikeyinvalid invalidapikey authentication unauthenticated unauthorized expiredtoken
    401: invalidclienttokenid unrecognizedclient invalidsignature signaturedoesnotmatch authfailure
    401: incompletesignature invalidtoken tokenexpired invalidauthentication apikeyexpired
    401: missingauthenticationtoken invalidaccesskeyid authenticationfailed
    403: permission permissiondenied accessdenied forbidden model.accessdenied
    404: modelnotfound notfound deploymentnotfound resourcenotfound unimplemented
    404: modeldecommissioned modelnotexist modelunavailable
    451: contentfilter contentfiltered contentpolicyviolation moderation datainspectionfailed
    451: responsibleaipolicyviolation guardrailintervened prohibitedcontent 1301
    429: ratelimit ratelimitexceeded ratelimited toomanyrequests throttling throttled
    429: throttle slowdown resourceexhausted requestlimitexceeded limitexceeded 1302 1305
    429: provisionedthroughputexceeded requestthrottled userratelimitexceeded
    504: timeout deadlineexceeded modeltimeout requesttimeout gatewaytimeout upstreamtimeout
    529: overloaded serveroverloaded engineoverloaded modeloverloaded modelnotready
    503: serviceunavailable unavailable aborted
    500: server internalserver internal internalservererror api upstream modelstream model dataloss
    500: internalfailure serviceexception
    499: cancelled
    400: invalidrequest invalidargument validation outofrange failedprecondition alreadyexists
    400: invalidparameter badrequest
""")
"""Codes and types, in the form of `token_of`. gRPC's sixteen are here but for OK and UNKNOWN."""

DECISIVE = {
    413: _words("""
        ContextWindowExceededError ContextLengthExceededError ContextOverflowError
        ContextWindowOverflowException MaxPayloadError MaxTokensReachedException
        LengthFinishReasonError
    """),
    402: _words("QuotaExceededError QuotaExceededException InsufficientQuotaError"),
    401: _words("""
        AuthenticationError CredentialsError CredentialUnavailableError TokenRetrievalError
        SSOTokenError
    """),
    451: _words("""
        ContentFilterError ContentPolicyViolationError ContentFilterFinishReasonError
        ModelRefusalError BlockedPromptException StopCandidateException
        InputGuardrailTripwireTriggered
    """),
    # A parser of responses gives its errors a 400 of its own: the peer is at fault, not the caller.
    CUT: _words("""
        TransferEncodingError ContentLengthError BadHttpMessage BadStatusLine InvalidHeader
    """),
}
"""Endings of class names that say more than a status does: it may be a plain 400."""

NAMES = {
    TIMED_OUT: _words("Timeout TimeoutError TimeoutException TimeoutExpired"),
    REFUSED: _words("""
        ConnectionRefusedError ConnectError NewConnectionError NameResolutionError
        ClientConnectorError EndpointConnectionError ServiceRequestError NoServersError ProxyError
        SSLError gaierror CLINotFoundError
    """),
    CUT: _words("""
        ConnectionError NetworkError ProtocolError ClientPayloadError ChunkedEncodingError
        DecodingError IncompleteRead IncompleteReadError ConnectionClosedError
        ConnectionClosedOK ConnectionClosed ConnectionClosedException ServiceResponseError
        StreamTerminatedError ResponseStreamingError ClosedResourceError BrokenResourceError
        EndOfStream NoRespondersError
    """),
    429: _words("""
        RateLimitError RateLimitExceeded RateLimitedError TooManyRequestsError TooManyRequests
        ThrottlingException ThrottlingError
    """),
    529: _words("OverloadedError"),
    503: _words("ServiceUnavailableError ServiceUnavailable NoStreamResponseError"),
    500: _words("InternalServerError"),
    404: _words("ModelNotFoundError DeploymentNotFoundError"),
    403: _words("PermissionDeniedError"),
}
"""Endings of class names, for errors without a status: builtin classes and those of clients."""

UNREAD = ("ResponseValidationError",)
"""Endings of classes for an answer that could not be read: the peer alone is at fault."""

UNTOLD = frozenset({"LocalProtocolError"})
"""What ends like one of those and means something else: the member never saw the request."""

# By way of one string of all endings: `str.endswith` takes a tuple at once.
_DECISIVE = tuple(ending for endings in DECISIVE.values() for ending in endings)
_NAMED = tuple(ending for endings in NAMES.values() for ending in endings)


def by_decisive_name(names: list[str]) -> int | None:
    """The status for which the class of an error stands, whatever status it has."""
    for name in names:
        if name.endswith(_DECISIVE):
            return next(status for status, ends in DECISIVE.items() if name.endswith(ends))
    return None


def by_name(names: list[str]) -> int | None:
    """The status for which the class of an error stands that has none, the nearest class first."""
    for name in names:
        if name.endswith(_NAMED):
            if name in UNTOLD:
                return None
            return next(status for status, ends in NAMES.items() if name.endswith(ends))
    return None


A2A_ERRORS = _table("""
    400: InvalidParamsError InvalidRequestError MethodNotFoundError TaskNotFoundError
    400: TaskNotCancelableError PushNotificationNotSupportedError UnsupportedOperationError
    400: ContentTypeNotSupportedError VersionNotSupportedError ExtensionSupportRequiredError
    400: ExtendedAgentCardNotConfiguredError AuthenticatedExtendedCardNotConfiguredError
    500: JSONParseError InternalError InvalidAgentResponseError
""")
"""Classes of the A2A protocol, which have numbers that other protocols use otherwise."""

# JSON-RPC 2.0, 5.1, and what MCP adds: -32000 a closed connection, -32001 a request timeout.
RPC_ERRORS = {-32700: 500, -32600: 400, -32601: 400, -32602: 400, -32603: 500, -32001: TIMED_OUT}
RPC_SERVER_ERRORS = range(-32099, -31999)

CLOSE_CODES = {
    1003: 400, 1007: 400, 1008: 400, 1009: 413, 1010: 400, 3000: 401, 3003: 403, 3008: TIMED_OUT,
}  # fmt: skip
"""Websocket close codes (RFC 6455, 7.4.1, and IANA's registry); any other is a cut."""

# -- phrases, looked for in what is written in lower case

TOO_LARGE = _phrases("""
    context_length_exceeded | exceed_context_size | maximum context length | maximum model length
    maximum prompt length | maximum input length | context window | context_window | context limit
    context size | the context length | prompt is too long | prompt too long
    prompt exceeds max length | prompt 超长 | input is too long | input too long
    too many input tokens | too many tokens | number of tokens in the prompt
    number of tokens allowed | model token limit | range of input length | please reduce the length
    reduce your prompt | max_new_tokens` must be | string_above_max_length | string too long
    request_too_large | request too large | request exceeds the maximum size
    request payload size exceeds | entity too large | payload too large | content too large
    error code: 413 | larger than max | size limit exceeded | expected maxlength
    must have less than
""")
TOO_LARGE_PATTERN = re.compile(r"token count[^\n]{0,80}exceeds|too large for model")

QUOTA = _phrases("""
    insufficient_quota | exceeded your current quota | billing_hard_limit_reached
    billing_not_active | billing hard limit | monthly quota | insufficient quota | spending quota
    credit balance | insufficient balance | insufficient_balance | insufficient credit
    insufficient_credit | insufficient fund | more credits | out of credits | no credits
    credit limit | used all available credits | monthly included credits | payment required
    payment_required | spending limit | spend limit | api usage limits | monthly usage limit
    weekly usage limit | api calls / month | perday
""")

AUTH = _phrases("""
    api_key_invalid | api key not valid | api key expired | invalid api key | invalid_api_key
    incorrect api key | security token included in the request is | expiredtoken | token has expired
    token is expired | expired token
""")
NO_KEY = _phrases("""
    api_key client option must be set | could not resolve authentication method
    missing credentials | unable to locate credentials | authorization violation
    invalid api key | please run /login
""")
"""What is said by clients that were given no key, or whose server does not take theirs."""

MODERATED = _phrases("""
    content_filter | content filter | content_policy | content policy | content management policy
    moderation | was flagged | responsibleaipolicy | data_inspection_failed | nsfw
""")

NO_MODEL = _phrases("""
    model_not_found | model not found | model_decommissioned | has been decommissioned
    has been deprecated and | has been retired | model identifier is invalid | is not a valid model
    deploymentnotfound
""")

CLOSED = _phrases("""
    cannot invoke rpc | channel is closed | channel closed | client has been closed
    session is closed
""")
"""What clients say that were closed under a call."""

GONE = frozenset({"EOFError", "ProcessLookupError", "BrokenExecutor"})
"""Classes, be it further up, of errors that tell of a pipe, a process or workers that have ended.
"""

LOOP_CLOSED = "event loop is closed"
"""What asyncio says to a client that was made on a loop that has ended."""

BROKEN_ANSWER = _phrases("""
    error converting to valid response | unable to get json response | unexpected response from
    jsondecodeerror | expecting value: line
""")
"""What litellm says of an answer that it could not read; it gives it a 400 or a 422."""

ENDED = ("runner has terminated", "runner process has terminated")
"""What Ollama says in the middle of a stream."""

_TYPE_IN_WORDS = re.compile(r"['\"](?:type|code)['\"]: ?['\"]([a-z]{1,30}_[a-z_]{1,40})['\"]")
_TYPES_LIMIT = 10

_STATUS_IN_WORDS = re.compile(
    r"(?:\bhttp(?:/[\d.]{1,3})?(?: status| error)?(?: code)?|\b(?:status|error) code|\bapi error)"
    r"[:= ]{1,3}([45]\d\d)\b"
)
_STATUS_AND_REASON = re.compile(
    r"\b([45]\d\d):? (?:bad request|unauthorized|payment required|forbidden|not found|"
    r"request timeout|conflict|payload too large|content too large|request entity too large|"
    r"too many requests|internal server error|bad gateway|service unavailable|gateway timeout)\b"
)
_STATUS_REACH = 300
_NO_UNDERLINES = {ord("_"): None}


def says(text: str, phrases: tuple[str, ...]) -> bool:
    """Whether one of the phrases is in a text, which is in lower case."""
    for phrase in phrases:  # noqa: SIM110 - any() takes twice as long, and this is what costs
        if phrase in text:
            return True
    return False


def says_too_large(text: str) -> bool:
    return says(text, TOO_LARGE) or TOO_LARGE_PATTERN.search(text) is not None


def says_quota(text: str) -> bool:
    """Gemini tells of a limit of a minute and of an empty account in the same sentence."""
    if not says(text, QUOTA):
        return False
    return "perminute" not in text or "perday" in text


def status_in_words(text: str) -> int | None:
    """The status that the beginning of a text, in lower case, names as such."""
    start = text[:_STATUS_REACH]
    found = _STATUS_IN_WORDS.search(start) or _STATUS_AND_REASON.search(start)
    return None if found is None else int(found[1])


def by_phrase(text: str) -> int | None:
    """What the text of an error says that has no status and no code."""
    if says(text, NO_KEY):
        return 401
    if says(text, CLOSED):
        return REFUSED
    return 500 if says(text, ENDED) else None


def type_in_words(text: str) -> int | None:
    """What the type of a body means that a text quotes; never the caller's fault by that alone."""
    for found in islice(_TYPE_IN_WORDS.finditer(text), _TYPES_LIMIT):
        status = TOKENS.get(found[1].translate(_NO_UNDERLINES).removesuffix("error"))
        if status is not None and kind_of_status(status) is not FailureKind.CALLER:
            return status
    return None


def by_base(names: list[str]) -> int | None:
    """What the class of an error means that says nothing else, not even in words."""
    return 500 if "APIError" in names else None
