"""synthdp: synthetic medical images and classifiers that keep a promise to each patient.

This is the public way in for Python: `import synthdp`, and the names of `__all__`. Each is loaded
when it is first used, so that the import itself takes no time. docs/library.md shows them at work.

>>> import synthdp
>>> synthdp.Mechanism(noise_multiplier=10, steps=25, normaliser=600).mu
0.5
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Public name -> where it stands, as `module:attribute`. The `TYPE_CHECKING` block below says the
#: same to type checkers and editors; a test holds the two against each other.
_PUBLIC = {
    "Classifier": "classify.library.classifier:Classifier",
    "Comparison": "synthdp.evaluation.arrays:Comparison",
    "Dataset": "synthdp.data.dataset:Dataset",
    "Evaluation": "synthdp.evaluation.summary:Evaluation",
    "FairnessFigure": "synthdp.evaluation.fairness:FairnessFigure",
    "Generator": "gan.library.generator:Generator",
    "InputError": "synthdp.errors:InputError",
    "Ledger": "synthdp.privacy.ledger.run_ledger:Ledger",
    "Mechanism": "synthdp.privacy.mechanism:Mechanism",
    "PatientTrainer": "classify.library.patient_trainer:PatientTrainer",
    "PrivateLogisticRegression": "classify.library.logistic_regression:PrivateLogisticRegression",
    "RunError": "synthdp.errors:RunError",
    "Statement": "synthdp.privacy.promise.statement:Statement",
    "compare": "synthdp.evaluation.arrays:compare",
    "epsilon_of": "synthdp.stage_functions:epsilon_of",
    "evaluate": "synthdp.evaluation.summary:evaluate",
    "fairness": "synthdp.evaluation.arrays:fairness",
    "import_patches": "synthdp.stage_functions:import_patches",
    "make_phantoms": "synthdp.stage_functions:make_phantoms",
    "open_dataset": "synthdp.data.dataset:open_dataset",
    "release": "synthdp.stage_functions:release",
    "run_stage": "synthdp.stage_functions:run_stage",
    "statement_of": "synthdp.stage_functions:statement_of",
    "tensorboard_hook": "synthdp.runs.tracking:tensorboard_hook",
    "track": "synthdp.runs.tracking:track",
}

if TYPE_CHECKING:
    from classify.library.classifier import Classifier
    from classify.library.logistic_regression import PrivateLogisticRegression
    from classify.library.patient_trainer import PatientTrainer
    from gan.library.generator import Generator
    from synthdp.data.dataset import Dataset, open_dataset
    from synthdp.errors import InputError, RunError
    from synthdp.evaluation.arrays import Comparison, compare, fairness
    from synthdp.evaluation.fairness import FairnessFigure
    from synthdp.evaluation.summary import Evaluation, evaluate
    from synthdp.privacy.ledger.run_ledger import Ledger
    from synthdp.privacy.mechanism import Mechanism
    from synthdp.privacy.promise.statement import Statement
    from synthdp.runs.tracking import tensorboard_hook, track
    from synthdp.stage_functions import (
        epsilon_of,
        import_patches,
        make_phantoms,
        release,
        run_stage,
        statement_of,
    )

__all__ = [
    "Classifier",
    "Comparison",
    "Dataset",
    "Evaluation",
    "FairnessFigure",
    "Generator",
    "InputError",
    "Ledger",
    "Mechanism",
    "PatientTrainer",
    "PrivateLogisticRegression",
    "RunError",
    "Statement",
    "compare",
    "epsilon_of",
    "evaluate",
    "fairness",
    "import_patches",
    "make_phantoms",
    "open_dataset",
    "release",
    "run_stage",
    "statement_of",
    "tensorboard_hook",
    "track",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'synthdp' has no attribute {name!r}; it has {__all__}")
    from synthdp.own_packages import own_module  # noqa: PLC0415

    module, attribute = _PUBLIC[name].split(":")
    value = getattr(own_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
