"""Layers that run otherwise for a while: with less memory (two ways), or compiled.

    with memory_efficient_layers(model, score=lambda: score_targets(model, batch, head_of=model).nats_N):
        train(...)  # on a CPU, under autocast to bfloat16
    with checkpointed_layers(model, keep_products=True):
        train(...)  # activations are computed a second time, going backward
    with compiled_layers(model):
        train(...)  # what stands between matmuls costs fewer passes
        with plain_layers(model):
            ask(...)

Memory-efficient layers save half as much for backward; what they give forward stays the same to the bit.
Under autocast every linear layer makes a bfloat16 copy of its input and one of its weights and holds both, a
norm holds three tensors of float32, a gated activation all its factors, an adapter a float32 copy of what the
layer has already. Here a norm gives bfloat16 once for all who read it, weights are cast once more going
backward, and what is cheap is computed twice. Of the embedded model and 612 tokens 403 MB are held, not 878.
Going backward, the gradients of those who read one norm are added in bfloat16.
I inputs, O outputs of a layer, R rank of its adapter; other axes are free.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from demask.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Forward = Callable[[Tensor], Tensor]


@contextmanager
def memory_efficient_layers(model: nn.Module, *, score: Callable[[], Tensor]) -> Iterator[None]:
    """Replace what is known by its formula for a while: linear layers, adapters, gated activations and norms.

    Args:
        model: on a CPU; may carry a low-rank adapter. Weights that are trained are float32.
        score: some numbers that hang on all layers, under autocast. Norms whose replacement changes a bit of
            them stay as they are: others than products read them.
    """
    # What has a forward of its own, such as by a hook of accelerate's, keeps it.
    modules = {name: module for name, module in model.named_modules() if "forward" not in vars(module)}
    with ExitStack() as replaced:
        for module in modules.values():
            lean = _lean_linear(module) or _lean_adapter(module) or _lean_gated(module)
            if lean:
                replaced.enter_context(_replaced(module, lean))
        before = score()
        for norms in _norms_by_place(modules):
            trial = replaced.enter_context(ExitStack())
            for norm, lean in norms:
                trial.enter_context(_replaced(norm, lean))
            if not _holds(lambda: torch.equal(score(), before)):
                trial.close()
        yield


@contextmanager
def _replaced(module: nn.Module, lean: Forward) -> Iterator[None]:
    usual: Callable[..., Any] = module.forward

    def forward(*inputs: Any, **named: Any) -> Any:
        known = len(inputs) == 1 and not named and torch.is_autocast_enabled("cpu")
        return lean(*inputs) if known else usual(*inputs, **named)

    module.forward = forward
    try:
        yield
    finally:
        del module.forward  # that of the class is there again


def _holds(claim: Callable[[], bool]) -> bool:
    """Whether modules give the same; those that take other arguments or another dtype do not."""
    try:
        with torch.no_grad():
            return claim()
    except (RuntimeError, TypeError, ValueError):
        return False


def _lean_linear(module: Any) -> Forward | None:
    if not _is_plain(module):
        return None
    return lambda x: _applied(_Product, x.to(torch.bfloat16), module.weight)


def _is_plain(module: Any) -> bool:
    return type(module) is nn.Linear and module.bias is None


def _applied(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    out: Any = function.apply(*inputs)
    return torch.as_tensor(out)


class _Product(torch.autograd.Function):
    """Holds its input in bfloat16, and nothing of the weights, which are there anyway."""

    @staticmethod
    def forward(ctx: Any, x_I: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(x_I if weight_OI.requires_grad else None, weight_OI)
        return nn.functional.linear(x_I, weight_OI.to(x_I.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_O: Tensor) -> tuple[Tensor | None, ...]:
        x_I, weight_OI = ctx.saved_tensors
        to_x_I = gradient_O @ weight_OI.to(gradient_O.dtype) if ctx.needs_input_grad[0] else None
        if x_I is None:
            return to_x_I, None
        to_weight_OI = gradient_O.flatten(0, -2).T @ x_I.flatten(0, -2)
        return to_x_I, to_weight_OI.to(weight_OI.dtype)


def _lean_adapter(module: Any) -> Forward | None:
    """Of peft's LoRA around a linear layer: one adapter, scaled by one, no dropout, no variant, no biases."""
    base, downs = getattr(module, "base_layer", None), getattr(module, "lora_A", None)
    if base is None or not isinstance(downs, nn.ModuleDict) or len(downs) != 1:
        return None
    (name,) = downs
    down, up, usual = downs[name], module.lora_B[name], module.forward
    plain = (
        all(map(_is_plain, (base, down, up)))
        and module.scaling[name] == 1.0
        and isinstance(module.lora_dropout[name], nn.Identity)
        and name not in getattr(module, "lora_variant", {})
    )
    if not plain:
        return None

    def forward(x: Tensor) -> Tensor:
        if module.disable_adapters or module.merged:
            return torch.as_tensor(usual(x))
        return _applied(_AdaptedProduct, x.to(torch.bfloat16), base.weight, down.weight, up.weight)

    return forward


class _AdaptedProduct(torch.autograd.Function):
    """x (W + A B), with W frozen; holds x, what the adapter made of it, and A and B in bfloat16."""

    @staticmethod
    def forward(ctx: Any, x_I: Tensor, weight_OI: Tensor, down_RI: Tensor, up_OR: Tensor) -> Tensor:
        ctx.adapter_dtype = down_RI.dtype
        down_RI, up_OR = down_RI.to(x_I.dtype), up_OR.to(x_I.dtype)
        x_R = nn.functional.linear(x_I, down_RI)
        ctx.save_for_backward(x_I, x_R, weight_OI, down_RI, up_OR)
        return nn.functional.linear(x_I, weight_OI.to(x_I.dtype)).add_(nn.functional.linear(x_R, up_OR))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_O: Tensor) -> tuple[Tensor | None, ...]:
        x_I, x_R, weight_OI, down_RI, up_OR = ctx.saved_tensors
        rows_O, rows_I, rows_R = (rows.flatten(0, -2) for rows in (gradient_O, x_I, x_R))
        gradient_R = rows_O @ up_OR
        to_x_I = (rows_O @ weight_OI.to(x_I.dtype)).addmm_(gradient_R, down_RI).view_as(x_I)
        to_down_RI = (gradient_R.T @ rows_I).to(ctx.adapter_dtype)
        return to_x_I, None, to_down_RI, (rows_O.T @ rows_R).to(ctx.adapter_dtype)


def _lean_gated(module: Any) -> Forward | None:
    """Of feed-forward layers down(act(gate(x)) * up(x)), as those that call them so."""
    parts = ("gate_proj", "up_proj", "down_proj", "act_fn")
    if not all(isinstance(getattr(module, part, None), nn.Module) for part in parts):
        return None

    def feed(x: Tensor, join: Callable[..., Any]) -> Tensor:
        out: Tensor = module.down_proj(join(module.act_fn, module.gate_proj(x), module.up_proj(x)))
        return out

    x = torch.linspace(-2, 2, getattr(module.gate_proj, "in_features", 0))[None]
    as_known = _holds(lambda: torch.equal(module(x), feed(x, lambda act, gate, up: act(gate) * up)))
    return (lambda x: feed(x, _Gated.apply)) if as_known else None


class _Gated(torch.autograd.Function):
    """act(gate) * up; holds two of the three factors of its gradients."""

    @staticmethod
    def forward(ctx: Any, act: Forward, gate: Tensor, up: Tensor) -> Tensor:
        ctx.act = act
        ctx.save_for_backward(gate, up)
        return act(gate) * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        with torch.enable_grad():
            opened = ctx.act(gate := gate.detach().requires_grad_())
        (to_gate,) = torch.autograd.grad(opened, gate, gradient * up)
        return None, to_gate, gradient * opened.detach()


def _norms_by_place(modules: Mapping[str, nn.Module]) -> Iterator[list[tuple[nn.Module, Forward]]]:
    """Those that stand in the same place of every layer."""
    found = [
        (name.rpartition(".")[2], module, lean)
        for name, module in modules.items()
        if "RMSNorm" in type(module).__name__ and (lean := _lean_norm(module))
    ]
    for _, norms in groupby(sorted(found, key=lambda one: one[0]), key=lambda one: one[0]):
        yield [(module, lean) for _, module, lean in norms]


def _lean_norm(module: Any) -> Forward | None:
    """Of norms by the root of the mean square, whose weights are as they stand, or lack one (Gemma)."""
    weight, usual = getattr(module, "weight", None), module.forward
    if weight is None or weight.dtype != torch.float32:
        return None
    epsilon: Any = getattr(module, "variance_epsilon", None) or getattr(module, "eps", None) or 0.0
    x_I = torch.linspace(-2, 2, len(weight))[None]

    def gives(weight_I: Tensor) -> bool:
        return _holds(lambda: torch.equal(module(x_I), _norm(x_I, weight_I, epsilon)[0]))

    lacks_one = not gives(weight)
    if lacks_one and not gives(weight + 1.0):
        return None

    def forward(x_I: Tensor) -> Tensor:
        if x_I.dtype != torch.float32:
            return torch.as_tensor(usual(x_I))
        return _applied(_Norm, x_I, module.weight + 1.0 if lacks_one else module.weight, epsilon)

    return forward


def _norm(x_I: Tensor, weight_I: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    scale = torch.rsqrt(x_I.pow(2).mean(-1, keepdim=True) + epsilon)
    return (x_I * scale).mul_(weight_I), scale


class _Norm(torch.autograd.Function):
    """Holds its input and a number for each position; gives bfloat16."""

    @staticmethod
    def forward(ctx: Any, x_I: Tensor, weight_I: Tensor, epsilon: float) -> Tensor:
        normed_I, scale = _norm(x_I, weight_I, epsilon)
        ctx.save_for_backward(x_I, scale, weight_I)
        return normed_I.to(torch.bfloat16)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_I: Tensor) -> tuple[Tensor | None, ...]:
        x_I, scale, weight_I = ctx.saved_tensors
        unit_I, gradient_I = x_I * scale, gradient_I.to(x_I.dtype)
        by_unit_I = gradient_I * unit_I
        to_weight_I = by_unit_I.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        along = by_unit_I.mul_(weight_I).mean(-1, keepdim=True)
        to_x_I = (gradient_I * weight_I).sub_(unit_I.mul_(along)).mul_(scale)
        return to_x_I, to_weight_I, None


@contextmanager
def checkpointed_layers(model: "PreTrainedModel", *, keep_products: bool = False) -> Iterator[None]:
    """Checkpoint the activations of every layer for a while, where it is in training mode.

    Args:
        model: a causal or denoising language model.
        keep_products: hold what matmuls and attention gave, so that only what is cheap is computed
            twice: norms, activation functions, rotations, sums and the weights' copies in bfloat16.

    Raises:
        ModelError: this architecture cannot.
    """
    if not model.supports_gradient_checkpointing:
        raise ModelError(
            f"{type(model).__name__}: its layers cannot be computed twice; "
            "leave out launch.gradient_checkpointing"
        )
    # By transformers 5.23 both were renamed, and their former names warn.
    names = ("activation_checkpointing", "gradient_checkpointing")
    name = next(name for name in names if hasattr(model, f"{name}_enable"))
    enable: Any = getattr(model, f"{name}_enable")
    contexts = {"context_fn": partial(create_selective_checkpoint_contexts, _choose)} if keep_products else {}
    enable({"use_reentrant": False, **contexts})
    try:
        yield
    finally:
        getattr(model, f"{name}_disable")()


def _choose(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Products are known by their names: aten::addmm, aten::_scaled_dot_product_flash_attention_for_cpu."""
    name = operation.name().partition(".")[0]
    dear = name.endswith("mm") or "attention" in name or "attn" in name
    return CheckpointPolicy.MUST_SAVE if dear else CheckpointPolicy.PREFER_RECOMPUTE


@contextmanager
def compiled_layers(model: "PreTrainedModel") -> Iterator[None]:
    """Compile every layer for a while; they share their code, so that one compilation serves all.

    Shapes are dynamic from the first batch on: otherwise the second shape is compiled anew, and a run that
    was killed goes on with other code than it would have had, and with other bits.

    Raises:
        ModelError: it is not known which modules are layers, or the compiler failed.
    """
    from torch._dynamo.exc import TorchDynamoException

    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ModelError(
            f"{type(model).__name__}: its layers are not known by name; leave out launch.compile"
        )
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        yield
    except TorchDynamoException as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"torch.compile failed: {reason.strip()}; install a C++ compiler where it asks for one, "
            "or leave out launch.compile"
        ) from error
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


@contextmanager
def plain_layers(model: "PreTrainedModel") -> Iterator[None]:
    """Have compiled layers run as they are written, for a while: decoding would compile them anew."""
    compiled = {
        module: module._compiled_call_impl
        for module in model.modules()
        if module._compiled_call_impl is not None
    }
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, implementation in compiled.items():
            module._compiled_call_impl = implementation
