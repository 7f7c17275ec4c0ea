"""Methods side by side on one index, one model and one context budget, against gold answers and gold evidence.

``evaluate`` runs them, ``summarise`` sums up what came out, ``report`` and ``markdown`` show it. Runs are kept in
pools like any others, so an evaluation that was interrupted goes on where it was.
"""

from ragpool.evaluate.harness import Evaluation, Outcome, evaluate
from ragpool.evaluate.methods import METHODS
from ragpool.evaluate.summary import Figures, summarise

__all__ = ["METHODS", "Evaluation", "Figures", "Outcome", "evaluate", "summarise"]
