"""Errors as OpenAI's clients expect them: {"error": {"message", "type", "param", "code"}} and the right status."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from ragpool.errors import (
    InputError,
    ModelError,
    NotFoundError,
    RagpoolError,
    SettingsError,
    StoreError,
    TransientModelError,
)
from ragpool.models.remote import is_transient

log = logging.getLogger("ragpool.serve")

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class ErrorDetail(BaseModel):
    """What went wrong, and what to do next."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every response that is not a success."""

    error: ErrorDetail


class ApiError(Exception):
    """An answer with a status of its own."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        detail = ErrorDetail(message=self.message, type=kind, param=self.param, code=self.code)
        return {"error": detail.model_dump()}

    def response(self) -> JSONResponse:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A call that is wrong: 400."""
    return ApiError(400, message, param=param, code=code)


def missing(what: str) -> ApiError:
    """Nothing there, or not the caller's: 404 for both, so that nobody learns which ids exist."""
    return ApiError(404, f"there is no {what}", code="not_found")


def from_error(error: BaseException) -> ApiError:
    """Any exception as what the client may know of it. What is not ours is logged and named by nothing."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, NotFoundError):
        return ApiError(404, str(error), code="not_found")
    if isinstance(error, InputError):
        return ApiError(400, str(error))
    if isinstance(error, TransientModelError):
        return ApiError(503, str(error), code="model_unavailable", retry_after=5)
    if isinstance(error, ModelError):
        return ApiError(502, str(error), code="model_error")
    if isinstance(error, StoreError):
        log.error("the store failed: %s", error)
        return ApiError(503, "the store cannot be used at the moment: try again", code="store_unavailable")
    if isinstance(error, RagpoolError | SettingsError):
        return ApiError(500, str(error), code="server_error")
    if is_transient(error):
        return ApiError(503, "the model was not reached: try again", code="model_unavailable", retry_after=5)
    log.error("unexpected error", exc_info=error)
    return ApiError(500, "unexpected error; the server's log has it", code="server_error")


_WORDS = {
    400: "the request is wrong",
    404: "there is no such address",
    405: "this address has no such method",
}


def install(app: FastAPI) -> None:
    """Every error of the app leaves in this form."""

    async def api_error(_: Request, error: Exception) -> JSONResponse:
        return from_error(error).response()

    async def http_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message = _WORDS.get(error.status_code, str(error.detail))
        response = ApiError(error.status_code, message).response()
        response.headers.update(error.headers or {})
        return response

    async def invalid_request(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return from_validation(error.errors()).response()

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(RagpoolError, api_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid_request)


def from_validation(errors: Any) -> ApiError:
    """Pydantic's first complaint as a 400 that names the parameter."""
    first = next(iter(errors), {"loc": (), "msg": "the request is wrong", "type": ""})
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    name = ".".join(where) or None
    if first["type"] == "extra_forbidden":
        return invalid(f"unsupported parameter: {name}; leave it out", name, "unsupported_parameter")
    message = str(first["msg"]).removeprefix("Value error, ")
    return invalid(f"{name}: {message}" if name else message, name, "invalid_value")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides success, for the OpenAPI document."""
    texts = {
        400: "The request is wrong", 401: "No key, or not a valid one", 403: "Not from this web page",
        404: "Not there, or not yours", 405: "No such method", 409: "Something else is in the way",
        411: "Say how long the body is", 413: "Too large", 415: "Not a type that is read here",
        429: "Too many requests or a full queue; see Retry-After", 500: "A defect", 502: "The model failed",
        503: "Not now; try again", 504: "Not within the deadline",
    }  # fmt: skip
    always = (400, 401, 403, 413, 429, 500, 503)
    return {
        status: {"model": ErrorBody, "description": texts[status]} for status in sorted({*always, *statuses})
    }
