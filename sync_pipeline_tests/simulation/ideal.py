"""The least that our rule could lose if only whose rhythm is whose had to be learned: a learner as good as any can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sync_pipeline.polling.evidence import cumulative, exposure
from sync_pipeline_tests.simulation.run import Adaptive, Setting
from sync_pipeline_tests.simulation.worlds import MONDAY, Floats, World


class IdealLearner(Adaptive):
    """Told every rate and every rhythm that there is, but not which source has which: for each source that is learned from its
    polls by Bayes' rule, with the likelihood of this world itself, and the mean rhythm is believed."""

    def __init__(self, world: World, setting: Setting) -> None:
        super().__init__(world, setting, known=True)
        self.shapes = np.unique(world.profiles, axis=0)
        self._rhythms = cumulative(self.shapes)
        self._log = np.zeros((world.n, self.shapes.shape[0]))
        self._summed = self.belief @ self._rhythms

    @property
    def belief(self) -> Floats:
        """n x the number of `shapes`: how likely each source has each of them."""
        likely = np.exp(self._log - self._log.max(axis=1, keepdims=True))
        return np.asarray(likely / likely.sum(axis=1, keepdims=True), dtype=np.float64)

    def saw(self, rows: NDArray[np.int64], at: Floats, found: NDArray[np.int64], hints: NDArray[np.int64]) -> None:
        when, since, never = at + MONDAY, self._last[rows], self._never[rows]
        rates = self._world.rates[rows]
        super().saw(rows, at, found, hints)
        for place, rhythm in enumerate(self._rhythms):
            seconds = exposure(np.broadcast_to(rhythm, (rows.shape[0], rhythm.shape[0])), since, when)
            expected = np.maximum(rates * seconds, 1e-12)
            if self._set.sight == "count":
                told = found * np.log(expected) - expected
            else:
                told = np.where(found > 0, np.log(-np.expm1(-expected)), -expected)
            self._log[rows, place] += np.where(never, 0.0, told)
        self._summed = self.belief @ self._rhythms
