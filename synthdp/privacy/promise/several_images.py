"""What a promise to each image is to a patient who has several, in words for whoever reads it.

How many images a patient has is private. So the numbers here are public ones: what the settings
declare as a bound, and below it, or without one, what patients of a public collection have.
"""

import math
from collections.abc import Sequence

from synthdp.privacy.accounting.bounds import epsilon_text, exactly, percent
from synthdp.privacy.promise.statement import Statement

#: Images of a patient in NIH ChestX-ray14 (30,805 patients; Wang et al., CVPR 2017): the mean, the
#: 94th and the 99th percentile, and the most.
PUBLIC_NUMBERS = (4, 12, 35, 184)


def numbers_of_images(bounds: Sequence[int]) -> tuple[int, ...]:
    """For how many images of a patient a statement says what it promises.

    Args:
        bounds: on images a patient, as releases declare them; the largest is the most that any
            release used. Without one all public numbers stand.
    """
    if not bounds:
        return PUBLIC_NUMBERS
    most = max(bounds)
    return (*(number for number in PUBLIC_NUMBERS if number < most), most)


def several_images_words(statement: Statement) -> list[str]:
    """A sentence for each number of images: epsilon, members found, and a guess of membership.

    Empty where patients are the unit, where nothing was released, or where nothing protects.

    Guarantee: upper bounds, each rounded up, for patients with at most as many images. They are
    functions of mechanisms and declared numbers alone.
    """
    lineage = statement.lineage
    if statement.unit != "image" or not lineage.releases or math.isinf(statement.epsilon):
        return []
    bounded = all(one.images_per_patient is not None for one in lineage.releases)
    bounds = lineage.images_per_patient if bounded else ()
    return [_of_number(statement, number) for number in numbers_of_images(bounds)]


def _of_number(statement: Statement, number: int) -> str:
    losses = [group.loss_of_images(number) for group in statement.lineage.groups()]
    epsilon = max(loss.epsilon(statement.delta) for loss in losses)
    members_found = max(loss.true_positive_rate(0.01) for loss in losses)
    right = max(loss.best_accuracy for loss in losses)
    images = "image" if number == 1 else "images"
    return (
        f"{number} {images}: epsilon {epsilon_text(epsilon)} at delta {exactly(statement.delta)}; "
        f"at most {percent(members_found)} of such patients are found while 1 % of strangers are "
        "falsely accused (chance: 1 %), and who guesses whether such a patient took part is right "
        f"in at most {percent(right)} of cases (chance: 50 %)"
    )
