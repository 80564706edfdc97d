"""Operations of a decoder layer with their backward passes written out, in fp32 on a CPU.

Composed of torch's operators, an RMS norm alone is a dozen passes over its input; a small model is little else.
"""

import torch
from torch import Tensor


def _times(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T by oneDNN; torch's own choice, MKL, does without AVX-512 where the processor is not Intel's."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return _times(x, weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad
        return _times(grad, weight.T) if needs_x else None, _times(grad.T, x.T) if needs_weight else None


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T for (tokens, inputs) and (outputs, inputs); (tokens, outputs).

    oneDNN compiles a kernel for each number of tokens, half a millisecond: let it be one of few.
    """
    return _Linear.apply(x, weight)


class _RMSNorm(torch.autograd.Function):
    """With r = 1 / rms(x) and u = r x: y = w u, and dx = r (w dy - u mean(u w dy))."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(ctx, grad):
        unit, scale, weight = ctx.saved_tensors
        product = grad * unit
        along = (product @ weight).unsqueeze(-1).div_(unit.shape[-1])
        grad_x = torch.addcmul(grad * weight, unit, along, value=-1).mul_(scale)
        return grad_x, product.flatten(0, -2).sum(0), None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight * x / sqrt(mean(x²) + eps) over the last dimension, whose length ``weight`` has."""
    return _RMSNorm.apply(x, weight, eps)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-sign)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=sign)
    return out


class _Rotary(torch.autograd.Function):
    """A rotation: its backward pass is the one by the negative angle."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1)

    @staticmethod
    def backward(ctx, grad):
        return _rotated(grad, *ctx.saved_tensors, -1), None, None


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of (tokens, heads, size); cos and sin are (tokens, 1, size), their halves alike."""
    return _Rotary.apply(x, cos, sin)


class _Moved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, there, back, count):
        ctx.back, ctx.count = back, count
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx, grad):
        out = grad.index_select(0, ctx.back)
        out[ctx.count :] = 0
        return out, None, None, None


def moved(x: Tensor, there: Tensor, back: Tensor, count: int) -> Tensor:
    """Rows of ``x`` in other places, each in one: x[there]; from there ``back`` leads again.

    A gradient of indexing would be added up row by row, in case one were taken twice; this one is fetched.

    Args:
        x: (rows, …).
        there: (places,) row for each place.  One that stands for nothing has any, and its gradient must be zero.
        back: (rows,) place of each row, any for rows from ``count`` onwards, which get no gradient.
    """
    return _Moved.apply(x, there, back, count)
