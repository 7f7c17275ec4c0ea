"""Methods side by side on one index, one model and one context budget, against gold answers and gold evidence.

``evaluate`` runs them, ``Figures`` sum up what came out. Runs are kept in pools like any others, so an evaluation
that was interrupted goes on where it was.
"""

from ragpool.evaluate.harness import METHODS, Evaluation, Outcome, evaluate
from ragpool.evaluate.summary import Figures, summarise

__all__ = ["METHODS", "Evaluation", "Figures", "Outcome", "evaluate", "summarise"]
