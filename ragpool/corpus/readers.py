"""Bytes of one file -> title, text and pages, one function a format. Add a format by an entry in ``READERS``.

A reader takes the bytes and the charset that the transport declared (or None) and raises ValueError with a
reason that says what to do. It never sees the file system or the network.
"""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pypdf import PdfReader

# These two log every oddity of a file; without a handler of the application's, logging would print it.
for _name in ("pypdf", "trafilatura"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

MAX_DOCX_BYTES = 200_000_000  # unpacked; more is taken for a decompression bomb
_SHORT_PAGE = 250  # characters; below, trafilatura gives up on structure and breaks lines inside sentences
_BOMS = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe\x00\x00": "utf-32-le",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]+)", re.IGNORECASE)
_ATX_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(\S.*)")
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
    """Text of ``data`` by byte order mark, as UTF-8, or in the ``declared`` charset; line ends become LF.

    Nothing is guessed: a detector takes plain French in Windows-1252 for Spanish in Windows-1257 with full
    confidence, and a wrong guess would be indexed and quoted. Raises ValueError with the byte's position.
    """
    mark = next((mark for mark in _BOMS if data.startswith(mark)), b"")
    encoding = _BOMS.get(mark, "utf-8")
    body = data[len(mark) :]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        at = error.start + len(mark)
        fault = f"not {encoding.upper()} (byte 0x{data[at]:02x} at position {at})"
        text = _decode_declared(data, declared, fault)
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

    meta = _META_CHARSET.search(data[:4096])
    page = decode(data, declared or (meta.group(1).decode("ascii") if meta else None))
    root = trafilatura.load_html(page)
    if root is None:
        return Content(_storable(page))  # no tag in it
    title = _collapsed(root.xpath("(//head/title)[1]//text()")) or _collapsed(root.xpath("(//h1)[1]//text()"))
    text = trafilatura.extract(page, include_comments=False, include_tables=True, favor_recall=True) or ""
    if len(text) < _SHORT_PAGE:
        text = _visible_text(root) or text
    return Content(_storable(text), _storable(title))


def read_pdf(data: bytes, _declared: str | None = None) -> Content:
    """The text layer; pages are joined by a blank line and ``page_starts`` says where each begins."""
    import pypdf

    if b"%PDF-" not in data[:1024]:
        raise ValueError("not a PDF (no %PDF- header); check what the file is")
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        locked = reader.is_encrypted and not reader.decrypt("")
        pages = [] if locked else [_storable(page.extract_text()).strip() for page in reader.pages]
        title = "" if locked else _pdf_title(reader)
    except pypdf.errors.DependencyError as error:
        raise ValueError("encrypted with AES; pip install 'ragpool[crypto]' to read it") from error
    except Exception as error:  # pypdf lets any exception through on a broken file (KeyError, TypeError, ...)
        raise ValueError(
            f"truncated or damaged PDF ({_reason(error)}); export or download it again"
        ) from error
    if locked:
        raise ValueError("encrypted with a password; save a copy without it (qpdf --decrypt) and add that")
    if not any(pages):
        raise ValueError(
            f"no text in its {len(pages)} page(s), probably scanned; run OCR on it first (ocrmypdf)"
        )
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


def read_docx(data: bytes, _declared: str | None = None) -> Content:
    """Markdown by markitdown: headings, lists and tables are kept; the first heading is the title."""
    from markitdown import StreamInfo
    from markitdown.converters import DocxConverter

    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError("encrypted with a password, or an old .doc; save it as .docx without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError("truncated, or not a .docx; save or download it again") from error
    if unpacked > MAX_DOCX_BYTES:
        raise ValueError(f"unpacks to more than {MAX_DOCX_BYTES // 10**6} MB; split the document")
    try:
        converter = DocxConverter()  # type: ignore[no-untyped-call]
        markdown = converter.convert(io.BytesIO(data), StreamInfo(extension=".docx")).markdown
    except Exception as error:  # the XML readers below raise what they like on a damaged part
        raise ValueError(f"damaged .docx ({_reason(error)}); save it again") from error
    # Only these two are escaped; quotes are checked against the text, so it must read as written.
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


_AS_BROWSERS_DO = dict.fromkeys(("iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii"), "cp1252")


def _decode_declared(data: bytes, declared: str | None, fault: str) -> str:
    if declared and declared.lower().replace("_", "-") not in ("utf-8", "utf8"):
        try:
            return data.decode(_AS_BROWSERS_DO.get(declared.lower(), declared))
        except (LookupError, UnicodeError):
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
                return heading.group(1).rstrip().rstrip("#").rstrip()
            if previous and re.fullmatch(r" {0,3}(=+|-{2,}) *", line):
                return previous
        previous = "" if fenced else line.strip()
    return ""


_HIDDEN = frozenset(
    {"script", "style", "noscript", "template", "head", "svg", "nav", "footer", "iframe", "object"}
)
_INLINE = frozenset(
    {
        "a",
        "abbr",
        "b",
        "bdi",
        "bdo",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "ins",
        "kbd",
        "label",
    }
    | {"mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"}
)


def _visible_text(root: Any) -> str:
    """One line a block; white space inside a line is collapsed, as a browser does."""
    lines: list[list[str]] = [[]]
    # An element twice on the stack, for its start and its end: pages nest deeper than Python recurses.
    stack = [(root, False)]
    while stack:
        element, closing = stack.pop()
        shown = isinstance(element.tag, str) and element.tag not in _HIDDEN  # a comment's tag is a function
        if shown and element.tag not in _INLINE:
            lines.append([])
        if closing or not shown:
            lines[-1].append(element.tail or "")
            continue
        lines[-1].append(element.text or "")
        stack.append((element, True))
        stack.extend((child, False) for child in reversed(element))
    joined = (_collapsed(line) for line in lines)
    return "\n".join(line for line in joined if line)


def _collapsed(pieces: Iterable[str]) -> str:
    return " ".join("".join(pieces).split())


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:120]


def _pdf_title(reader: PdfReader) -> str:
    """The title that an author set; what programs put there by themselves says nothing about the text."""
    title = _collapsed(_storable(str(reader.metadata.title or ""))) if reader.metadata else ""
    return "" if title.lower().startswith(("untitled", "microsoft word -")) else title


def _storable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)
