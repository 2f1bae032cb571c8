"""The experiment: one YAML file, checked before anything runs, every default written out beside the results."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, model_validator

from hw.experiment.config_text import Section, parse_config, read_text
from hw.experiment.evaluation_config import BlackBoxModel, EvaluationConfig
from hw.experiment.settings import Settings
from hw.generate.hardware import HardwareConfig
from hw.rtl.config import RtlConfig
from qmodels.architectures import ModelConfig
from qmodels.criteria import GroupMisclassification
from qmodels.data import InputConfig
from qmodels.defences import DefenceConfig
from qmodels.quantize.model import QuantizationConfig
from qmodels.quantize.mulaw import MappingConfig
from qmodels.tflite import Pixels
from qmodels.training import TrainingConfig

DEFAULT_CONFIG = "digits"


class DataConfig(Section):
    """Which data, how they are split, and how they become what the device reads."""

    name: str = Field(
        "digits",
        description="digits, breast_cancer, wine, mnist, fashion_mnist, cifar10, or a path: an .npz, a .csv or "
        ".parquet table, a folder with one subfolder of pictures per class",
    )
    label: str | None = Field(None, description="a table's column with the class")
    test_share: float = Field(0.2, gt=0, lt=0.9, description="of tables and folders of pictures")
    input: InputConfig = InputConfig()
    inputs: dict[str, InputConfig] = Field({}, description="as input, for single ones of a model's several inputs")
    validation_share: float = Field(0.1, gt=0, lt=0.9)
    limit_train: int | None = Field(None, ge=2)
    limit_test: int | None = Field(None, ge=1)


class TaskConfig(Section):
    """What the model is for, and when an attack on it has succeeded. Left out: read from the model and the data."""

    kind: Literal["auto", "classes", "binary", "regression", "anomaly"] = Field(
        "auto", description="auto: by the labels and the model's outputs; others than classes need model.file"
    )
    target: int | None = Field(None, ge=0, description="classes: an attack must reach this class")
    groups: tuple[tuple[int, ...], ...] = Field((), description="classes: one must leave its group of classes")
    tolerance: float | None = Field(None, gt=0, description="regression: how far an output may move")
    relative: bool = Field(False, description="regression: the tolerance is a share of the reference's size")
    reference: Literal["clean", "truth"] = Field("clean", description="regression: from the clean outputs or from y")
    false_positive_rate: float = Field(0.05, gt=0, lt=1, description="anomaly: of normal validation samples")
    direction: Literal["hide", "alarm"] = Field("hide", description="anomaly: hide one, or raise a false alarm")

    @model_validator(mode="after")
    def _one_criterion(self) -> TaskConfig:
        if self.target is not None and self.groups:
            raise ValueError("target and groups exclude each other; leave one out")
        if self.groups:
            GroupMisclassification(groups=self.groups)  # raises where a class is in two groups
        return self


class OwnModelConfig(ModelConfig):
    """One of our architectures, or your own model file."""

    file: Path | None = Field(
        None, description="your own model (.keras, .h5, .json, .onnx, a SavedModel folder); then nothing is trained"
    )
    weights: Path | None = Field(None, description="weights .h5 of a .json architecture; default: the file next to it")
    prepare: bool = Field(
        False, description="give your float model what quantization needs: an input grid, and a layer for every ReLU"
    )
    repair: bool = Field(False, description="fix what breaks the exactness contract, where the outputs do not change")
    pixels: Pixels = Field("grid", description="what a .tflite file takes an 8-bit pixel for: k/256, k/255, ...")
    surrogate: Path | None = Field(None, description="a Keras model whose gradients attacks on a .tflite file follow")


class SimulationConfig(Section):
    """Which simulator stands for the accelerator, and how much of it hls4ml's own C simulation checks."""

    engine: Literal["bitsim", "csim"] = Field("bitsim", description="csim: hls4ml's own, thousands of times slower")
    verify_samples: int = Field(256, ge=1, description="inputs of each gate that csim checks when bitsim is the engine")
    verify_random: int = Field(500, ge=0, description="random images in the gate, besides the extreme ones")


class TestBenchConfig(Section):
    """How many inputs the HLS project's test bench holds; RTL cosimulation is slow."""

    __test__ = False  # not a pytest class

    clean: int = Field(64, ge=1, description="clean test images in tb_data")
    adversarial: int = Field(128, ge=0, description="adversarial examples in tb_data, in turn from every attack")


class RunConfig(Section):
    """The whole experiment."""

    name: str = Field("digits", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", description="run folder's name")
    seed: int = Field(0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    task: TaskConfig = TaskConfig()
    model: OwnModelConfig = OwnModelConfig()
    training: TrainingConfig = TrainingConfig()
    defence: DefenceConfig = DefenceConfig()
    mapping: MappingConfig = MappingConfig()
    quantization: QuantizationConfig = QuantizationConfig()
    hardware: HardwareConfig = HardwareConfig()
    exactness: Literal["auto", "required", "reported"] = Field(
        "auto",
        description="required: the accelerator gives the model's bits, or the run stops; reported: the difference is "
        "told; auto: required, reported for your own model where hls4ml cannot give its bits",
    )
    simulation: SimulationConfig = SimulationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    testbench: TestBenchConfig = TestBenchConfig()
    rtl: RtlConfig = RtlConfig()

    @model_validator(mode="after")
    def _black_box_models_can_be_trained(self) -> RunConfig:
        for model in self.evaluation.black_box:
            if self.model.file is not None and model.model is None:
                raise ValueError(
                    f"evaluation.black_box: {model.name} has no model section, and the run's own file cannot be "
                    "trained again; add one, for example model: {architecture: cnn4}"
                )
        return self

    def apart(self, model: BlackBoxModel) -> RunConfig:
        """The config of the run that trains a model of the attacker's own."""
        return self.model_copy(
            update={
                "name": model.name,
                "seed": (self.seed + 1) % 2**31 if model.seed is None else model.seed,
                "model": OwnModelConfig(**model.model.model_dump()) if model.model else self.model,
                "training": model.training or self.training,
                "mapping": model.mapping,
                "quantization": model.quantization or self.quantization,
                "evaluation": EvaluationConfig(),
                "defence": DefenceConfig(),
            }
        )

    @property
    def float_config(self) -> RunConfig:
        """The experiment without the quantization-aware phase."""
        training = self.training.model_copy(update={"quantization_aware": None})
        return self.model_copy(update={"training": training})

    @property
    def distilled(self) -> bool:
        """Whether the network comes from defensive distillation."""
        return self.training.method == "distillation" and self.model.file is None

    @property
    def defended_training(self) -> bool:
        """Whether the network was trained to withstand attacks."""
        return self.model.file is None and (self.training.attacks or self.training.method == "distillation")

    @property
    def model_label(self) -> str:
        """The row's name in tables before mapping: `Orig.`, `Adv.`, `F.L.`, or the own model's file name."""
        if self.model.file is not None:
            return self.model.file.stem
        labels = {"standard": "Orig.", "adversarial": "Adv.", "feedback": "F.L.", "trades": "TRADES"}
        labels |= {"ensemble": "Ens.", "sinkhorn": "Sinkhorn", "distillation": "Dist."}
        labels |= {"feedback-certified": "F.L.+IBP"}
        return labels.get(self.training.method, self.training.method)

    @property
    def mapped_label(self) -> str:
        """The row's name after the µ-law mapping."""
        return f"{self.model_label}+mu" if self.mapping.mu > 0 else self.model_label

    @property
    def table_label(self) -> str:
        """The same, behind the defence where there is one: what an attacker is up against."""
        return self.mapped_label + self.defence.label


def load_config(source: Path | None, settings: Settings | None = None, origin: str = "--set") -> RunConfig:
    """Read, change and check an experiment.

    Args:
        source: a YAML file; None: the embedded digits experiment.
        settings: dotted keys and their values, which change what the file says.
        origin: where the settings were written, for messages.

    Raises:
        UserError: names the file, the key, what is allowed, and for a misspelt key the nearest one.
    """
    where = str(source) if source else f"embedded {DEFAULT_CONFIG}.yaml"
    text = (
        read_text(source)
        if source
        else files("hw.experiment").joinpath(f"{DEFAULT_CONFIG}.yaml").read_text(encoding="utf-8")
    )
    return parse_config(RunConfig, text, where, settings, origin)


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML: every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
