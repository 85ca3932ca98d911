"""`method: selection`: candidates of a public pool that one noisy release speaks for."""

import logging

from gan.methods.claim import claimed, spent
from gan.methods.release import is_released, released
from gan.network.bank import Bank
from gan.package.conditions import Conditions
from gan.package.description import BankShape
from gan.plans.train import GanPlan
from gan.private.condition_means import condition_part
from gan.private.pool import Pool, selected_pool
from gan.private.selection import (
    LEAST_Z,
    ReleasedConditions,
    candidate_vectors,
    patients_vectors,
    pool_features,
    pool_images,
    refuse_drowned,
    select,
)
from gan.private.tilting import Groups, PoolMoments
from gan.private.wide_map import RawMap, fit_wide_map, saved_wide_map
from gan.settings.parts import SelectionSettings
from gan.settings.train import TrainGanSettings
from synthdp.data.dataset import Dataset
from synthdp.machine.devices import chosen_device
from synthdp.privacy.lineage import Release
from synthdp.runs.folder import Run

logger = logging.getLogger(__name__)


def select_from_pool(settings: TrainGanSettings, run: Run, plan: GanPlan) -> tuple[Bank, Release]:
    """Keep the candidates of a public pool that one noisy release of mean features speaks for.

    Guarantee: as `gan.methods.embedding.train_on_embedding`.

    Raises:
        InputError: as there, or when the noise would drown what patients differ by.
    """
    selection = settings.selection
    assert selection is not None  # TrainGanSettings asks for it
    pool = selected_pool(settings, next(iter(plan.targets)))
    part = condition_part(settings, plan.conditions)
    _warn_of_random_networks(selection)
    _warn_of_enlarged(plan.privacy.dataset, pool, settings.size_px)
    raw = RawMap.of(selection, settings.size_px, chosen_device(settings.device))
    of_pool = pool_features(pool, raw, settings.size_px)
    fitted = fit_wide_map(
        raw, of_pool, components=selection.components, constant=selection.constant
    )
    if plan.privacy.mechanism is not None:
        moments = PoolMoments.of(candidate_vectors(fitted, of_pool))
        refuse_drowned(moments, plan.privacy.mechanism, settings.privacy.delta, part)
    vectors = None
    if not is_released(run):
        vectors = patients_vectors(
            fitted, plan.privacy.dataset, plan.rows, plan.among, settings.size_px
        )
    ledger, plan = claimed(settings, run, plan, block_steps=1)
    tensors = released(settings, run, plan, ledger, vectors=vectors, saved=fitted.saved())
    made_by = saved_wide_map(raw, tensors, constant=selection.constant)
    selected = select(
        tensors["sums"], plan.privacy.mechanism, candidate_vectors(made_by, of_pool), pool.labels,
        images=selection.images, constant=selection.constant, class_prior=settings.class_prior,
        separation=selection.separation, seed=settings.seed,
        combinations=Groups(pool.combinations, pool.shares),
        conditions=None if part is None else ReleasedConditions(part, pool.values),
    )  # fmt: skip
    run.log(
        candidates=len(pool.labels),
        effective_without=round(selected.effective[0], 1),
        effective_with=round(selected.effective[1], 1),
        shift=round(selected.shift, 4),
        z=round(selected.z, 2),
    )
    if selected.z < LEAST_Z:  # of what was released, so that saying it costs nothing
        logger.warning(
            "warning: what was released lies %.1f standard deviations of its own noise from the "
            "pool, and below %g the patients have added nothing that shows; a larger epsilon or "
            "more patients would",
            selected.z,
            LEAST_Z,
        )
    bank = Bank(**bank_shape(settings, plan.conditions).arguments)
    for value, indices in enumerate(selected.indices):
        bank.images[value] = pool_images(pool, indices, settings.size_px)
    return bank, spent(ledger, plan)


def bank_shape(settings: TrainGanSettings, conditions: Conditions) -> BankShape:
    """What is kept of a pool."""
    assert settings.selection is not None  # TrainGanSettings asks for it
    return BankShape(
        size_px=settings.size_px, images=settings.selection.images, conditions=conditions
    )


def _warn_of_random_networks(selection: SelectionSettings) -> None:
    """Say so where what is selected by means little, since no weights are there."""
    networks = {"selection.features": selection.features, "selection.tokens": selection.tokens}
    if random := [name for name, one in networks.items() if one.weights is None]:
        logger.warning(
            "warning: %s %s no weights, so that what is kept is chosen by networks that start at "
            "random: to try things out. For a set to be used name their weights (hub lets timm "
            "download them, once)",
            " and ".join(random),
            "have" if len(random) > 1 else "has",
        )


def _warn_of_enlarged(patients: Dataset, pool: Pool, size_px: int) -> None:
    """Say which sets hold smaller images than are drawn, for these would be enlarged ones."""
    sets = {"data": [patients], "selection.pool": [dataset for dataset, _ in pool.members]}
    for setting, datasets in sets.items():
        for info in (dataset.info for dataset in datasets):
            if info.size_px < size_px:
                logger.warning(
                    "warning: %s: %s has images of %d px, which are enlarged to %d px and so "
                    "blurred; set size_px to what the sets have, or make them larger",
                    setting,
                    info.name,
                    info.size_px,
                    size_px,
                )
