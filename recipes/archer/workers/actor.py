"""The actor: one optimizer step whose result does not depend on how its rows were cut.

Upstream's ``DataParallelPPOActor`` averages per micro-batch and then over micro-batches; here every term is
divided by its count over the whole optimizer step, all micro-batches and all workers.  The optimizer step
and, where padding is removed, the forward pass stay upstream's.
"""

from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from recipes.archer.checkpoints.shards import own_part
from recipes.archer.losses.aggregation import denominator
from recipes.archer.losses.constants import loss_config_from
from recipes.archer.losses.objective import step_loss
from recipes.archer.losses.selection import select_by_covariance
from recipes.archer.losses.token_stats import TokenStats, empty_stats, merge_stats
from recipes.archer.workers.fsdp import GradientExchange, reshard
from recipes.archer.workers.micro_batches import micro_batches
from verl import DataProto
from verl.utils.device import get_device_id
from verl.workers.actor import DataParallelPPOActor

UPDATE_KEYS = ("responses", "response_mask", "input_ids", "attention_mask", "position_ids", "advantages", "row")
OPTIONAL_KEYS = ("old_log_probs", "ref_log_prob", "rollout_log_probs", "rollout_entropy")


class ArcherActor(DataParallelPPOActor):
    """Policy (with an optimizer) or reference policy (without)."""

    def __init__(self, config, actor_module, actor_optimizer=None):
        super().__init__(config, actor_module, actor_optimizer)
        self.loss_config = loss_config_from(config) if actor_optimizer is not None else None
        if actor_optimizer is not None:
            whole = not config.fsdp_config.reshard_after_forward
            self.exchange = GradientExchange(actor_module, config.delay_gradient_sync, whole)
        self.dp_size = dist.get_world_size() // self.ulysses_sequence_parallel_size
        self.num_applied = self.num_skipped = self.num_skipped_last = 0  # optimizer updates of the last step

    def _forward_micro_batch(self, micro_batch, temperature, calculate_entropy=False):
        """Upstream's with padding removed; otherwise rows are trimmed, and a prompt is computed once for its rows.

        Returns:
            entropy and log-probabilities, (rows, response_length) each, 0 where there is no token.
        """
        if self.use_remove_padding:
            return super()._forward_micro_batch(micro_batch, temperature, calculate_entropy)
        mask, response_length = micro_batch["attention_mask"], micro_batch["responses"].shape[-1]
        prompt_length = mask.shape[1] - response_length
        used = mask.any(0).nonzero()
        # one column of the responses at least: FSDP's ranks must call the model alike, also one without a token
        first, last = int(used[0]), max(int(used[-1]), prompt_length) + 1
        rows, columns = mask[:, prompt_length:].nonzero(as_tuple=True)
        with torch.autocast(self.device_name, torch.bfloat16, enabled=self.device_name != "cpu"):
            output = self.actor_module(
                input_ids=micro_batch["input_ids"][:, first:last],
                attention_mask=mask[:, first:last],
                position_ids=micro_batch["position_ids"][:, first:last],
                positions=(rows, columns + prompt_length - first),
                temperature=temperature,
                prompt_length=prompt_length - first if response_length else None,
            )
        empty = output.log_probs.new_zeros(mask.shape[0], response_length)
        return empty.index_put((rows, columns), output.entropy), empty.index_put((rows, columns), output.log_probs)

    def compute_log_prob(self, data: DataProto, calculate_entropy=False):
        """Upstream's with padding removed; otherwise the same, over micro-batches of like length."""
        if self.use_remove_padding:
            output = super().compute_log_prob(data, calculate_entropy)
        else:
            meta = data.meta_info
            size = None if meta["use_dynamic_bsz"] else meta["micro_batch_size"]
            output = self._log_probs(data.batch, meta["temperature"], meta["max_token_len"], size, calculate_entropy)
        reshard(self.actor_module)
        return output

    @torch.no_grad()
    def _log_probs(self, batch, temperature: float, max_tokens: int, size: int | None, calculate_entropy=False):
        self.actor_module.eval()
        shape, device = batch["responses"].shape, batch["responses"].device
        log_probs, entropy = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        for rows in self._cut(batch["attention_mask"], max_tokens, size):
            entropy_of_rows, log_probs[rows] = self._forward_micro_batch(batch[rows], temperature, calculate_entropy)
            if calculate_entropy:
                entropy[rows] = entropy_of_rows
        return log_probs, entropy if calculate_entropy else None

    def update_policy(self, data: DataProto) -> dict[str, float | None]:
        """All optimizer updates of a step: ``ppo_epochs`` passes over the mini-batches.

        Args:
            data: this worker's share of every mini-batch, one share after the other (the trainer deals the
                rows out that way), with the keys above.  Without ``old_log_probs`` the batch is on-policy:
                the ratio is 1 and its log-probabilities are those of this very pass.

        A mini-batch without a response token, on any worker, is no update: its gradient would be zero, but Adam's
        momentum and the weight decay would still move the parameters.

        Returns:
            Metrics over all tokens of the step and all workers; None where nothing was counted.  Loss and norm are
            those of applied updates; of a skipped one only what is finite counts, and ``actor/num_skipped`` tells.
        """
        keys = UPDATE_KEYS + tuple(k for k in OPTIONAL_KEYS if k in data.batch.keys())  # noqa: SIM118
        batch, temperature = data.batch.select(*keys), data.meta_info["temperature"]
        if (coefficient := data.meta_info.get("entropy_coeff")) is not None:  # the entropy control's, of this step
            self.loss_config = replace(self.loss_config, entropy_coeff=coefficient)
        self.num_applied = self.num_skipped = self.num_skipped_last = 0
        parts, losses, grad_norms = [empty_stats(get_device_id())], [], []
        for _ in range(self.config.ppo_epochs):
            for mini_batch in batch.split(self.config.ppo_mini_batch_size):
                total = self._total(mini_batch["response_mask"])
                if not total:
                    continue
                loss, stats, grad_norm = self._update(mini_batch, total, temperature)
                if self.num_skipped_last and not stats.finite:
                    continue  # the skip is counted; a figure that is not finite here would count once more, as another
                parts.append(stats)
                if not self.num_skipped_last:
                    losses.append(loss)
                    grad_norms.append(grad_norm)
        self.actor_optimizer.zero_grad()
        stats, loss = self._over_workers(merge_stats(parts), torch.stack(losses).mean() if losses else None)
        return {
            **stats.metrics(),
            "actor/pg_loss": None if loss is None else float(loss),
            "actor/grad_norm": float(torch.stack(grad_norms).mean()) if grad_norms else None,
            "actor/num_updates": self.num_applied,
            "actor/num_skipped": self.num_skipped,
            "actor/num_skipped_last": self.num_skipped_last,
        }

    def _update(self, mini_batch, total: float, temperature: float) -> tuple[Tensor, TokenStats, Tensor]:
        """One optimizer step over the mini-batch of all workers: (policy loss share, sums, gradient norm)."""
        max_tokens = self.config.ppo_max_token_len_per_gpu
        selected = self._select(mini_batch, temperature, max_tokens)
        self.actor_module.train()
        self.actor_optimizer.zero_grad()
        self.exchange.begin()
        parts, losses, finite = [], [], []
        cuts = self._cut(mini_batch["attention_mask"], max_tokens, self._rows_a_micro_batch())
        for number, rows in enumerate(cuts, start=1):
            micro_batch = mini_batch[rows]
            entropy, log_prob = self._forward_micro_batch(micro_batch, temperature, calculate_entropy=True)
            chosen = None if selected is None else selected[rows]
            loss, policy_loss, stats = step_loss(micro_batch, log_prob, entropy, total, self.loss_config, chosen)
            self.exchange.before_backward(is_last=number == len(cuts))
            # FSDP averages gradients over the workers; each loss already is a share of the whole step's
            (loss * self.dp_size).backward()
            parts.append(stats)
            losses.append(policy_loss)
            finite.append(torch.isfinite(loss.detach()))
        if not torch.stack(finite).all():
            self._spoil_gradient()
        grad_norm = self._optimizer_step().detach()
        applied = bool(torch.isfinite(grad_norm))
        self.num_applied, self.num_skipped = self.num_applied + applied, self.num_skipped + (not applied)
        self.num_skipped_last = 0 if applied else self.num_skipped_last + 1
        return torch.stack(losses).sum(), merge_stats(parts), grad_norm

    def _spoil_gradient(self) -> None:
        """After a loss that is not finite: its gradient may be, and only this rank knows; the norm tells every rank."""
        gradients = (p.grad for p in self.actor_module.parameters() if p.grad is not None)
        for gradient in gradients:
            own_part(gradient).fill_(float("nan"))

    def _select(self, mini_batch, temperature: float, max_tokens: int) -> Tensor | None:
        """Tokens that clip_cov and kl_cov single out, over the whole optimizer step; None for other losses."""
        if self.loss_config.policy_loss not in ("clip_cov", "kl_cov"):
            return None
        log_prob, _ = self._log_probs(mini_batch, temperature, max_tokens, self._rows_a_micro_batch())
        return select_by_covariance(mini_batch, log_prob, self.loss_config)

    def _cut(self, attention_mask: Tensor, max_tokens: int, size: int | None) -> list[Tensor]:
        """Rows of each micro-batch: ``size`` rows, or where that is None so many that they have ``max_tokens``."""
        if size is not None:
            return list(torch.argsort(attention_mask.sum(-1), stable=True).split(size))
        return micro_batches(attention_mask, max_tokens)

    def _rows_a_micro_batch(self) -> int | None:
        return None if self.config.use_dynamic_bsz else self.config.ppo_micro_batch_size_per_gpu

    def _total(self, response_mask: Tensor) -> float:
        """What the step's loss is divided by, over all workers' rows; 0 where there is no response token."""
        count = denominator(response_mask, self.loss_config.loss_agg_mode).to(get_device_id(), torch.float64)
        if self.dp_size > 1:
            dist.all_reduce(count)
            count = count / self.ulysses_sequence_parallel_size
        return float(count)

    def _over_workers(self, stats: TokenStats, loss: Tensor | None) -> tuple[TokenStats, Tensor | None]:
        """Sums over all workers; those of one sequence-parallel group hold the same rows and count once.

        No loss: no worker has one.
        """
        if dist.get_world_size() > 1 and self.num_applied + self.num_skipped:
            dist.all_reduce(stats.sums)
            dist.all_reduce(stats.peaks, op=dist.ReduceOp.MAX)
            stats.sums.div_(self.ulysses_sequence_parallel_size)
        if dist.get_world_size() > 1 and loss is not None:
            dist.all_reduce(loss)
            loss = loss / self.ulysses_sequence_parallel_size
        return stats, loss
