"""How often public tables of radiographs have each finding, alone and together.

The rates are rounded from the label table of NIH ChestX-ray14 (Wang et al., CVPR 2017; 112,120
images of 30,805 patients, no restrictions on use; credit: NIH Clinical Center).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from synthdp.data.phantoms.chest.names import FINDINGS

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """How often images show a finding.

    Attributes:
        share: of all images.
        ap, male, decade: what an AP view, a man, and ten years more add to its log-odds.
    """

    share: float
    ap: float
    male: float
    decade: float


RATES = {
    "atelectasis": Rate(0.103, 0.42, 0.13, 0.14),
    "cardiomegaly": Rate(0.025, 0.15, -0.38, 0.05),
    "consolidation": Rate(0.042, 1.1, 0.02, -0.01),
    "edema": Rate(0.021, 2.4, -0.17, -0.05),
    "effusion": Rate(0.119, 0.43, -0.03, 0.1),
    "emphysema": Rate(0.022, 0.02, 0.31, 0.1),
    "fibrosis": Rate(0.015, -1.2, 0.0, 0.23),
    "hernia": Rate(0.002, -1.3, -0.57, 0.6),
    "infiltration": Rate(0.177, 0.53, 0.04, -0.03),
    "mass": Rate(0.052, -0.07, 0.18, 0.06),
    "nodule": Rate(0.056, -0.26, 0.08, 0.09),
    "pleural_thickening": Rate(0.03, -0.52, 0.16, 0.14),
    "pneumonia": Rate(0.013, 0.65, 0.0, -0.05),
    "pneumothorax": Rate(0.047, -0.18, -0.21, -0.01),
}
#: The images that the rates are of: their share of AP views and of men, and their mean age.
MEAN_AP, MEAN_MALE, MEAN_AGE_YEARS = 0.4, 0.565, 47.0
#: Findings that come together: correlations of the normal variables that decide on each.
TOGETHER = {
    ("atelectasis", "effusion"): 0.4,
    ("cardiomegaly", "effusion"): 0.4,
    ("consolidation", "effusion"): 0.27,
    ("infiltration", "effusion"): 0.2,
    ("edema", "effusion"): 0.2,
    ("atelectasis", "consolidation"): 0.27,
    ("atelectasis", "infiltration"): 0.15,
    ("edema", "pneumonia"): 0.5,
    ("edema", "infiltration"): 0.25,
    ("infiltration", "pneumonia"): 0.25,
    ("emphysema", "pneumothorax"): 0.45,
    ("mass", "nodule"): 0.25,
    ("consolidation", "mass"): 0.18,
    ("pleural_thickening", "effusion"): 0.17,
    ("pleural_thickening", "mass"): 0.17,
    ("fibrosis", "pleural_thickening"): 0.17,
}
#: How much of such a variable all images of a patient share.
SHARED_BY_A_PATIENT = 0.55


def log_odds(*, is_ap: bool, is_male: float, age_years: float) -> Array:
    """(14,) log-odds of each finding in an image; `is_male` is .5 where the sex is unknown."""
    rates = [RATES[name] for name in FINDINGS]
    odds = logit(np.array([rate.share for rate in rates]))
    odds += (is_ap - MEAN_AP) * np.array([rate.ap for rate in rates])
    odds += (is_male - MEAN_MALE) * np.array([rate.male for rate in rates])
    decades = (age_years - MEAN_AGE_YEARS) / 10
    odds += decades * np.array([rate.decade for rate in rates])
    return np.asarray(odds)


@lru_cache(maxsize=1)
def _mixing() -> Array:
    """(14, 14) matrix that gives independent normal variables the correlations `TOGETHER`."""
    correlations = np.eye(len(FINDINGS))
    for (one, other), value in TOGETHER.items():
        row, column = FINDINGS.index(one), FINDINGS.index(other)
        correlations[row, column] = correlations[column, row] = value
    return np.asarray(np.linalg.cholesky(correlations), dtype=np.float64)


def draw_findings(odds: Array, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which findings the images of one patient have, (n, 14), of their log-odds (n, 14)."""
    shared = rng.standard_normal(len(FINDINGS))
    own = rng.standard_normal(odds.shape)
    mixed = np.sqrt(SHARED_BY_A_PATIENT) * shared + np.sqrt(1 - SHARED_BY_A_PATIENT) * own
    return np.asarray(mixed @ _mixing().T > -ndtri(expit(odds)))
