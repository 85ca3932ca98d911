"""Membership: is this patient in the release? A likelihood ratio over releases of halves."""

from collections.abc import Sequence

import numpy as np
import torch

from gan.auditing.subject import EmbeddingSubject
from synthdp.machine.progress import progress
from synthdp.privacy.attacks.membership import MembersFound, members_at_rates
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.noisy_sum.lattice import release_once
from synthdp.privacy.noisy_sum.noise import NoiseSource

ATTACK = "membership (likelihood ratio) of the release"
_LEAST_PATIENTS = 2


def membership(
    subject: EmbeddingSubject,
    generator: np.random.Generator,
    *,
    shadows: int,
    rates: Sequence[float],
    confidence: float,
    risk: float,
) -> list[MembersFound]:
    """Attack the release by others of random halves of the patients.

    A patient's score is the product of the own row with what was released, which for Gaussian noise
    is all that counts; the attacker knows the patient's images, and releases of others.

    Returns:
        One for each rate; none where there are not two patients to tell apart.
    """
    rows = subject.embedded.rows()
    rows = rows[torch.isfinite(rows).all(dim=1) & (rows != 0).any(dim=1)]
    if len(rows) < _LEAST_PATIENTS:
        return []
    order = np.argsort(generator.random((shadows, len(rows))), axis=0)
    members = order < shadows // 2  # each patient is in exactly half of the releases
    scores = np.empty(members.shape)
    for shadow, inside in enumerate(progress(members, what="membership", public_unit="releases")):
        source = NoiseSource(generator.bytes(KEY_BYTES), subject.noise)
        released = release_once(rows[torch.from_numpy(inside)], subject.mechanism, source)
        scores[shadow] = (rows.double() @ released.double()).numpy()
    return members_at_rates(
        scores,
        members,
        promised=subject.mechanism.loss(),
        rates=rates,
        confidence=confidence,
        risk=risk,
        generator=generator,
    )
