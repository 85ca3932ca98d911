"""Who is drawn: patients of a table, or made-up ones of public rates, with site, split and labels.

A patient depends on the seed, on the place among all patients, and on nothing else: neither on how
many are drawn nor on who draws them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthdp.data.phantoms.chest.names import FINDINGS, NO_FINDING
from synthdp.data.phantoms.chest.rates import (
    MEAN_AGE_YEARS,
    MEAN_AP,
    MEAN_MALE,
    draw_findings,
    log_odds,
)
from synthdp.data.phantoms.chest.settings import LabelPolicy, SiteSettings
from synthdp.data.phantoms.chest.table import TableImage, TablePatient

#: What the streams of chance of one patient are for.
PLAN, DRAW = 1, 2
#: As in NIH's table: patients of one image, then 2 and more of a lognormal, at most so many.
SINGLE_SHARE, MORE_LOG_MEAN, MORE_LOG_SD, MOST_IMAGES = 0.568, 0.7, 1.45, 184
#: Ages in years, as in NIH's table.
AGE_SD_YEARS, YOUNGEST_YEARS, OLDEST_YEARS = 17.0, 1.0, 94.0
#: How much of what makes a view AP all images of a patient share, of a normal variable.
SHARED_VIEW = 0.7


@dataclass(frozen=True)
class PlannedImage:
    """What an image shows, and what it is labelled with.

    view: PA or AP. age_years: nan unknown. has: (14,) what is drawn. targets: as they are asked
    for, 1, 0 or nan.
    """

    view: str
    age_years: float
    has: NDArray[np.bool_]
    targets: tuple[float, ...]


@dataclass(frozen=True)
class PlannedPatient:
    """A patient before a pixel is drawn; number: from 1, among all of the table or the seed."""

    number: int
    sex: str
    site: SiteSettings
    split: str
    images: tuple[PlannedImage, ...]


@dataclass(frozen=True)
class Plan:
    """What all patients of a set share.

    sites: at least one. targets: names of `FINDINGS`, or `no_finding`. val, test: shares.
    """

    seed: int
    sites: tuple[SiteSettings, ...]
    targets: tuple[str, ...]
    val: float
    test: float

    def stream(self, number: int, purpose: int) -> np.random.Generator:
        """All chance of one patient for one purpose."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(purpose, number)))

    def patient(self, known: TablePatient | int) -> PlannedPatient:
        """Plan a patient of a table, or the made-up one of a number from 1."""
        number = known if isinstance(known, int) else known.number
        rng = self.stream(number, PLAN)
        along, at_site = rng.random(2)
        split = "val" if along < self.val else "test" if along < self.val + self.test else "train"
        site = _site_at(self.sites, at_site)
        if isinstance(known, int):
            known = _made_up(number, site, rng)
        elif known.site:
            site = next(one for one in self.sites if one.name == known.site)
        images = tuple(self._image(image, known, site, rng) for image in known.images)
        return PlannedPatient(number, known.sex, site, known.split or split, images)

    def _image(
        self,
        image: TableImage,
        patient: TablePatient,
        site: SiteSettings,
        rng: np.random.Generator,
    ) -> PlannedImage:
        labels = np.array(image.findings)
        unknown = np.isnan(labels)
        has = labels == 1
        if unknown.any():  # what is not known is drawn as often as it is usual
            age = MEAN_AGE_YEARS if math.isnan(image.age_years) else image.age_years
            male = {"M": 1.0, "F": 0.0}.get(patient.sex, 0.5)
            odds = log_odds(is_ap=image.view == "AP", is_male=male, age_years=age)
            has = np.where(unknown, draw_findings(odds[None], rng)[0], has)
        labels = _labelled(labels, site.labels, rng)
        of = dict(zip(FINDINGS, labels.tolist(), strict=True))
        of[NO_FINDING] = math.nan if np.isnan(labels).any() else float(not labels.any())
        if (labels == 1).any():
            of[NO_FINDING] = 0.0
        targets = tuple(of[name] for name in self.targets)
        return PlannedImage(image.view, image.age_years, has, targets)


def _site_at(sites: Sequence[SiteSettings], share: float) -> SiteSettings:
    """The site at a share in [0, 1) of all, in the order of the sites."""
    shares = np.cumsum([site.share for site in sites])
    return sites[int(np.searchsorted(shares / shares[-1], share, side="right"))]


def _made_up(number: int, site: SiteSettings, rng: np.random.Generator) -> TablePatient:
    """A patient of public rates, as a site has them."""
    count = 1
    if rng.random() >= SINGLE_SHARE:
        count = 2 + int(min(np.exp(rng.normal(MORE_LOG_MEAN, MORE_LOG_SD)), MOST_IMAGES - 2))
    sex = "M" if rng.random() < MEAN_MALE else "F"
    age = rng.normal(MEAN_AGE_YEARS + site.older_years, AGE_SD_YEARS)
    age = float(np.floor(np.clip(age, YOUNGEST_YEARS, OLDEST_YEARS)))
    ap_share = MEAN_AP if site.ap_share is None else site.ap_share
    # two normal variables whose sum decides, so that a patient's views are mostly of one kind
    lying = np.sqrt(SHARED_VIEW) * rng.standard_normal()
    lying = lying + np.sqrt(1 - SHARED_VIEW) * rng.standard_normal(count)
    is_ap = lying > -_quantile(ap_share)
    odds = np.stack(
        [log_odds(is_ap=bool(one), is_male=float(sex == "M"), age_years=age) for one in is_ap]
    )
    for finding, factor in site.odds.items():
        odds[:, FINDINGS.index(finding)] += math.log(factor)
    has = draw_findings(odds, rng)
    images = [
        TableImage("AP" if lies else "PA", age, tuple(map(float, row)))
        for lies, row in zip(is_ap, has, strict=True)
    ]
    return TablePatient(number, sex, site.name, "", tuple(images))


def _quantile(share: float) -> float:
    from scipy.special import ndtri  # noqa: PLC0415 (one number)

    return float(ndtri(share))


def _labelled(
    labels: NDArray[np.float64], policies: Sequence[LabelPolicy], rng: np.random.Generator
) -> NDArray[np.float64]:
    """What a site's readers write of what an image has; unknown stays unknown."""
    written = labels.copy()
    for policy in policies:
        index = FINDINGS.index(policy.finding)
        has = labels[index] == 1 or any(labels[FINDINGS.index(one)] == 1 for one in policy.also)
        if any(labels[FINDINGS.index(one)] == 1 for one in policy.unless):
            has = False
        chance = rng.random()
        has = chance >= policy.missed if has else chance < policy.added
        if not np.isnan(labels[index]):
            written[index] = float(has)
    return written
