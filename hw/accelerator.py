"""The accelerator: one conversion, and everything that follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hw.certify import Certificate, Certifier, Effort
from hw.cost import Cost, estimate_cost
from hw.generate.codes import Codebook, choose_codebooks
from hw.generate.contract import Exactness
from hw.generate.convert import Converted, convert
from hw.generate.hardware import HardwareConfig
from hw.generate.project import HlsProject
from hw.generate.writing import BACKENDS, layer_formats, write_project
from hw.rtl import Rtl, RtlConfig
from hw.simulate.bitsim import BitSim, LayerOverflow
from hw.simulate.bitsim.lower import lower
from hw.simulate.csim import Csim
from hw.simulate.explain import FirstDifference, explain
from hw.simulate.gradients import gradients_of
from hw.simulate.model_trace import layers_of, model_trace
from hw.simulate.witness import Witness, compare
from qmodels.attacks import Attack, AttackResult
from qmodels.attacks.ball import Ball, Epsilon, Norm
from qmodels.criteria import Truth
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.metrics.masking import attack_row, clean_row, with_flags
from qmodels.quantize.prequantized import prequantize
from qmodels.runtime import runtime
from qmodels.tasks import CLASSES, Task
from qmodels.victims import GradientModel, Labels, Logits

Array = NDArray[Any]
Engine = Literal["bitsim", "csim"]
#: Half a second of a C simulation that is not optimized; optimizing it takes g++ one second, or two.
FEW_MULTIPLICATIONS = 1_000_000


class Accelerator:
    """What hls4ml makes of a model; a `Victim`.

    The model is converted once. The same graph is written, costed, simulated and compiled, each when first asked for.
    With a model it is a `GradientVictim`; without one it can be asked, not differentiated.
    """

    #: The model whose gradients an attack may follow; missing where there is no model.
    gradient_model: GradientModel

    def __init__(
        self,
        model: Any,
        config: HardwareConfig | None = None,
        *,
        grid: InputGrid = IMAGE_GRID,
        exactness: Exactness = "required",
        engine: Engine | None = None,
        threads: int | None = None,
    ) -> None:
        """Convert a Keras or QKeras model.

        Args:
            model: it must fulfil the exactness contract, or with exactness "reported" be well defined as hardware.
            config: what it is generated for; None: the defaults.
            grid: what its inputs can be; integer arrays are codes on it. Of several inputs `InputGrid.join` of theirs,
                or one that each of them has.
            exactness: "required": the accelerator gives the model's bits. "reported": it may differ from the model.
            engine: the simulator that stands for the accelerator; None: bitsim, or csim where bitsim does not know
                the backend or a layer.
            threads: how many bitsim uses; None: one per processor. The bits do not depend on it.

        Raises:
            UserError: the model breaks the contract, hls4ml cannot convert it, or the config does not suit it.
        """
        config = config or HardwareConfig()
        converted = convert(model, config, exactness=exactness, input_formats=grid.formats)
        self._take(converted, model, config, grid, engine, threads)
        if exactness == "required":  # the contract is what makes the view equal to the model
            self.gradient_model = GradientModel(model, self.grid, prepare=prequantize, engine=gradients_of)

    @classmethod
    def from_hls4ml(
        cls,
        graph: Any,
        model: Any | None = None,
        *,
        grid: InputGrid = IMAGE_GRID,
        engine: Engine | None = None,
        threads: int | None = None,
    ) -> Accelerator:
        """The accelerator of a graph that you converted with hls4ml yourself: your config, your names, your types.

        No contract is checked: what the graph computes is what is simulated, whatever the model computes.

        Args:
            graph: hls4ml's `ModelGraph`. It is left as it is.
            model: the Keras 2 model it was made from, for gradients and for `explain`. Missing where there is none, as
                with QONNX, PyTorch and Keras 3: score- and decision-based attacks need only the accelerator.
            grid: as for `Accelerator`.
            engine: as for `Accelerator`.
            threads: as for `Accelerator`.

        Raises:
            UserError: this is no `ModelGraph`, or no Keras 2 model.
        """
        if "ModelGraph" not in [kind.__name__ for kind in type(graph).__mro__]:
            raise UserError(
                f"from_hls4ml takes hls4ml's ModelGraph, what convert_from_keras_model returns; got "
                f"{type(graph).__name__}; a Keras model goes to Accelerator(model)"
            )
        if model is not None and not isinstance(model, runtime().keras.Model):
            kind = f"{type(model).__module__}.{type(model).__name__}"
            raise UserError(
                f"from_hls4ml: gradients come from a Keras 2 model, and {kind} is none; leave the model out: square, "
                "hopskipjump and others ask the accelerator alone"
            )
        accelerator = cls.__new__(cls)
        accelerator._take(Converted(graph, ()), model, None, grid, engine, threads)
        return accelerator

    def _take(
        self,
        converted: Converted,
        model: Any | None,
        config: HardwareConfig | None,
        grid: InputGrid,
        engine: Engine | None,
        threads: int | None,
    ) -> None:
        self.model, self.grid = model, grid.over(_inputs_of(converted.graph))
        self.config = config  # None: the graph is its user's
        self.graph, self.warnings = converted.graph, converted.warnings
        #: Of kernels that are stored as codes, by the weight variable's name.
        self.codebooks: dict[str, Codebook] = choose_codebooks(self.graph, config) if config is not None else {}
        self._wanted, self._threads = engine, threads
        if model is not None:  # an attribute only then: protocols look at what is there
            self.gradient_model = GradientModel(model, self.grid)

    def __repr__(self) -> str:
        options = self.graph.config.config
        shapes = " -> ".join(
            ", ".join("x".join(map(str, variable.shape)) for variable in variables)
            for variables in (self.graph.get_input_variables(), self.graph.get_output_variables())
        )
        return f"Accelerator({options['ProjectName']}, {options['Backend']} {options['IOType']}, {shapes})"

    # What it is

    @cached_property
    def project(self) -> HlsProject:
        """The HLS project, as a value. Same model and config, same bytes."""
        return write_project(self.graph, self.codebooks)

    def write(self, folder: Path | str) -> None:
        """Write the HLS project below `folder`."""
        self.project.write(Path(folder))

    @cached_property
    def cost(self) -> Cost:
        """What it will cost, before any synthesis."""
        return estimate_cost(self.graph, self.codebooks, adders=True)

    @property
    def formats(self) -> dict[str, FixedPoint]:
        """Format of every layer's output, by hls4ml's layer name; layers of other types (float) are left out."""
        return layer_formats(self.graph)

    def rtl(self, config: RtlConfig | None = None) -> Rtl:
        """The same arithmetic in Verilog, by open tools: simulated (it is a `Victim`), synthesized, written.

        It is alkaid's RTL, unrolled, and not what the vendor's compiler makes of the project.

        Args:
            config: pipelining and limits; None: the defaults.

        Raises:
            UserError: a layer that bitsim does not know.
            ToolMissing: alkaid is not installed.
        """
        options = self.graph.config
        return Rtl(
            lower(self.graph),
            self.grid,
            name=f"{options.get_project_name()}_rtl",  # `small` and other words of Verilog are no names
            clock_period_ns=float(options.get_config_value("ClockPeriod") or 5.0),
            part=str(options.get_config_value("Part") or HardwareConfig().part),
            config=config,
        )

    # Its simulators

    @cached_property
    def bitsim(self) -> BitSim:
        """The fast simulator; its bits are those of `csim`.

        Raises:
            UserError: a layer, type or backend that bitsim does not simulate.
        """
        simulator = BitSim.from_graph(self.graph)
        simulator.threads, simulator.grid = self._threads, self.grid
        return simulator

    @cached_property
    def csim(self) -> Csim:
        """hls4ml's own C simulation, compiled when first asked for.

        Raises:
            ToolMissing: no g++, or it fails.
        """
        return self.compile()

    def compile(self, *, optimize: bool = True) -> Csim:
        """The C simulation; `optimize=False` compiles in half the time and runs many times slower.

        Raises:
            UserError: g++ cannot compile for this backend.
            ToolMissing: no g++, or it fails.
        """
        self._check_compiles()
        simulator = Csim(self.project, optimize=optimize)
        simulator.grid = self.grid
        return simulator

    def csim_for(self, samples: int) -> Csim:
        """`csim`; where so many samples of this network are soon simulated, one that is compiled in half the time.

        Raises:
            ToolMissing: no g++, or it fails.
        """
        if "csim" in self.__dict__ or samples * self._multiplications > FEW_MULTIPLICATIONS:
            return self.csim
        return self._quick_csim

    @cached_property
    def _quick_csim(self) -> Csim:
        return self.compile(optimize=False)

    @cached_property
    def _multiplications(self) -> int:
        found = estimate_cost(self.graph, self.codebooks)  # not `cost`: its adders take a second a layer
        return sum(layer.multiplications for layer in found.layers)

    @cached_property
    def engine(self) -> BitSim | Csim:
        """The simulator that stands for the accelerator."""
        if self._wanted == "csim":
            return self.csim
        try:
            return self.bitsim
        except UserError:
            if self._wanted == "bitsim":
                raise
            return self.csim

    @property
    def name(self) -> str:
        """`bitsim` or `csim`: whose bits these are."""
        return self.engine.name

    def predict(self, x: Array | Sequence[Array]) -> Any:
        """Outputs (N, outputs) for x (N, *input_shape), codes or real numbers.

        Of several inputs x is a list, or the grid's flat samples (N, F). Several outputs come as a list.
        """
        return self.engine.predict(self._values(x))

    def _values(self, x: Array | Sequence[Array]) -> Any:
        """Real numbers, a list of several inputs; integer arrays are codes on the grid."""
        if isinstance(x, (list, tuple)):
            if not all(np.issubdtype(np.asarray(part).dtype, np.integer) for part in x):
                return list(x)
            x = self.grid.flat(x)
        array = np.asarray(x)
        return self.grid.feed(self.grid.to_values(array) if np.issubdtype(array.dtype, np.integer) else array)

    def logits(self, x: Codes) -> Logits:
        """Logits (N, classes) of codes (N, ...) on the grid."""
        return self.engine.logits(x)

    # Looking inside

    def trace(self, x: Array | Sequence[Array], engine: Engine | None = None) -> dict[str, Array]:
        """Every layer's output (N, *shape), by hls4ml's layer name.

        Args:
            x: as for `predict`.
            engine: whose trace; None: that of the accelerator's engine. csim is compiled once more to be traced.
        """
        if (engine or self.name) == "bitsim":
            return self.bitsim.trace(self._values(x))
        return self._traced.trace(self._values(x))

    @cached_property
    def _traced(self) -> Csim:
        self._check_compiles()
        return Csim(write_project(self.graph, self.codebooks, traced=True), optimize=False)

    def explain(self, x: Array, against: Literal["csim", "model"] = "csim") -> FirstDifference | None:
        """The first layer in which two computations of `x` differ; None when every bit agrees.

        Args:
            x: inputs (N, ...).
            against: `csim`: bitsim is held against it. `model`: the accelerator is held against the Keras model.

        Raises:
            UserError: there is no model, or bitsim does not simulate this accelerator.
        """
        if against == "csim":
            return explain(self.trace(x, "csim"), self.trace(x, "bitsim"), self.formats)
        if self.model is None:
            raise UserError("explain against the model: this accelerator has none; give from_hls4ml(graph, model)")
        theirs = model_trace(self.model, self._values(x))
        names = layers_of(theirs, [layer.name for layer in self.graph.get_layers()])
        trace, formats = self.trace(x), self.formats
        ours = {layer: trace[name] for layer, name in names.items() if name in trace}
        ours[list(theirs)[-1]] = np.asarray(self.predict(x))  # whatever the last layer is called
        return explain(theirs, ours, {layer: formats[name] for layer, name in names.items() if name in formats})

    def compare(self, x: Array, outputs: Array) -> Witness:
        """Hold it against outputs that something else gave for `x`: a PyTorch model, a device, an older project.

        Args:
            x: (N, ...) inputs, real numbers or codes, as the other one took them, its order of axes included.
            outputs: (N, ...) what it gave.

        Raises:
            UserError: shapes do not fit, or the accelerator has several inputs.
        """
        if self.grid.ports:
            raise UserError("compare: of an accelerator with one input")
        shape = tuple(int(size) for size in self.graph.get_input_variables()[0].shape)
        return compare(self.predict, np.asarray(x), np.asarray(outputs), shape)

    # How robust it is

    def attack(
        self, attack: Attack, x: Codes, y: Truth, *, epsilons: Sequence[float], seed: int = 0, task: Task = CLASSES
    ) -> Iterator[AttackResult]:
        """Attack the accelerator at each radius: gradients from the model, judged by the accelerator's own bits.

        Args:
            attack: what to run, for example `PGD(steps=40)`.
            x: codes (N, ...) of inputs on the grid, as `load_data` gives them.
            y: true labels (N,), or what the task's criterion compares outputs with.
            epsilons: radii in grid steps.
            seed: of every attack.
            task: what the accelerator is for, and when an attack on it has succeeded.

        Yields:
            One result a radius, as soon as it is there; flags by the rows so far.

        Raises:
            UserError: the attack needs gradients and there is no model, or `x` holds no codes.
        """
        view, criterion = task.view(self), task.criterion
        right = task.right(view, x, y)
        rows = [clean_row("accelerator", self.name, ~criterion.wrong(view.logits(x), right))]
        for epsilon in epsilons:
            result = attack(view, x, right, epsilon_lsb=epsilon, seed=seed, criterion=criterion)
            rows.append(attack_row("accelerator", self.name, attack, result))
            yield replace(result, flags=with_flags(rows)[-1].flags)

    def certify(
        self,
        x: Codes,
        y: Labels,
        *,
        epsilon: Epsilon,
        norm: Norm = "linf",
        complete: bool = False,
        timeout: float = 60.0,
    ) -> Certificate:
        """What no attack can do: verdicts on every input, proved in the accelerator's own integers.

        Args:
            x: codes (N, ...) of inputs on the grid.
            y: true classes (N,).
            epsilon: radius in grid steps.
            norm: of the ball. In other norms than L-infinity the box around the ball is what is bounded.
            complete: go on with branch and bound where the quick methods leave an input open.
            timeout: processor seconds for each input that they leave open.

        Raises:
            UserError: bitsim does not simulate this accelerator, or it is no classifier with logits as its output.
        """
        certifier = Certifier(self.bitsim)
        ball = Ball(self.grid, np.asarray(x), norm, epsilon)
        return certifier.certify(ball, np.asarray(y), Effort(complete=complete, timeout=timeout))

    def overflow_report(self, x: Array | Sequence[Array]) -> list[LayerOverflow]:
        """Per layer, how many results (and sums) saturated or wrapped on x.

        Raises:
            UserError: bitsim does not simulate this accelerator.
        """
        return self.bitsim.overflow_report(self._values(x))

    def _check_compiles(self) -> None:
        backend = str(self.graph.config.get_config_value("Backend"))
        if backend.lower() not in BACKENDS:
            raise UserError(
                f"the C simulation of {backend} needs the vendor's compiler; with g++: {', '.join(BACKENDS)}"
            )


def _inputs_of(graph: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of every input of hls4ml's graph, in order."""
    return [
        (str(layer), tuple(int(size) for size in variable.shape))
        for layer, variable in zip(graph.inputs, graph.get_input_variables(), strict=True)
    ]
