"""Training: standard, adversarial, TRADES and feedback learning, in one resumable loop.

    report = train(model, TrainingConfig(method="feedback"), data.train, data.validation, seed=0, checkpoint_dir=folder)

`measure_margins` and `class_margins` work on any victim's logits.
"""

from qmodels.training.config import AdversarialConfig, FeedbackConfig, TrainingConfig
from qmodels.training.feedback import class_margins
from qmodels.training.margins import Margins, measure_margins, random_directions
from qmodels.training.report import ClassMargin, EpochRecord, RoundRecord, TrainingReport
from qmodels.training.session import train

__all__ = [
    "AdversarialConfig",
    "ClassMargin",
    "EpochRecord",
    "FeedbackConfig",
    "Margins",
    "RoundRecord",
    "TrainingConfig",
    "TrainingReport",
    "class_margins",
    "measure_margins",
    "random_directions",
    "train",
]
