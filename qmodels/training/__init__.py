"""Training: standard, adversarial (of an ensemble, with Sinkhorn distance), TRADES, feedback, distillation; resumable.

    report = train(model, TrainingConfig(method="feedback"), data.train, data.validation, seed=0, checkpoint_dir=folder)

`measure_margins` and `class_margins` work on any victim's logits.
"""

from qmodels.training.config import (
    AdversarialConfig,
    DistillationConfig,
    EnsembleConfig,
    FeedbackConfig,
    SinkhornConfig,
    TrainingConfig,
)
from qmodels.training.feedback import class_margins
from qmodels.training.margins import Margins, measure_margins, random_directions
from qmodels.training.report import ClassMargin, EpochRecord, RoundRecord, TrainingReport
from qmodels.training.session import train, train_static

__all__ = [
    "AdversarialConfig",
    "ClassMargin",
    "DistillationConfig",
    "EnsembleConfig",
    "EpochRecord",
    "FeedbackConfig",
    "Margins",
    "RoundRecord",
    "SinkhornConfig",
    "TrainingConfig",
    "TrainingReport",
    "class_margins",
    "measure_margins",
    "random_directions",
    "train",
    "train_static",
]
