"""The embedder as LangChain Embeddings."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings

from ragpool.models.embedder import Embedder


class LocalEmbeddings(Embeddings):
    """LangChain's view of an Embedder; async calls run in a thread."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text, as plain floats."""
        vectors: list[list[float]] = self.embedder.embed(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text, as plain floats."""
        vector: list[float] = self.embedder.embed_query(text).tolist()
        return vector
