"""One URL -> its bytes. The only place that uses the network here, and only for URLs that the user gave."""

from __future__ import annotations

import time
from dataclasses import dataclass

MAX_BYTES = 20_000_000  # after decompression
MAX_REDIRECTS = 5
TIMEOUT = 20.0  # seconds for each of connecting, sending, and waiting for more bytes
DEADLINE = 90.0  # seconds for the whole download


@dataclass(frozen=True, slots=True)
class Fetched:
    """A response body. ``url`` is the address after redirects, ``charset`` what the header declared."""

    url: str
    data: bytes
    media_type: str
    charset: str | None


def is_url(source: str) -> bool:
    """Whether ``source`` has the form scheme://... (a path never does)."""
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme.isalnum()


def fetch(url: str) -> Fetched:
    """Download ``url`` (http or https; at most 5 redirects, 20 MB, 90 s). Raises ValueError: the reason."""
    import httpx

    if not url.lower().startswith(("http://", "https://")):
        raise ValueError("only http:// and https:// addresses can be fetched; download it and add the file")
    give_up = time.monotonic() + DEADLINE
    headers = {"User-Agent": "ragpool", "Accept": "text/html, application/pdf, text/*;q=0.9, */*;q=0.5"}
    try:
        with (
            httpx.Client(follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=TIMEOUT) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            if response.status_code != 200:
                status = f"{response.status_code} {response.reason_phrase}".strip()
                raise ValueError(f"the server answered {status}; check the address")
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"larger than {MAX_BYTES // 10**6} MB; download it and add the file")
                if time.monotonic() > give_up:
                    raise ValueError(f"took longer than {DEADLINE:.0f} s; download it and add the file")
            media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            return Fetched(str(response.url), bytes(body), media_type, response.charset_encoding)
    except httpx.TooManyRedirects as error:
        raise ValueError(f"redirected more than {MAX_REDIRECTS} times; check the address") from error
    except httpx.UnsupportedProtocol as error:
        raise ValueError("redirected to an address that is not http(s); check the address") from error
    except httpx.TimeoutException as error:
        raise ValueError(f"no answer within {TIMEOUT:.0f} s; try again later") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(
            f"could not be fetched ({error or type(error).__name__}); check the address"
        ) from error
