"""Loading, splitting, sentences and data sets; every file is made here, URLs are served on the loopback."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import docx
import pypdf
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reportlab.pdfgen import canvas  # type: ignore[import-untyped,unused-ignore]

from ragpool.corpus import (
    Dataset,
    content_hash,
    load,
    load_dataset,
    read_questions,
    sentences,
    split,
)
from ragpool.errors import InputError, LoadError, SettingsError
from ragpool.types import Document

LONG = "The lighthouse of Orsa was built by Ilse Marrow in 1871 and burned down twenty years later. " * 5
in_tmp_path = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


def loaded(*sources: str | Path, fetch: bool = True) -> tuple[list[Document], list[LoadError]]:
    errors: list[LoadError] = []
    return list(load(sources, on_error=errors.append, fetch=fetch)), errors


def only(path: Path) -> Document:
    documents, errors = loaded(path)
    assert not errors
    assert len(documents) == 1
    return documents[0]


def reason(path: str | Path) -> str:
    documents, errors = loaded(path)
    assert not documents
    assert len(errors) == 1
    assert str(path) in str(errors[0])
    assert "\n" not in str(errors[0])
    return errors[0].reason


def jsonl(path: Path, records: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def pdf(pages: Sequence[str], title: str = "") -> bytes:
    out = io.BytesIO()
    page = canvas.Canvas(out)
    if title:
        page.setTitle(title)
    for text in pages:
        if text:
            page.drawString(72, 700, text)
        page.showPage()
    page.save()
    return out.getvalue()


def word(title: str, *paragraphs: str) -> bytes:
    out = io.BytesIO()
    document = docx.Document()
    document.add_heading(title, 1)
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    document.save(out)
    return out.getvalue()


# --- text, Markdown, HTML ---------------------------------------------------------------------------------


def test_text_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"\xef\xbb\xbfFirst line.\r\nSecond line.\n")
    document = only(tmp_path / "notes.txt")
    assert document == Document("notes.txt", "notes", "First line.\nSecond line.\n", {"format": "txt"})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_byte_order_marks_are_believed(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("Ærøskøbing 東京".encode(encoding))
    assert only(tmp_path / "a.txt").text == "Ærøskøbing 東京"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("intro\n\n## The Orsa light ##\n\ntext", "The Orsa light"),
        ("```\n# a comment\n```\n\n# Real\n", "Real"),
        ("Set by lines\n============\n\ntext", "Set by lines"),
        ("no heading here", "a"),
        ("#hashtag is none", "a"),
    ],
)
def test_markdown_title(tmp_path: Path, text: str, title: str) -> None:
    (tmp_path / "a.md").write_text(text)
    assert only(tmp_path / "a.md").title == title
    assert only(tmp_path / "a.md").text == text


def test_html_main_text_and_title(tmp_path: Path) -> None:
    head = "<title>Orsa &amp; light</title><script>var x=1</script>"
    page = f"<html><head>{head}</head><body><p>{LONG}</p></body></html>"
    (tmp_path / "a.html").write_text(page)
    document = only(tmp_path / "a.html")
    assert document.title == "Orsa & light"
    assert "Ilse Marrow in 1871" in document.text
    assert "var x" not in document.text


def test_short_html_falls_back_to_the_visible_text(tmp_path: Path) -> None:
    page = (
        "<body><!-- hidden --><nav>menu</nav><h1>Orsa</h1><p>A <b>short</b>\n page.</p>tail"
        "<table><tr><td>1871<td>built</table><style>p{}</style></body>"
    )
    (tmp_path / "a.htm").write_text(page)
    document = only(tmp_path / "a.htm")
    assert document.title == "Orsa"
    assert document.text == "Orsa\nA short page.\ntail\n1871\nbuilt"


def test_html_may_declare_its_charset(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(
        b'<meta charset="iso-8859-1"><title>Caf\xe9</title><p>\x93na\xefve\x94</p>'
    )
    assert only(tmp_path / "a.html").title == "Café"
    assert only(tmp_path / "a.html").text == "“naïve”"


def test_html_with_an_xml_declaration(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<?xml version="1.0" encoding="utf-8"?><html><body><p>Ærø.</p></body></html>'
    )
    assert only(tmp_path / "a.html").text == "Ærø."


# --- PDF and Word -----------------------------------------------------------------------------------------


def test_pdf_keeps_its_pages(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(["Page one.", "", "Page three."], title="The Orsa report"))
    document = only(tmp_path / "a.pdf")
    assert document.title == "The Orsa report"
    assert document.text == "Page one.\n\nPage three."
    assert document.metadata == {"format": "pdf", "pages": 3}
    passages = split(document, chunk_size=12, chunk_overlap=0)
    assert [(p.text, p.metadata["page"]) for p in passages] == [("Page one.", 1), ("Page three.", 3)]
    assert [p.metadata["page"] for p in split(document, chunk_size=100, chunk_overlap=0)] == [1]


def test_pdf_that_begins_with_an_empty_page(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(["", "Page two."]))
    document = only(tmp_path / "a.pdf")
    assert document.title == "a"  # reportlab's own "untitled" is no title
    assert split(document, chunk_size=100, chunk_overlap=0)[0].metadata["page"] == 2


def test_pdf_of_200_pages(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(
        pdf([f"This is page number {n} of the long report." for n in range(1, 201)])
    )
    document = only(tmp_path / "a.pdf")
    assert len(document.page_starts) == 200
    for number, start in enumerate(document.page_starts, 1):
        assert document.text[start:].startswith(f"This is page number {number} ")
    for passage in split(document, chunk_size=300, chunk_overlap=50):
        start = passage.text.index("This is page")
        if start == 0:
            assert passage.text.startswith(f"This is page number {passage.metadata['page']} ")


def test_encrypted_pdf_is_reported(tmp_path: Path) -> None:
    writer = pypdf.PdfWriter(io.BytesIO(pdf(["Secret."])))
    writer.encrypt("password", algorithm="AES-256")
    writer.write(tmp_path / "a.pdf")
    assert "encrypted with a password" in reason(tmp_path / "a.pdf")


def test_pdf_that_only_its_owner_may_change_is_read(tmp_path: Path) -> None:
    writer = pypdf.PdfWriter(io.BytesIO(pdf(["Open to read."])))
    writer.encrypt("", owner_password="owner", algorithm="RC4-128")
    writer.write(tmp_path / "a.pdf")
    assert only(tmp_path / "a.pdf").text == "Open to read."


def test_scanned_pdf_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(["", ""]))
    assert "no text in its 2 page(s), probably scanned" in reason(tmp_path / "a.pdf")


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95])
def test_truncated_pdf(tmp_path: Path, kept: float, capfd: pytest.CaptureFixture[str]) -> None:
    data = pdf([f"Page {n}." for n in range(20)])
    (tmp_path / "a.pdf").write_bytes(data[: int(len(data) * kept)])
    assert "truncated or damaged PDF" in reason(tmp_path / "a.pdf")
    assert capfd.readouterr() == ("", "")


def test_docx(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(
        word("The Orsa light", "Built in 1871, see build_log and 3 * 4.", "Æ 東京")
    )
    document = only(tmp_path / "a.docx")
    assert document.title == "The Orsa light"
    assert "Built in 1871, see build_log and 3 * 4." in document.text
    assert "Æ 東京" in document.text


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_truncated_docx(tmp_path: Path, kept: float) -> None:
    data = word("Title", LONG)
    (tmp_path / "a.docx").write_bytes(data[: int(len(data) * kept)])
    assert "truncated, or not a .docx" in reason(tmp_path / "a.docx")


def test_other_files_called_docx(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600)
    assert "encrypted with a password, or an old .doc" in reason(tmp_path / "a.docx")
    with zipfile.ZipFile(tmp_path / "b.docx", "w") as archive:
        archive.writestr("hello.txt", "not a Word file")
    assert "damaged .docx" in reason(tmp_path / "b.docx")


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".txt", ".md", ".html", ".pdf", ".docx", ".jsonl"])
@pytest.mark.parametrize("data", [b"", b" \n\n "])
def test_empty_file(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    assert "empty" in reason(path)


def test_mis_encoded_file_names_the_byte(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Le café".encode("cp1252"))
    assert "not UTF-8 (byte 0xe9 at position 6)" in reason(tmp_path / "a.txt")
    assert "UTF-8" in reason(tmp_path / "a.txt")


def test_binary_file_called_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"GIF89a\x00\x01\x02")
    assert "not a text file (NUL at character 6)" in reason(tmp_path / "a.txt")


def test_missing_path_and_unknown_suffix(tmp_path: Path) -> None:
    assert "no such file or folder" in reason(tmp_path / "nowhere")
    assert "no such file or folder" in reason(tmp_path / "nowhere.xyz")
    assert "no such file or folder" in reason("a\0b")
    (tmp_path / "a.xyz").write_text("x")
    assert "unknown type '.xyz'; ragpool reads .txt .md" in reason(tmp_path / "a.xyz")
    assert "cannot be read" in reason(tmp_path / ("x" * 5000))


def test_file_that_the_system_refuses_to_read(tmp_path: Path) -> None:
    # A link to itself: permissions would not stop a test that runs as root.
    (tmp_path / "a.txt").symlink_to(tmp_path / "a.txt")
    assert "cannot be read (Too many levels of symbolic links)" in reason(tmp_path / "a.txt")


def test_a_broken_file_does_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Good.")
    (tmp_path / "b.pdf").write_bytes(b"broken")
    (tmp_path / "c.txt").write_bytes(b"\xff")
    (tmp_path / "d.txt").write_text("Good too.")
    documents, errors = loaded(tmp_path)
    assert [d.id for d in documents] == ["a.txt", "d.txt"]
    assert [Path(e.source).name for e in errors] == ["b.pdf", "c.txt"]


# --- folders ----------------------------------------------------------------------------------------------


def test_folder_is_read_in_order_with_relative_ids(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/.hidden.md", ".git/x.md", "a/script.py", "c.TXT"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    documents, errors = loaded(tmp_path)
    assert [d.id for d in documents] == ["a/z.md", "b.txt", "c.TXT"]
    assert not errors


def test_folder_without_documents(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    assert "no documents in this folder" in reason(tmp_path)


def test_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("text")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    documents, errors = loaded(tmp_path)
    assert [d.id for d in documents] == ["real/a.txt"]
    assert sorted(Path(e.source).name for e in errors) == ["gone.txt", "self.txt"]


def test_same_id_twice_names_both(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder)
    documents, errors = loaded(tmp_path / "one", tmp_path / "two")
    assert [d.text for d in documents] == ["one"]
    assert errors[0].source == str(tmp_path / "two" / "a.txt")
    assert f"'a.txt' is already taken by {tmp_path / 'one' / 'a.txt'}" in errors[0].reason


def test_corpus_folder(tmp_path: Path) -> None:
    """documents.jsonl with its questions, its README and the script that made it."""
    folder = tmp_path / "orsa"
    folder.mkdir()
    jsonl(folder / "documents.jsonl", [{"id": "d1", "title": "T", "text": "Text."}])
    jsonl(folder / "questions.jsonl", [{"id": "q1", "question": "Who?"}])
    jsonl(folder / "answers.jsonl", [{"id": "q1", "question": "Who?", "answer": "I", "text": "I [1]"}])
    (folder / "README.md").write_text("# How it was made")
    (folder / "world.py").write_text("print()")
    (folder / "extra.txt").write_text("A document beside them.")
    documents, errors = loaded(folder)
    assert [d.id for d in documents] == ["d1", "extra.txt"]
    assert not errors
    assert [d.id for d in loaded(tmp_path)[0]] == ["d1", "orsa/extra.txt"]


def test_readme_is_a_document_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Read me")
    assert only(tmp_path).id == "README.md"


# --- documents.jsonl --------------------------------------------------------------------------------------


def test_documents_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"id": "a", "title": "A", "text": "Text a.", "year": 1871, "tags": ["x"]}\r\n\n'
        b'{"id": 7, "text": "Text b.", "metadata": {"lang": "de"}}'
    )
    documents, errors = loaded(path)
    assert not errors
    assert documents == [
        Document("a", "A", "Text a.", {"year": 1871, "tags": '["x"]'}),
        Document("7", "", "Text b.", {"lang": "de"}),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"id": "x" "text": "y"}', "not valid JSON (Expecting ',' delimiter at column 12); fix or remove"),
        (b'{"id": "x"', "not valid JSON"),
        (b'{"text": "y"}', 'has no "id"'),
        (b'{"id": "", "text": "y"}', 'has no "id"'),
        (b'{"id": true, "text": "y"}', 'has no "id"'),
        (b'{"id": "x"}', 'has no "text"'),
        (b'{"id": "x", "text": "  "}', 'has no "text"'),
        (b'{"id": "x", "text": "y", "title": 3}', '"title" that is not a string'),
        (b'["x"]', "not a JSON object"),
        (b'{"id": "x", "text": "caf\xe9"}', "not UTF-8 (byte 0xe9 at position 24 of the line)"),
        (b'{"id": "x", "text": "\\ud800"}', "surrogate"),
        (b'{"id": "x", "text": "a\\u0000"}', "NUL"),
        (b'{"id": "x", "text": "y", "n": NaN}', "NaN is not a JSON number"),
        (b'{"id": "x", "text": "y", "n": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"id": "x", "text": "y", "n": ' + b"[" * 500 + b"]" * 500 + b"}", "nested too deeply"),
        (b'{"id": "good", "text": "again"}', "'good' is already taken by"),
    ],
)
def test_malformed_line_is_named_and_the_rest_goes_on(tmp_path: Path, line: bytes, expected: str) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"id": "good", "text": "Text."}\n' + line + b'\n{"id": "last", "text": "Text."}\n')
    documents, errors = loaded(path)
    assert [d.id for d in documents] == ["good", "last"]
    assert [e.source for e in errors] == [f"{path}:2"]
    assert expected in errors[0].reason


def test_a_file_of_broken_lines_is_summed_up(tmp_path: Path) -> None:
    jsonl(tmp_path / "docs.jsonl", [{"text": "no id"}] * 100)
    documents, errors = loaded(tmp_path / "docs.jsonl")
    assert not documents
    assert len(errors) == 21
    assert "80 more lines could not be read" in errors[-1].reason


def test_questions_given_as_documents(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "questions.jsonl", [{"id": "q1", "question": "Who?"}])
    assert "ragpool batch" in reason(path)


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
identifiers = plain.filter(str.strip)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
)
documents_strategy = st.builds(
    Document,
    id=identifiers,
    title=plain,
    text=identifiers,
    metadata=st.dictionaries(
        identifiers.filter(lambda key: key not in ("id", "title", "text", "metadata", "question")),
        scalars | plain,
    ),
)


@in_tmp_path
@example([Document("a", "", "the escape \\u0000, and \\\\ud800")], True)
@given(st.lists(documents_strategy, min_size=1, unique_by=lambda d: d.id), st.booleans())
def test_documents_jsonl_round_trip(tmp_path: Path, documents: list[Document], escaped: bool) -> None:
    lines = [
        json.dumps({"id": d.id, "title": d.title, "text": d.text, **d.metadata}, ensure_ascii=escaped)
        for d in documents
    ]
    path = tmp_path / "documents.jsonl"
    path.write_bytes("\n".join(lines).encode())
    read, errors = loaded(path)
    assert not errors
    assert read == documents
    assert [content_hash(d) for d in read] == [content_hash(d) for d in documents]


pieces = st.lists(
    st.binary(max_size=30)
    | st.sampled_from(
        [
            b'{"id": "a", ',
            b'"text": "x"',
            b"}",
            b"[",
            b"]",
            b"\n",
            b'"question": "Who?"',
            b'"context": [["t", ["s"]]]',
            b'{"id": "q", "question": "Who?", "answers": 3}',
            b'{"_id": "q", "question": "?", "context": [[1]]}',
            b'"paragraphs": [{}]',
            b'"answers": {}',
            b",",
            b"null",
            b'"\\ud800"',
            b'{"title": "t", "text": "x"}',
        ]
    ),
    max_size=8,
).map(b"".join)


@in_tmp_path
@given(pieces, st.sampled_from([".jsonl", ".json", ".txt", ".md", ".html", ".pdf", ".docx"]))
@example(b"%PDF-1.4\n%%EOF", ".pdf")
@example(b"PK\x05\x06" + b"\0" * 18, ".docx")
@example(b"<html><body>" + b"<div>" * 3000 + b"deep", ".html")
def test_no_bytes_raise_anything_else(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    documents, errors = loaded(path)
    assert documents or errors
    for read in (read_questions, load_dataset):
        with suppress(InputError):
            read(path)


# --- URLs -------------------------------------------------------------------------------------------------

BODIES: dict[str, tuple[int, str, bytes]] = {
    "/page": (200, "text/html; charset=iso-8859-1", b"<title>Caf\xe9</title><p>" + LONG.encode() + b"</p>"),
    "/report": (200, "application/octet-stream", pdf(["Page one.", "Page two."], title="Report")),
    "/notes.md": (200, "application/octet-stream", b"# Notes\n\ntext"),
    "/plain": (200, "text/plain", b"Plain text."),
    "/docs.jsonl": (200, "application/octet-stream", b'{"id": "a", "text": "x"}\n{"id": 1.5}\n'),
    "/picture": (200, "image/png", b"\x89PNG"),
    "/gone": (404, "text/html", b"<p>no</p>"),
    "/big": (200, "text/plain", b"x" * 20_000_001),
    "/empty": (200, "text/html", b""),
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/loop") or self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/plain" if self.path == "/moved" else self.path + "x")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status, media_type, body = BODIES[self.path]
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client hung up at its limit

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_urls(site: str) -> None:
    names = ("/page", "/report", "/notes.md", "/plain", "/moved")
    documents, errors = loaded(*(site + name for name in names))
    assert not errors
    assert [d.id for d in documents] == [site + name for name in names]
    assert [d.title for d in documents] == ["Café", "Report", "Notes", "plain", "plain"]
    assert [d.metadata["format"] for d in documents] == ["html", "pdf", "md", "txt", "txt"]
    assert documents[1].page_starts == (0, 11)


def test_jsonl_by_url(site: str) -> None:
    documents, errors = loaded(site + "/docs.jsonl")
    assert [d.id for d in documents] == ["a"]
    assert errors[0].source == site + "/docs.jsonl:2"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/gone", "404 Not Found"),
        ("/picture", "the server sent image/png"),
        ("/big", "larger than 20 MB"),
        ("/loop", "redirected more than 5 times"),
        ("/file", "not http(s)"),
        ("/empty", "empty"),
    ],
)
def test_bad_urls(site: str, path: str, expected: str) -> None:
    assert expected in reason(site + path)


def test_urls_that_are_not_asked(site: str) -> None:
    assert "only http:// and https://" in reason("ftp://127.0.0.1/a.txt")
    assert "could not be fetched" in reason("http://127.0.0.1:1/closed")
    assert "could not be fetched" in reason("http://[broken/")
    documents, errors = loaded(site + "/plain", fetch=False)
    assert not documents
    assert "switched off" in errors[0].reason


# --- split ------------------------------------------------------------------------------------------------


def test_a_short_document_is_one_passage_with_its_own_id() -> None:
    document = Document("d", "T", " Short text. ", {"lang": "en"})
    (passage,) = split(document, chunk_size=20, chunk_overlap=5)
    assert (passage.id, passage.document_id, passage.title) == ("d", "d", "T")
    assert (passage.text, passage.start, passage.metadata) == (" Short text. ", 0, {"lang": "en"})
    assert split(Document("d", "T", " \n"), chunk_size=20, chunk_overlap=5) == []


def test_overlap_begins_at_a_sentence() -> None:
    text = " ".join(f"Sentence number {n} is here." for n in range(30))
    passages = split(Document("d", "", text), chunk_size=120, chunk_overlap=40)
    assert [p.id for p in passages] == [f"d#{n}" for n in range(1, len(passages) + 1)]
    assert all(p.text.startswith("Sentence") and p.text.endswith("here.") for p in passages)
    for before, after in pairwise(passages):
        assert before.start < after.start < before.start + len(before.text)


texts = st.text(
    st.sampled_from("aab.!? \n\t。東A1#-") | st.characters(exclude_categories=["Cs"]), max_size=400
)


@settings(deadline=None)
@given(texts, st.integers(1, 60), st.data())
@example("a" * 200, 30, None)
def test_split_is_exact_and_covers_the_text(text: str, size: int, data: Any) -> None:
    overlap = data.draw(st.integers(0, size - 1)) if data else 10
    passages = split(Document("d", "", text), chunk_size=size, chunk_overlap=overlap)
    covered: set[int] = set()
    for passage in passages:
        end = passage.start + len(passage.text)
        assert text[passage.start : end] == passage.text
        assert len(passage.text) <= size
        assert passage.text.strip()
        covered.update(range(passage.start, end))
    assert all(i in covered for i, character in enumerate(text) if not character.isspace())
    starts = [passage.start for passage in passages]
    assert starts == sorted(starts)
    assert len({passage.id for passage in passages}) == len(passages)


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (10, 10), (10, -1)])
def test_sizes_that_contradict(size: int, overlap: int) -> None:
    with pytest.raises(SettingsError, match="chunk_overlap"):
        split(Document("d", "", "text"), chunk_size=size, chunk_overlap=overlap)


def test_content_hash_follows_the_content() -> None:
    document = Document("d", "T", "text", {"a": 1, "b": 2})
    assert content_hash(document) == content_hash(Document("moved", "T", "text", {"b": 2, "a": 1}))
    others = [
        Document("d", "T2", "text", {"a": 1, "b": 2}),
        Document("d", "T", "text!", {"a": 1, "b": 2}),
        Document("d", "T", "text", {"a": 1, "b": "2"}),
        Document("d", "T", "text", {"a": 1, "b": 2}, (0,)),
    ]
    assert len({content_hash(d) for d in [document, *others]}) == 5


# --- sentences --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expected",
    [
        ["One is here.", "Two is there!", "Is three?", "Four"],
        ["Dr. J. R. Smith met Mrs. Jones at 3.5 p.m. on Jan. 5, 1901.", "He left."],
        ["He moved to the U.S. in 1901.", "She stayed in the U.K.", "The U.S. Navy came."],
        ["J. R. R. Tolkien and George W. Bush never met.", "They could not."],
        ["The firm Marrow & Co. Ltd. was sold.", "It cost £3.50."],
        ["It was built by Marrow Inc. of Orsa, i.e. by her.", "See vol. 3, no. 4, pp. 5–6."],
        ["It belonged to Marrow Inc.", "The town bought it."],
        ['"Is it true?" he asked.', '"It is."', "She nodded."],
        ["He said: “It is true.”", "She nodded."],
        ['Elwyn Brooks "E. B." White wrote it.', "He won."],
        ["He waited ... and left.", "Then...", "Nothing."],
        ["# The Orsa light", "It was built.", "- one item", "- another item"],
        ["A heading without a stop", "A paragraph that\nwraps over lines."],
        ["北京是首都。", "他说：“你好。”", "然后走了！", "是吗？"],
        ["彼は「そうだ。」と言った。", "それで終わり。"],
        ["Version 2.0.1 of example.com/a.b was used (see Fig. 3).", "It ran."],
    ],
)
def test_sentences(expected: list[str]) -> None:
    joiner = "" if expected[0][0] > "\u2fff" else " "
    text = joiner.join(expected)
    if expected[0].startswith(("#", "A heading")):
        text = "\n".join(expected).replace("stop\n", "stop\n\n")
    assert [text[s.start : s.end] for s in sentences(text)] == expected


def test_blank_text_has_no_sentences() -> None:
    assert sentences("") == []
    assert sentences(" \n\n ") == []


@settings(deadline=None)
@given(texts | st.text(st.sampled_from('Mr. J?!…。」"() \n\n#-a1A.'), max_size=200))
def test_sentences_hold_all_text_in_order(text: str) -> None:
    spans = sentences(text)
    end = 0
    for span in spans:
        assert end <= span.start < span.end
        assert not text[end : span.start].strip()
        assert text[span.start : span.end] == text[span.start : span.end].strip()
        end = span.end
    assert not text[end:].strip()


# --- questions and data sets ------------------------------------------------------------------------------


def test_read_questions(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "questions.jsonl",
        [
            {
                "id": "q1",
                "question": "Who?",
                "answers": ["I", "me", "I"],
                "evidence": ["d1"],
                "metadata": {"type": "b"},
            },
            {"id": 2, "question": "When?", "answer": 1871, "hops": 2},
            {"id": "q3", "question": "Why?", "answers": None},
        ],
    )
    first, second, third = read_questions(path)
    assert (first.id, first.question, first.answers, first.evidence) == ("q1", "Who?", ("I", "me"), ("d1",))
    assert first.metadata == {"type": "b"}
    assert (second.id, second.answers, second.metadata) == ("2", ("1871",), {"hops": 2})
    assert third.answers == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"id": "x", "question": "y"', ":2: not valid JSON"),
        ('{"question": "y"}', ':2: has no "id"'),
        ('{"id": "x"}', ':2: has no "question"'),
        ('{"id": "x", "question": " "}', ':2: has no "question"'),
        ('{"id": "q1", "question": "y"}', ":2: the id 'q1' is already used at "),
        ('{"id": "x", "question": "y", "answers": [[]]}', ':2: "answers" is not a list of strings'),
        ('{"id": "x", "question": "y", "evidence": {}}', ':2: "evidence" is not a list of strings'),
        ('{"id": "x", "question": "y", "metadata": 3}', ':2: "metadata" is not an object'),
        ("3", ":2: not a JSON object"),
    ],
)
def test_malformed_questions(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"id": "q1", "question": "Who?"}\n' + line + "\n")
    with pytest.raises(InputError) as caught:
        read_questions(path)
    assert str(caught.value).startswith(str(path) + expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("[]", "an empty list"),
        ("[1]", "record 1: not a JSON object"),
        ('[{"id": "x"},\n}]', "q.json:2: not valid JSON"),
        ('{\n"id": "x"\n}', "one JSON object over several lines"),
        ('{"title": "t", "text": "x"}', "holds documents, not questions"),
    ],
)
def test_files_without_questions(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "q.json").write_text(text)
    with pytest.raises(InputError, match=r"q\.json") as caught:
        read_questions(tmp_path / "q.json")
    assert expected in str(caught.value)


def test_missing_questions_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_questions(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read_questions(tmp_path)


def hotpotqa(identifier: str, context: list[Any], facts: list[Any], **extra: Any) -> dict[str, Any]:
    record = {"_id": identifier, "question": "Who?", "answer": "Ilse", "type": "bridge", "level": "hard"}
    return {**record, "context": context, "supporting_facts": facts, **extra}


def data_set(path: Path, records: list[Any]) -> Dataset:
    path.write_text(json.dumps(records), encoding="utf-8")
    data = load_dataset(path)
    assert read_questions(path) == list(data.questions)
    documents, errors = loaded(path)
    assert (tuple(documents), errors) == (data.documents, [])
    return data


def test_hotpotqa(tmp_path: Path) -> None:
    orsa = ["Orsa", ["Orsa is a port.", " It has a light.", " "]]
    data = data_set(
        tmp_path / "any-name.json",
        [
            hotpotqa("h1", [orsa, ["Ilse", ["Ilse built it."]]], [["Ilse", 0], ["Orsa", 1], ["Ilse", 2]]),
            hotpotqa("h2", [orsa, ["Ilse", ["Another Ilse."]], ["Void", []]], [["Ilse", 0], ["Nowhere", 1]]),
        ],
    )
    assert data.name == "hotpotqa"
    assert [(d.id, d.title, d.text) for d in data.documents] == [
        ("Orsa", "Orsa", "Orsa is a port. It has a light."),
        ("Ilse", "Ilse", "Ilse built it."),
        ("Ilse (2)", "Ilse", "Another Ilse."),
    ]
    first, second = data.questions
    assert (first.id, first.question, first.answers, first.evidence) == (
        "h1",
        "Who?",
        ("Ilse",),
        ("Ilse", "Orsa"),
    )
    assert first.metadata == {
        "dataset": "hotpotqa",
        "type": "bridge",
        "level": "hard",
        "supporting_facts": [["Ilse", 0], ["Orsa", 1], ["Ilse", 2]],
    }
    assert second.evidence == ("Ilse (2)",)


def test_evidence_from_the_context_of_another_question(tmp_path: Path) -> None:
    data = data_set(
        tmp_path / "h.json",
        [
            hotpotqa("h1", [["A", ["About A."]]], [["A", 0], ["B", 0]]),
            hotpotqa("h2", [["B", ["About B."]]], [["B", 0]]),
        ],
    )
    assert [q.evidence for q in data.questions] == [("A", "B"), ("B",)]


def test_2wikimultihopqa(tmp_path: Path) -> None:
    triples = [["Orsa", "builder", "Ilse"]]
    data = data_set(
        tmp_path / "w.json",
        [
            hotpotqa(
                "w1",
                [["Orsa", ["Orsa is a port.", "It has a light."]]],
                [["Orsa", 0]],
                evidences=triples,
                type="inference",
            )
        ],
    )
    assert data.name == "2wikimultihopqa"
    assert data.documents[0].text == "Orsa is a port. It has a light."
    assert data.questions[0].metadata["triples"] == triples
    assert data.questions[0].metadata["type"] == "inference"


def test_a_test_set_without_answers(tmp_path: Path) -> None:
    record = {"_id": "h1", "question": "Who?", "context": [["A", ["About A."]]]}
    (question,) = data_set(tmp_path / "h.json", [record]).questions
    assert (question.answers, question.evidence) == ((), ())


def test_musique(tmp_path: Path) -> None:
    def paragraph(number: int, title: str, text: str, supporting: bool) -> dict[str, Any]:
        return {"idx": number, "title": title, "paragraph_text": text, "is_supporting": supporting}

    steps = [
        {"id": 1, "question": "Orsa >> builder", "answer": "Ilse", "paragraph_support_idx": 2},
        {"id": 2, "question": "When was #1 born?", "answer": "1840", "paragraph_support_idx": 0},
    ]
    record = {
        "id": "2hop__1_2",
        "question": "When was the builder born?",
        "answer": "1840",
        "answer_aliases": ["in 1840", "1840"],
        "answerable": True,
        "question_decomposition": steps,
        "paragraphs": [
            paragraph(0, "Ilse", "Born in 1840.", True),
            paragraph(1, "Orsa", "A port.", False),
            paragraph(2, "Orsa", "Built by Ilse.", True),
        ],
    }
    contrast = {**record, "answerable": False, "paragraphs": record["paragraphs"][:2]}  # type: ignore[index]
    path = jsonl(tmp_path / "m.jsonl", [record, contrast])
    data = load_dataset(path)
    assert data.name == "musique"
    assert [d.id for d in data.documents] == ["Ilse", "Orsa", "Orsa (2)"]
    first, second = data.questions
    assert (first.id, first.answers, first.evidence) == (
        "2hop__1_2",
        ("1840", "in 1840"),
        ("Orsa (2)", "Ilse"),
    )
    assert first.metadata == {
        "dataset": "musique",
        "answerable": True,
        "decomposition": steps,
        "type": "2hop",
    }
    assert (second.id, second.answers, second.evidence) == ("2hop__1_2 (2)", (), ("Ilse",))
    assert tuple(loaded(path)[0]) == data.documents
    assert read_questions(path) == list(data.questions)


def test_a_corpus_of_titles_has_the_ids_of_its_set(tmp_path: Path) -> None:
    records = [{"title": "A", "text": "One."}, {"title": "A", "text": "Two."}, {"title": "A", "text": "One."}]
    data = load_dataset(jsonl(tmp_path / "c.jsonl", records))
    assert [(d.id, d.text) for d in data.documents] == [("A", "One."), ("A (2)", "Two.")]
    assert data.questions == ()


@pytest.mark.parametrize(
    "record",
    [
        {"_id": "x", "question": "y", "answer": "z", "context": [["A", "text"]], "supporting_facts": []},
        {"_id": "x", "question": "y", "answer": "z", "context": {"title": []}, "supporting_facts": []},
        {"_id": "x", "question": "y", "answer": "z", "context": [], "supporting_facts": [3]},
        {"_id": "x", "question": "y", "answer": None, "context": []},
        {"id": "x", "question": "y", "answer": "z", "paragraphs": [3]},
        {"id": "x", "question": "y", "answer": "z", "paragraphs": None},
    ],
)
def test_malformed_data_sets(tmp_path: Path, record: dict[str, Any]) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps([record]))
    with pytest.raises(InputError, match=r"d\.json: record 1: "):
        load_dataset(path)
    assert "record 1" in loaded(path)[1][0].reason


def test_own_data_set(tmp_path: Path) -> None:
    jsonl(tmp_path / "documents.jsonl", [{"id": "d1", "title": "T", "text": "Text."}])
    path = jsonl(tmp_path / "questions.jsonl", [{"id": "q1", "question": "Who?", "evidence": ["d1"]}])
    data = load_dataset(path)
    assert (data.name, len(data.documents), len(data.questions)) == (tmp_path.name, 1, 1)
    assert load_dataset(tmp_path) == data
    (tmp_path / "documents.jsonl").write_text("broken")
    with pytest.raises(InputError, match=r"documents\.jsonl:1: not valid JSON"):
        load_dataset(path)
    (tmp_path / "documents.jsonl").unlink()
    with pytest.raises(InputError, match=r"documents\.jsonl: missing"):
        load_dataset(path)
