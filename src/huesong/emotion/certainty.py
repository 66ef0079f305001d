"""How sure a model's reading of a picture is: the range that people's mean rating lies in, in numbers and in words.

The kernel ridge is the mean of a Gaussian process, whose variance grows with a picture's distance from all rated ones
(Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, eq. 2.26). How much error such a variance means is
learnt from pictures whose whole themes were left out: those are as new to the head as a user's photo is.

Shapes: N pictures, K rated pictures that a head keeps, C channels; va [N, 2] is valence, arousal.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from huesong.runtime.errors import UserError

FORMAT = 1
WITHIN = NormalDist().inv_cdf(0.9)
"""Standard deviations to each side that hold 80 % of a normal distribution."""
SURE, FAIRLY = 0.9, 0.7
"""From these probabilities on that the sign is the one that was read; below, the reading is unsure."""
LEAST, MOST = np.log(0.02), np.log(1.0)
"""Bounds of the logarithm of a standard deviation on [-1, 1]."""


@dataclass(frozen=True)
class Sureness:
    """Of one axis: the middle and the ends of the range that holds 80 % of such pictures' mean ratings, and a word."""

    middle: float
    low: float
    high: float
    word: str


class Distance:
    """The variance of the Gaussian process behind a kernel ridge, as a share of what it is far from all that is known."""

    def __init__(self, known_KC: np.ndarray, penalty: float) -> None:
        self.known_KC = np.asarray(known_KC, dtype=np.float64)
        gram_KK = gaussian(self.known_KC, self.known_KC)
        self._inverse_KK = np.linalg.inv(gram_KK + penalty * np.eye(len(gram_KK)))  # at least `penalty` everywhere

    def variance(self, u_NC: np.ndarray) -> np.ndarray:
        """[N] in [0, 1], of standardised features."""
        near_NK = gaussian(np.asarray(u_NC, dtype=np.float64), self.known_KC)
        explained_N = ((near_NK @ self._inverse_KK) * near_NK).sum(axis=1)
        return np.clip(1.0 - explained_N, 0.0, 1.0)


def gaussian(u_NC: np.ndarray, v_KC: np.ndarray) -> np.ndarray:
    """exp(-|u - v|^2 / C) [N, K]."""
    apart_NK = (u_NC**2).sum(1)[:, None] + (v_KC**2).sum(1) - 2 * u_NC @ v_KC.T
    found_NK: np.ndarray = np.exp(-np.maximum(apart_NK, 0) / u_NC.shape[1])
    return found_NK


@dataclass(frozen=True)
class Certainty:
    """For each axis, people's mean rating = intercept + slope * reading, give or take exp(level + rise * variance).

    pictures: how many it was learnt from; themes: in how many groups.
    """

    intercept: tuple[float, float]
    slope: tuple[float, float]
    level: tuple[float, float]
    rise: tuple[float, float]
    pictures: int
    themes: int

    @classmethod
    def fit(cls, read_N2: np.ndarray, variance_N: np.ndarray, va_N2: np.ndarray, themes: int) -> Certainty:
        """Fit to readings of pictures that the head did not know, their variances and people's ratings."""
        fitted = [_axis(read_N2[:, axis], variance_N, va_N2[:, axis]) for axis in range(2)]
        intercept, slope, level, rise = zip(*fitted, strict=True)
        return cls(intercept, slope, level, rise, len(va_N2), themes)

    def middles(self, read_N2: np.ndarray) -> np.ndarray:
        """The ratings to expect [N, 2]."""
        found: np.ndarray = np.asarray(self.intercept) + np.asarray(self.slope) * read_N2
        return found

    def sds(self, variance_N: np.ndarray) -> np.ndarray:
        """Standard deviations of the ratings around `middles` [N, 2]."""
        logs_N2 = np.asarray(self.level) + np.asarray(self.rise) * variance_N[:, None]
        found: np.ndarray = np.exp(np.clip(logs_N2, LEAST, MOST))
        return found

    def of(self, read_2: np.ndarray, variance: float) -> tuple[Sureness, Sureness]:
        """How sure the reading of one picture is, in valence and in arousal."""
        middles, sds = self.middles(np.asarray(read_2)[None])[0], self.sds(np.array([variance]))[0]
        valence, arousal = (_sureness(float(middle), float(sd)) for middle, sd in zip(middles, sds, strict=True))
        return valence, arousal

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Certainty:
        """Read a file of `save`.

        Raises:
            UserError: damaged, or of another format.
        """
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            pairs = {name: tuple(map(float, raw[name])) for name in ("intercept", "slope", "level", "rise")}
            numbers = np.array([*pairs.values()])
            if raw["format"] != FORMAT or numbers.shape != (4, 2) or not (np.abs(numbers) < 100).all():
                raise ValueError("its numbers")
            return cls(**pairs, pictures=int(raw["pictures"]), themes=int(raw["themes"]))  # type: ignore[arg-type]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}): run `huesong pictures fit` for this model") from error


def _sureness(middle: float, sd: float) -> Sureness:
    right = NormalDist().cdf(abs(middle) / sd)
    word = "sure" if right >= SURE else "fairly sure" if right >= FAIRLY else "unsure"
    low, high = max(middle - WITHIN * sd, -1.0), min(middle + WITHIN * sd, 1.0)
    # Rounded: the last bits of a solved system depend on the number of cores, and the same piece is to have the same record.
    middle, low, high = (round(float(value), 6) for value in (np.clip(middle, -1.0, 1.0), low, high))
    return Sureness(middle, low, high, word)


def _axis(read_N: np.ndarray, variance_N: np.ndarray, rated_N: np.ndarray) -> tuple[float, float, float, float]:
    """Intercept and slope by least squares; level and rise >= 0 by maximum likelihood of normal errors."""
    from scipy.optimize import minimize  # here: composing fits nothing

    spread = read_N.var()
    slope = float(np.cov(read_N, rated_N, bias=True)[0, 1] / spread) if spread > 1e-9 else 0.0
    intercept = float(rated_N.mean() - slope * read_N.mean())
    squared_N = (rated_N - intercept - slope * read_N) ** 2

    def loss(params: np.ndarray) -> float:
        logs_N = np.clip(params[0] + params[1] * variance_N, LEAST, MOST)
        return float(np.mean(logs_N + squared_N * np.exp(-2 * logs_N) / 2))

    start = [float(np.clip(0.5 * np.log(max(squared_N.mean(), 1e-9)), LEAST, MOST)), 0.0]
    level, rise = minimize(loss, start, method="L-BFGS-B", bounds=[(-10, 10), (0, 10)]).x
    return intercept, slope, float(level), float(rise)
