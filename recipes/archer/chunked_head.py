"""Log-probability and entropy of chosen positions, without the whole batch's logits.

64 x 16 responses of 4,096 tokens over a vocabulary of 151,936 are 2.5 TB of fp32 logits.  Only the hidden
states of the positions asked for are multiplied with the head, in chunks, and the backward pass makes each
chunk's logits again instead of keeping them.
"""

import torch

CHUNK_BYTES = 512 * 2**20  # of fp32 logits at a time; 880 positions of Qwen3's vocabulary


def chunk_rows(vocab_size: int) -> int:
    """Positions a chunk: as many as keep its fp32 logits under ``CHUNK_BYTES``, at least one."""
    return max(1, CHUNK_BYTES // (4 * vocab_size))


def log_prob_and_entropy(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The plain formula: log softmax at the labels, and the entropy of the softmax in nats.

    Args:
        logits: (positions, vocabulary), any float dtype.
        labels: (positions,) token ids.

    Returns:
        Two (positions,) tensors in fp32.
    """
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    return log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1), entropy


class _ChunkedHead(torch.autograd.Function):
    """hidden, weight -> (log-prob, entropy); logits live for one chunk at a time, in both directions.

    With z the logits, p = softmax(z) and H the entropy: d logp_y / dz = onehot(y) - p and
    dH / dz = -p (log p + H).
    """

    @staticmethod
    def forward(ctx, hidden, weight, labels, temperature):
        out = hidden.new_empty((2, hidden.shape[0]), dtype=torch.float32)
        for rows in torch.arange(hidden.shape[0], device=hidden.device).split(chunk_rows(weight.shape[0])):
            logits = _logits(hidden[rows], weight, temperature)
            out[0, rows], out[1, rows] = log_prob_and_entropy(logits, labels[rows])
        ctx.save_for_backward(hidden, weight, labels, out[1])
        ctx.temperature = temperature
        return out[0].clone(), out[1].clone()

    @staticmethod
    def backward(ctx, grad_log_prob, grad_entropy):
        hidden, weight, labels, entropy = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for rows in torch.arange(hidden.shape[0], device=hidden.device).split(chunk_rows(weight.shape[0])):
            log_p = torch.log_softmax(_logits(hidden[rows], weight, ctx.temperature), dim=-1)
            p = log_p.exp()
            # in place from here on: this chunk is the memory peak
            log_p.add_(entropy[rows, None]).mul_(grad_entropy[rows, None])
            log_p.add_(grad_log_prob[rows, None]).mul_(p).neg_()
            log_p.scatter_add_(1, labels[rows, None], grad_log_prob[rows, None].to(log_p.dtype))
            grad_logits = log_p.div_(ctx.temperature).to(hidden.dtype)
            grad_hidden[rows] = grad_logits @ weight
            grad_weight += grad_logits.T @ hidden[rows]
        return grad_hidden, grad_weight.to(weight.dtype), None, None


def _logits(hidden: torch.Tensor, weight: torch.Tensor, temperature: float) -> torch.Tensor:
    return (hidden @ weight.T).float().div_(temperature)


def head_log_prob_and_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of ``labels`` and entropy under softmax(hidden @ weight.T / temperature).

    One chunk's worth of positions goes the plain way (autograd keeps the logits, which saves a product);
    more go chunk by chunk.

    Args:
        hidden: (positions, hidden size) final hidden states.
        weight: (vocabulary, hidden size) of the language-model head.
        labels: (positions,) token ids.
        temperature: divides the logits; positive.

    Returns:
        Two (positions,) fp32 tensors with gradient to ``hidden`` and ``weight``.
    """
    if hidden.shape[0] <= chunk_rows(weight.shape[0]) and not hidden.is_cuda:
        return log_prob_and_entropy(_logits(hidden, weight, temperature), labels)
    return _ChunkedHead.apply(hidden, weight, labels, temperature)
