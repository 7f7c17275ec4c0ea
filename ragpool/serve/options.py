"""What a server allows. Made from the options of ``ragpool serve``."""

from __future__ import annotations

import ipaddress

from pydantic import BaseModel, ConfigDict, Field

MEGABYTE = 1_000_000


class ServeOptions(BaseModel):
    """Limits and addresses of one server. Sizes are bytes, times are seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    require_key: bool = False  # also on loopback; another host always needs a key
    origins: tuple[str, ...] = ()  # web pages of other origins that may call; none by default
    hosts: tuple[str, ...] = ()  # further names under which this server is called (a reverse proxy's)

    own_process: bool = False  # nothing else runs in it: the garbage collector leaves alone what stays anyway
    workers: int = Field(1, ge=1, le=256)  # questions in work at the same time
    waiting: int = Field(16, ge=0)  # questions that may wait; the next one gets 429
    deadline: float = Field(300.0, gt=0)  # of one question, waiting included
    drain: float = Field(30.0, gt=0)  # how long SIGTERM waits for what is in work
    rate: int = Field(120, ge=0)  # requests a minute and key; 0: no limit

    body_bytes: int = Field(MEGABYTE, ge=1_000)
    upload_bytes: int = Field(20 * MEGABYTE, ge=1_000)
    question_chars: int = Field(4_000, ge=1)
    message_chars: int = Field(32_000, ge=1)  # an earlier message of the conversation
    messages: int = Field(200, ge=1)
    waiting_documents: int = Field(64, ge=1)
    batch_questions: int = Field(5_000, ge=1)

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
