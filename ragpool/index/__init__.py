"""Passages on disk: SQL (the truth), and Chroma and BM25 derived from it. See ``Index``."""

from ragpool.index.core import Index
from ragpool.index.store import AddReport, DocumentInfo, Manifest

__all__ = ["AddReport", "DocumentInfo", "Index", "Manifest"]
