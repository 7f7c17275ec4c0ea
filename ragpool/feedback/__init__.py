"""The feedback model: is the evidence, taken as a set, enough to answer, and what is missing?

To add a judge, write a class with ``name`` and ``judge`` (the ``Judge`` protocol); nothing else is needed.
"""

from ragpool.feedback.base import Judge
from ragpool.feedback.gaps import open_gaps
from ragpool.feedback.load import load_judge
from ragpool.feedback.prompted import PromptedJudge
from ragpool.feedback.rules import RulesJudge
from ragpool.feedback.trained import TrainedJudge

__all__ = ["Judge", "PromptedJudge", "RulesJudge", "TrainedJudge", "load_judge", "open_gaps"]
