"""How much models lose that come from another site, as arXiv 2306.06503 counts it and as we do.

The drop at a site is the AUROC of models trained there less the AUROC of models trained elsewhere,
both scored there, and its mean over sites of training and findings: the cells. The paper takes the
first, of private models too, from the models *without* privacy. So it adds what privacy costs at
home to what the journey costs. From the private models' own AUROC at home the drop is smaller,
since private models are worse at home. Both stand here side by side. The paper's test is a paired t
over the cells; they share patients and models, so they are not independent, and its p says less
than it seems to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SiteDrop:
    """The mean drop at one site, of models from all others; nan where nothing is known.

    private_paper: of private models, from those without privacy at home; private_own: from the
    private models at home; free: of models without privacy. p_cells: the paper's paired t, private
    against free over the `n_cells`.
    """

    site: str
    n_cells: int
    private_paper: float
    private_own: float
    free: float
    p_cells: float


def site_drops(
    sites: Sequence[str], private: Array, free: Array, on_site: Array | None = None
) -> list[SiteDrop]:
    """The drops at each of K sites.

    Args:
        sites: K names.
        private: (T, K, K) AUROCs of T findings, by the site of training, then that of scoring; nan
            where one is not known.
        free: the same without privacy.
        on_site: (K,) mean AUROCs of private models at home, where `private` lacks them.
    """
    home = np.array([_mean(private[:, k, k]) for k in range(len(sites))])
    if on_site is not None:
        home = np.where(np.isnan(home), on_site, home)
    return [
        _site_drop(site, private[:, :, k], free[:, :, k], k, float(home[k]))
        for k, site in enumerate(sites)
    ]


def _site_drop(site: str, private: Array, free: Array, k: int, home: float) -> SiteDrop:
    """The drop at site `k`, from AUROCs there, (T, K) by finding and site of training."""
    elsewhere = np.arange(private.shape[1]) != k
    ours, theirs = private[:, elsewhere], free[:, elsewhere]
    at_home = np.broadcast_to(free[:, k : k + 1], ours.shape)
    known = ~np.isnan(ours + theirs + at_home)
    ours, theirs, at_home = ours[known], theirs[known], at_home[known]
    return SiteDrop(
        site=site,
        n_cells=int(known.sum()),
        private_paper=_mean(at_home - ours),
        private_own=home - _mean(ours),
        free=_mean(at_home - theirs),
        p_cells=paired_t(ours, theirs),
    )


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size and not np.isnan(values).any() else math.nan


def paired_t(first: Array, second: Array) -> float:
    """Student's two-sided test that two lists of as many figures have one mean; nan below two."""
    from scipy.stats import t as student  # noqa: PLC0415 (tables are read without it)

    difference = first - second
    if difference.size < 2 or np.ptp(difference) < 1e-12:
        return math.nan
    error = difference.std(ddof=1) / math.sqrt(difference.size)
    return float(2 * student.sf(abs(difference.mean()) / error, difference.size - 1))
