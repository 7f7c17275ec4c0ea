"""The evidence pool: what a run asked, found, judged and answered, committed step by step.

The pool is the checkpoint. A run that is killed goes on from its last committed round; nothing that was
committed is paid for or written twice. Rows are only ever added: a later row about the same passage
supersedes an earlier one.
"""

from ragpool.pool.codec import answer_json
from ragpool.pool.normal import normalise_query, question_key
from ragpool.pool.run import Pool
from ragpool.pool.store import PoolStore, RunInfo

__all__ = ["Pool", "PoolStore", "RunInfo", "answer_json", "normalise_query", "question_key"]
