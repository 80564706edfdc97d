"""Log-probability and entropy of chosen positions, without the whole batch's logits.

64 x 16 responses of 4,096 tokens over a vocabulary of 151,936 are 2.5 TB of fp32 logits.  Only the hidden
states of the positions asked for are multiplied with the head, in chunks, and the backward pass makes each
chunk's logits again instead of keeping them: four products where there were three, and memory that does not
grow with the number of positions.
"""

from collections.abc import Iterator

import torch

CHUNK_BYTES = 256 * 2**20  # of fp32 logits at a time; 441 positions of Qwen3's vocabulary
KEPT_BYTES = 64 * 2**20  # so few may stay until the backward pass, which saves the fourth product


def chunk_rows(vocab_size: int) -> int:
    """Positions a chunk: as many as keep its fp32 logits under ``CHUNK_BYTES``, at least one."""
    return max(1, CHUNK_BYTES // (4 * vocab_size))


class _ChunkedHead(torch.autograd.Function):
    """hidden, weight -> (log-prob, entropy); logits live for one chunk at a time, in both directions.

    With z the logits, p = softmax(z) and H the entropy: d logp_y / dz = onehot(y) - p and
    dH / dz = -p (log p + H).  Two tensors of a chunk's size are alive at most, the rest is done in place.
    """

    @staticmethod
    def forward(ctx, hidden, weight, labels, temperature):
        log_prob, entropy, log_norm = hidden.new_empty((3, hidden.shape[0]), dtype=torch.float32)
        for rows in _chunks(hidden, weight):
            logits = _logits(hidden[rows], weight, temperature)
            # not log_softmax: on a CPU it adds up a row's 151,936 terms in fp32 one by one, and is off by 3e-4
            log_norm[rows] = logits.logsumexp(-1)
            log_p = logits.sub_(log_norm[rows, None])
            log_prob[rows] = log_p.gather(-1, labels[rows, None])[:, 0]
            p = log_p.exp()
            total = p.sum(-1)  # off 1 as log_norm is off by its rounding; divided by, that cancels out of log p + H
            entropy[rows] = -p.mul_(log_p).sum(-1) / total
        few = 0 < 4 * hidden.shape[0] * weight.shape[0] <= KEPT_BYTES
        ctx.save_for_backward(hidden, weight, labels, entropy, log_norm, log_p if few else None)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return log_prob.clone(), entropy.clone()

    @staticmethod
    def backward(ctx, grad_log_prob, grad_entropy):
        hidden, weight, labels, entropy, log_norm, kept = ctx.saved_tensors
        nothing = torch.zeros_like(entropy)
        to_log_prob = nothing if grad_log_prob is None else grad_log_prob / ctx.temperature
        to_entropy = nothing if grad_entropy is None else grad_entropy / ctx.temperature
        offset = to_log_prob + to_entropy * entropy
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for rows in _chunks(hidden, weight):
            log_p = _logits(hidden[rows], weight, ctx.temperature).sub_(log_norm[rows, None]) if kept is None else kept
            grad = log_p.exp()
            if grad_entropy is None:
                grad.mul_(-offset[rows, None])
            else:  # -p (offset + to_entropy log p)
                place = log_p if kept is None else None
                grad.mul_(torch.addcmul(-offset[rows, None], log_p, -to_entropy[rows, None], out=place))
            grad = grad.scatter_add_(1, labels[rows, None], to_log_prob[rows, None]).to(hidden.dtype)
            grad_hidden[rows] = grad @ weight
            if grad_weight is None:
                continue
            if hidden.dtype == grad_weight.dtype:
                grad_weight.addmm_(grad.T, hidden[rows])
            else:
                grad_weight += grad.T @ hidden[rows]
        return grad_hidden, grad_weight if grad_weight is None else grad_weight.to(weight.dtype), None, None


def _chunks(hidden: torch.Tensor, weight: torch.Tensor) -> Iterator[slice]:
    size = chunk_rows(weight.shape[0])
    return (slice(start, start + size) for start in range(0, hidden.shape[0], size))


def _logits(hidden: torch.Tensor, weight: torch.Tensor, temperature: float) -> torch.Tensor:
    logits = (hidden @ weight.T).float()
    return logits if temperature == 1 else logits.div_(temperature)


def head_log_prob_and_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of ``labels`` and entropy under softmax(hidden @ weight.T / temperature).

    Args:
        hidden: (positions, hidden size) final hidden states.
        weight: (vocabulary, hidden size) of the language-model head.
        labels: (positions,) token ids.
        temperature: divides the logits; positive.

    Returns:
        Two (positions,) fp32 tensors with gradient to ``hidden`` and ``weight``.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):  # cast here: a written-out backward pass does not run under it
        hidden, weight = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (hidden, weight))
    return _ChunkedHead.apply(hidden, weight, labels, temperature)
