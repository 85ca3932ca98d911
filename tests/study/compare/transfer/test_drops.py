import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

from synthdp.study.compare.transfer.drops import paired_t, site_drops
from synthdp.study.report.sections.published import read_published
from synthdp.study.report.sections.published_matrices import PublishedMatrices, published_drops

#: What arXiv 2306.06503 has for its sites: drop with privacy and without, p of the paired test.
PAPER = {
    "VDR": (0.065, 0.066, 0.956),
    "C14": (0.066, 0.055, 0.120),
    "CPT": (0.080, 0.072, 0.138),
    "UKA": (0.178, 0.182, 0.674),
    "PCH": (0.077, 0.071, 0.272),
}


def test_the_papers_table_is_recomputed_from_its_matrices() -> None:
    about = read_published(Path("study/published-transfer"))
    assert isinstance(about, PublishedMatrices)
    found = published_drops(about)
    assert list(found) == [1.0]
    for drop in found[1.0]:
        private, free, p = PAPER[drop.site]
        assert drop.n_cells == 20
        assert (drop.private_paper, drop.free) == pytest.approx((private, free), abs=1e-3)
        assert drop.p_cells == pytest.approx(p, abs=1e-3)
        # at home private models are worse, so that from their own AUROC there they lose less
        assert drop.private_own < drop.private_paper - 0.02


def test_drops_are_means_over_findings_and_other_sites() -> None:
    rng = np.random.default_rng(0)
    private, free = rng.random((2, 3, 4, 4))
    one = site_drops(["a", "b", "c", "d"], private, free)[2]
    others = [0, 1, 3]
    cells = [(finding, site) for finding in range(3) for site in others]
    assert one.site == "c"
    assert one.n_cells == 9
    assert one.private_paper == pytest.approx(
        np.mean([free[t, 2, 2] - private[t, k, 2] for t, k in cells])
    )
    assert one.private_own == pytest.approx(
        np.mean([private[t, 2, 2] - private[t, k, 2] for t, k in cells])
    )
    assert one.free == pytest.approx(np.mean([free[t, 2, 2] - free[t, k, 2] for t, k in cells]))
    expected = ttest_rel(private[:, others, 2].ravel(), free[:, others, 2].ravel()).pvalue
    assert one.p_cells == pytest.approx(expected)


def test_what_is_not_known_is_left_out_or_not_a_number() -> None:
    private, free = np.full((2, 1, 2, 2), 0.7)
    private[0, 0, 0] = math.nan
    lost, whole = site_drops(["a", "b"], private, free)
    assert math.isnan(lost.private_own)
    assert (lost.private_paper, whole.private_own) == (0, 0)
    given, _ = site_drops(["a", "b"], private, free, np.array([0.9, math.nan]))
    assert given.private_own == pytest.approx(0.2)
    free[:] = math.nan
    assert all(
        drop.n_cells == 0 and math.isnan(drop.free) for drop in site_drops("ab", private, free)
    )


def test_equal_or_single_cells_are_not_tested() -> None:
    assert math.isnan(paired_t(np.array([0.7]), np.array([0.6])))
    assert math.isnan(paired_t(np.array([0.7, 0.6]), np.array([0.7, 0.6])))
