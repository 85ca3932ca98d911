"""`method: adversarial`: a generator that is trained on real images as they are."""

from gan.methods.training import begun_training, checkpointed_training
from gan.network.generator import Generator
from gan.package.networks import TrainedGenerator
from gan.plans.train import GanPlan
from gan.settings.train import TrainGanSettings
from gan.training.examples import load_examples
from gan.training.finish import finish_generator
from gan.training.guidance import Guidance
from gan.training.loop import AdversarialRecipe, train_adversarially
from synthdp.machine.devices import chosen_device
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.runs.folder import Run


def train_without_privacy(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    """Train without privacy, on real images as they are."""
    examples = load_examples(
        plan.privacy.dataset, plan.rows, settings.size_px, plan.conditions, plan.targets
    )
    plan.privacy.record(Ledger(run.ledger_path))
    device = chosen_device(settings.device)
    training = begun_training(settings, plan, device)
    guidance = None
    if settings.guidance is not None:
        guidance = Guidance(
            settings.guidance, settings.size_px, settings.seed, device, len(plan.targets)
        )
    recipe = AdversarialRecipe.of(settings)
    with checkpointed_training(settings, run, plan, training, guidance) as (log, keep):
        train_adversarially(training, examples, recipe, guidance, log=log, keep=keep)
    if not isinstance(training.averaged, Generator):
        return training.averaged, plan.privacy.release
    generator = finish_generator(
        training.averaged,
        examples,
        class_spread=settings.class_spread,
        style_spread=settings.style_spread,
        film=settings.film,
    )
    return generator, plan.privacy.release
