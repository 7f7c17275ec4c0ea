"""Documents in: files, folders, URLs and data sets -> Document -> Passage, and the sentences of a text."""

from ragpool.corpus.datasets import Dataset, QuestionRecord, load_dataset, read_questions
from ragpool.corpus.load import load
from ragpool.corpus.sentences import sentences
from ragpool.corpus.split import content_hash, split
from ragpool.corpus.web import fetch

__all__ = [
    "Dataset",
    "QuestionRecord",
    "content_hash",
    "fetch",
    "load",
    "load_dataset",
    "read_questions",
    "sentences",
    "split",
]
