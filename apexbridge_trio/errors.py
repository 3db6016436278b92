"""Every fault the hub can tell a peer about.

An error says whose fault it is by its class: the HTTP status, OpenAI's ``type`` word and the
``code`` come from there, the message from where the cause is known. Messages are shown to peers:
they hold no path of the machine, no key and no trace.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar


class ApexError(Exception):
    """Base of all faults that a peer is told in the error envelope.

    Args:
        message: What happened and what to do, for people.
        param: The field of the request that is at fault, as a dotted path.
        retry_after_s: When asking again is worth it, in seconds.
        tools_ran: A tool may have run: a client library must not retry on its own.
    """

    status: int = 500
    type: str = "api_error"
    code: str = "internal_error"
    # Client libraries repeat 408, 409, 429 and 5xx by themselves; False forbids it to them.
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        tools_ran: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.code
        self.retry_after_s = retry_after_s
        self.tools_ran = tools_ran

    @property
    def told_code(self) -> str:
        """The word that a peer is told; in the log and in what is counted it is `code`."""
        return self.code

    @property
    def should_retry(self) -> bool:
        """Whether a client library may send the same request again on its own."""
        return self.retryable and not self.tools_ran


class InternalFault(ApexError):
    """A defect of the hub itself."""


class ConfigInvalid(ApexError):
    """The configuration can not be used; the message names file, place and the right word."""

    code = "config_invalid"


class ConfigRefused(ApexError):
    """A change of the configuration has faults; nothing was changed.

    Args:
        faults: Each with its path, its line (0: there is none), and what is wrong there.
    """

    status = 422
    type = "invalid_request_error"
    code = "config_invalid"

    def __init__(
        self, message: str, *, faults: Sequence[tuple[str, int, str]] = (), param: str | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.faults = tuple(faults)


class ConfigStale(ApexError):
    """The configuration is not what the change was made for any more; nothing was changed."""

    status = 412
    type = "invalid_request_error"
    code = "config_stale"


class ConfigUnconditional(ApexError):
    """A change of the configuration must say which revision it was made for."""

    status = 428
    type = "invalid_request_error"
    code = "if_match_required"


class ConfigReadOnly(ApexError):
    """The configuration's file may not be written; nothing was changed."""

    status = 409
    type = "invalid_request_error"
    code = "config_read_only"


class ConfigUnwritable(ApexError):
    """The configuration's file can not be written now; nothing was changed."""

    code = "config_unwritable"


class StoreUnusable(ApexError):
    """The state directory's database can not be opened; the hub does not run without it."""

    code = "store_unusable"


class StorageFailed(StoreUnusable):
    """The disk is full, read-only or broken now; nothing was changed, and trying again later is right."""

    status = 503
    code = "storage"
    retryable = True


class BackupUnusable(ApexError):
    """A backup can not be written, or is none that can be restored; nothing was changed."""

    code = "backup_unusable"


class BadRequest(ApexError):
    """The request breaks its own rules; nothing was changed."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class BodyTooLarge(BadRequest):
    """The body is over the limit."""

    status = 413
    code = "body_too_large"


class RequestStalled(BadRequest):
    """The rest of the request did not come in time."""

    status = 408
    code = "request_timeout"


class HeadTooLarge(BadRequest):
    """The head of the request is over the limit."""

    status = 431
    code = "head_too_large"


class VersionUnsupported(BadRequest):
    """The request speaks another version of HTTP."""

    status = 505
    code = "http_version_not_supported"


class SocketVersionUnsupported(BadRequest):
    """The WebSocket is of another version; the reply names the one there is (RFC 6455, 4.2.2)."""

    status = 426
    code = "websocket_version_not_supported"


class UnsupportedMedia(BadRequest):
    """The body is in a form or an encoding that the hub does not read."""

    status = 415
    code = "unsupported_media_type"


class RequestIdTaken(BadRequest):
    """The id the client chose is in flight already."""

    status = 409
    code = "request_id_in_flight"


class MethodNotAllowed(BadRequest):
    """The path is known, the method is not one of its own.

    Args:
        allowed: Those it has; the reply must name them (RFC 9110, 15.5.6).
    """

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = allowed


class Unauthenticated(ApexError):
    """No key, or one the hub does not know."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class KeyEnded(Unauthenticated):
    """The key was good when this began, and was revoked or has expired meanwhile."""

    code = "key_ended"


class SignatureInvalid(Unauthenticated):
    """A body is signed, and not by who it should be, not lately, or for something else."""

    code = "invalid_signature"


class Forbidden(ApexError):
    """A known principal asks for what it may not."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(ApexError):
    """Unknown, finished, or someone else's: the answer is the same."""

    status = 404
    type = "not_found_error"
    code = "not_found"


class ModelNotFound(NotFound):
    """No model of that id."""

    code = "model_not_found"


class TaskSettled(BadRequest):
    """The task has another result already; the first one stays."""

    status = 409
    code = "task_settled"


class TaskGone(ApexError):
    """The task waits for no result any more: it was interrupted, or its time is over."""

    status = 410
    type = "invalid_request_error"
    code = "task_gone"


class TooMany(ApexError):
    """This peer, or all of them together, ask for more than there is room for; nothing was changed."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limited"
    retryable = True


class QuotaUsed(TooMany):
    """What this key may use in a day is used up; asked again soon, it would be the same."""

    code = "quota_exceeded"
    retryable = False


class Interrupted(ApexError):
    """Somebody said stop."""

    status = 499
    code = "interrupted"


class CutShort(ApexError):
    """It was ended from outside: who asked for it has left or was cut, or the hub ends."""

    status = 499
    code = "cancelled"


class SlowReader(CutShort):
    """The hub has cut a peer that did not take what it was sent."""

    code = "slow_reader"


class DeadlinePassed(ApexError):
    """The request's own deadline has passed."""

    status = 504
    code = "timeout"


class Draining(ApexError):
    """The hub is about to end and takes no new work."""

    status = 503
    code = "draining"
    retryable = True


class HubFull(ApexError):
    """More connections than the hub may serve at once."""

    status = 503
    code = "too_many_connections"
    retryable = True


class Overloaded(ApexError):
    """The hub has no room for this now."""

    status = 503
    code = "overloaded"
    retryable = True


class ClockWrong(ApexError):
    """The hub's clock shows a time that can not be, and this needs a right one."""

    status = 503
    code = "clock_wrong"
    retryable = True


class UpstreamError(ApexError):
    """Base of what a model provider did wrong."""

    status = 502
    type = "upstream_error"
    code = "upstream_failed"
    retryable = True


class UpstreamUnreachable(UpstreamError):
    """No connection, or it ended before the first byte."""

    code = "upstream_unreachable"


class UpstreamBroken(UpstreamError):
    """The provider stopped in the middle, or sent what is no answer."""

    code = "upstream_broken"


class UpstreamSilent(UpstreamError):
    """The provider sent nothing for longer than its entry allows."""

    status = 504
    code = "upstream_timeout"


class UpstreamRefused(UpstreamError):
    """The provider answered with an error of its own; asked again, it would say the same.

    Args:
        upstream_status: The provider's. One that finds fault with the request is the client's too.
        said_code: The provider's own word for such a fault: clients look for ``context_length_exceeded``.
        said_param: The field at such a fault, as the provider names it.
    """

    code = "upstream_refused"
    retryable = False

    def __init__(
        self, message: str, *, upstream_status: int, said_code: str = "", said_param: str = "", **rest: object
    ) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]  # the base names them
        self.upstream_status = upstream_status
        self._said_code = ""
        if upstream_status in {400, 413, 422}:
            self.status, self.type = upstream_status, BadRequest.type
            self._said_code, self.param = said_code, said_param or self.param

    @property
    def told_code(self) -> str:
        """See `ApexError.told_code`."""
        return self._said_code or self.code


class UpstreamBusy(UpstreamError):
    """The provider asks for patience, or its circuit is open."""

    status = 503
    code = "upstream_busy"


class UpstreamLimited(UpstreamBusy):
    """The hub's key has used up what the provider allows it for now."""

    status = 429
    type = "rate_limit_error"
    code = "upstream_rate_limited"


class ToolFailed(ApexError):
    """A tool ran and reported a failure."""

    code = "tool_failed"


class ToolTimeout(ToolFailed):
    """A tool did not answer in time."""

    status = 504
    code = "tool_timeout"


class NodeLost(ToolFailed):
    """The node that ran a task has gone; the task may have run, or still run."""

    code = "node_lost"


class NoNode(Overloaded):
    """No node that is here can run this."""

    code = "no_node"


class TaskFailed(ToolFailed):
    """A task that answers later has said, by its callback, that it failed."""

    code = "task_failed"


def faults_in(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    """Yield what is in a group, however deep: nurseries inside of nurseries make groups of groups."""
    for fault in group.exceptions:
        if isinstance(fault, BaseExceptionGroup):
            yield from faults_in(fault)
        else:
            yield fault
