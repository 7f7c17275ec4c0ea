"""Bytes of one file -> title, text and pages, one function a format. Add a format by an entry in ``READERS``.

A reader takes the bytes and the charset that the transport declared (or None) and raises ValueError with a
reason that says what to do. It never sees the file system or the network.
"""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pypdf import PdfReader

# These two log every oddity of a file; without a handler of the application's, logging would print it.
for _name in ("pypdf", "trafilatura"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

MAX_DOCX_BYTES = 200_000_000  # unpacked; more is taken for a decompression bomb
_SHORT_PAGE = 250  # characters; below, trafilatura gives up on structure and breaks lines inside sentences
_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe\x00\x00": "utf-32-le", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]+)", re.IGNORECASE)
_ATX_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # no SQL database and no UTF-8 file takes these


@dataclass(frozen=True, slots=True)
class Content:
    """What a reader found. ``title`` is empty when the file names none."""

    text: str
    title: str = ""
    page_starts: tuple[int, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


Reader = Callable[[bytes, str | None], Content]


def decode(data: bytes, declared: str | None = None) -> str:
    """Text of ``data``: by its byte order mark, as UTF-8, or in the ``declared`` charset; line ends become LF.

    Nothing is guessed: a detector takes plain French in Windows-1252 for Spanish in Windows-1257 with full
    confidence, and a wrong guess would be indexed and quoted. Raises ValueError with the byte's position.
    """
    for mark, encoding in _BOMS.items():
        if data.startswith(mark):
            body = data[len(mark) :]
            break
    else:
        mark, encoding, body = b"", "utf-8", data
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        at = error.start + len(mark)
        text = _decode_declared(data, declared, f"not {encoding.upper()} (byte 0x{data[at]:02x} at position {at})")
    if "\x00" in text:
        raise ValueError(f"not a text file (NUL at character {text.index(chr(0))}); check what the file is")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(data: bytes, declared: str | None = None) -> Content:
    """Plain text; it has no title of its own."""
    return Content(decode(data, declared))


def read_markdown(data: bytes, declared: str | None = None) -> Content:
    """Markdown as it is written; the first heading is the title."""
    text = decode(data, declared)
    return Content(text, _first_heading(text))


def read_html(data: bytes, declared: str | None = None) -> Content:
    """The main text by trafilatura, or all visible text where that finds (almost) nothing."""
    import trafilatura
    from lxml import etree, html

    meta = _META_CHARSET.search(data[:4096])
    page = decode(data, declared or (meta.group(1).decode("ascii") if meta else None))
    try:
        # Decoded already: an XML declaration inside a str is an error to lxml.
        root = html.document_fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", page))
    except (etree.ParserError, ValueError):
        return Content("")
    title = " ".join(" ".join(root.xpath("//title//text()")[:1]).split())
    if not title:
        title = " ".join(" ".join(root.xpath("(//h1)[1]//text()")).split())
    text = trafilatura.extract(page, include_comments=False, include_tables=True, favor_recall=True) or ""
    if len(text) < _SHORT_PAGE:
        text = _visible_text(root) or text
    return Content(text, title)


def read_pdf(data: bytes, declared: str | None = None) -> Content:
    """The text layer; pages are joined by a blank line and ``page_starts`` says where each begins."""
    import pypdf

    if b"%PDF-" not in data[:1024]:
        raise ValueError("not a PDF (no %PDF- header); check what the file is")
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise ValueError("encrypted with a password; save a copy without it (qpdf --decrypt) and add that")
        pages = [_storable(page.extract_text()).strip() for page in reader.pages]
        title = _pdf_title(reader)
    except pypdf.errors.DependencyError as error:
        raise ValueError("encrypted with AES; pip install 'ragpool[crypto]' to read it") from error
    except ValueError:
        raise
    except Exception as error:  # pypdf lets any exception through on a broken file (KeyError, TypeError, ...)
        raise ValueError(f"truncated or damaged PDF ({_reason(error)}); export or download it again") from error
    if not any(pages):
        raise ValueError(f"no text in its {len(pages)} page(s), probably scanned; run OCR on it first (ocrmypdf)")
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    for page in pages:
        if page and length:
            parts.append("\n\n")
            length += 2
        starts.append(length)
        parts.append(page)
        length += len(page)
    return Content("".join(parts), title, tuple(starts), {"pages": len(pages)})


def read_docx(data: bytes, declared: str | None = None) -> Content:
    """Markdown by markitdown: headings, lists and tables are kept; the first heading is the title."""
    from markitdown import StreamInfo
    from markitdown.converters import DocxConverter

    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError("encrypted with a password, or an old .doc; save it as .docx without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_DOCX_BYTES:
                raise ValueError(f"unpacks to more than {MAX_DOCX_BYTES // 10**6} MB; split the document")
        markdown = DocxConverter().convert(io.BytesIO(data), StreamInfo(extension=".docx")).markdown
    except zipfile.BadZipFile as error:
        raise ValueError("truncated, or not a .docx; save or download it again") from error
    except ValueError:
        raise
    except Exception as error:  # the XML readers below raise what they like on a damaged part
        raise ValueError(f"damaged .docx ({_reason(error)}); save it again") from error
    # Only these two are escaped on the way; quotes are checked against the text, so it must read as written.
    text = _storable(re.sub(r"\\([_*])", r"\1", markdown))
    return Content(text, _first_heading(text))


READERS: dict[str, Reader] = {
    ".txt": read_text,
    ".md": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
}


def _decode_declared(data: bytes, declared: str | None, fault: str) -> str:
    if declared and declared.lower().replace("_", "-") not in ("utf-8", "utf8"):
        try:
            return data.decode(declared)
        except (LookupError, UnicodeDecodeError):
            fault += f", nor {declared} as it declares"
    raise ValueError(f"{fault}; save it as UTF-8 (for example: iconv -f WINDOWS-1252 -t UTF-8)")


def _first_heading(text: str) -> str:
    fenced = False
    previous = ""
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced:
            if heading := _ATX_HEADING.match(line):
                return heading.group(1).strip()
            if previous and re.fullmatch(r" {0,3}(=+|-{2,}) *", line):
                return previous
        previous = "" if fenced else line.strip()
    return ""


_HIDDEN = {"script", "style", "noscript", "template", "head", "svg", "nav", "footer", "iframe", "object", "select"}
_BLOCKS = set(
    "address article aside blockquote br dd div dl dt fieldset figcaption figure form h1 h2 h3 h4 h5 h6 header hr li "
    "main ol p pre section table tbody td tfoot th thead tr ul".split()
)


def _visible_text(root: Any) -> str:
    """One line a block; white space inside a line is collapsed, as a browser does."""
    from lxml import etree

    lines: list[list[str]] = [[]]
    hidden = 0
    for event, element in etree.iterwalk(root, events=("start", "end", "comment", "pi")):
        if event in ("comment", "pi"):
            lines[-1].append("" if hidden else element.tail or "")
            continue
        hidden += (element.tag in _HIDDEN) * (1 if event == "start" else -1)
        if element.tag in _BLOCKS:
            lines.append([])
        if not hidden:
            lines[-1].append((element.text if event == "start" else element.tail) or "")
    joined = (" ".join("".join(line).split()) for line in lines)
    return _storable("\n".join(line for line in joined if line))


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:120]


def _pdf_title(reader: PdfReader) -> str:
    title = reader.metadata.title if reader.metadata else None
    return " ".join(_storable(str(title)).split()) if title else ""


def _storable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)
