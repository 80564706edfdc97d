"""The FSDP worker of the recipe: verl's, with our actor, seeded rollouts, whole checkpoints and the CPU device.

What verl 0.5.0 needs to start on a host without an accelerator is in :func:`prepare_process`; it changes
nothing on a GPU.
"""

import gc
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from omegaconf import open_dict
from transformers import GenerationConfig

from recipes.archer.checkpoints.forking import fork_shards
from recipes.archer.checkpoints.reference import load_reference, save_reference
from recipes.archer.checkpoints.shards import WorkerState, load_shards, reset_moments, save_shards, written_by_all
from recipes.archer.workers.actor import ArcherActor
from recipes.archer.workers.deadlines import GROUP_TIMEOUT, beat
from recipes.archer.workers.fsdp import kept_whole
from recipes.archer.workers.model_forward import bind_token_forward
from recipes.archer.workers.refresh import refresh
from verl import DataProto
from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.device import get_device_id, get_device_name
from verl.workers import fsdp_workers


def prepare_process() -> None:
    """Readies this process for verl's worker: seeded rollouts, and on CPU the seams that verl lacks.

    verl asks for the process group ``cpu:gloo,cpu:gloo``, which torch refuses, but joins one that exists; and
    it keeps the reference policy in pinned host memory, which needs an accelerator and on CPU saves nothing.
    """
    from recipes.archer.rollout.engine import install  # not above: the driver has this class, and vLLM loads in seconds

    install()
    # every group that is made from now on, torch's own and vLLM's, whoever leaves the time out
    dist.distributed_c10d.default_pg_timeout = dist.distributed_c10d.default_pg_nccl_timeout = GROUP_TIMEOUT
    if get_device_name() != "cpu":
        return
    fsdp_workers.CPUOffloadPolicy = lambda **_: None
    if not dist.is_initialized():
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        meet = os.environ.get("DIST_INIT_METHOD", "env://")  # as verl does on a GPU
        dist.init_process_group("gloo", rank=rank, world_size=size, init_method=meet)


class _GatedScheduler:
    """A learning-rate schedule that stands still in a step without one applied update."""

    def __init__(self, scheduler, applied):
        self._scheduler, self._applied = scheduler, applied

    def __getattr__(self, name):
        return getattr(self._scheduler, name)

    def step(self) -> None:
        if self._applied():
            self._scheduler.step()


_IN_PROCESS: dict[str, "ArcherWorker"] = {}  # by role: verl puts those of one device into one process, and apart


class ArcherWorker(fsdp_workers.ActorRolloutRefWorker):
    """Actor, rollout engine and reference policy of one rank."""

    def __init__(self, config, role: str, **kwargs):
        prepare_process()
        beat(int(os.environ["RANK"]))
        torch.manual_seed(config.get("seed", 0))
        super().__init__(config, role, **kwargs)
        self._reference_moved = False
        _IN_PROCESS[role] = self

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self):
        """Builds model, optimizer and engine as verl does, then puts our actor in the place of verl's."""
        super().init_model()
        self.generation_config = self.generation_config or GenerationConfig()
        self.generation_config.eos_token_id = list(self.config.rollout.stop_token_ids)
        if self._is_actor:
            self.actor = self._own_actor(self.config.actor, self.actor_module_fsdp, self.actor_optimizer)
            applied = self.actor
            self.actor_lr_scheduler = _GatedScheduler(self.actor_lr_scheduler, lambda: applied.num_applied > 0)
        if self._is_ref:
            self.ref_policy = self._own_actor(self.config.ref, self.ref_module_fsdp, None)
        gc.collect()
        gc.freeze()  # a million objects of imported modules that no collection needs to look at again

    def _build_model_optimizer(self, *arguments, fsdp_config, role="actor", **others):
        """verl's, but FSDP1 heeds ``reshard_after_forward`` for the actor; the reference is on the host meanwhile."""
        with kept_whole(role == "actor" and not fsdp_config.reshard_after_forward):
            return super()._build_model_optimizer(*arguments, fsdp_config=fsdp_config, role=role, **others)

    def _own_actor(self, config, module, optimizer) -> ArcherActor:
        with open_dict(config):
            config.use_fused_kernels = True  # our forward answers as upstream's fused kernels do
        bind_token_forward(module)
        return ArcherActor(config=config, actor_module=module, actor_optimizer=optimizer)

    @register(dispatch_mode=Dispatch.DP_COMPUTE_PROTO)
    def update_actor(self, data: DataProto) -> DataProto:
        """verl's update; figures that a device cannot know, or of an update that was none, are None, not invented."""
        output = super().update_actor(data)
        metrics = output.meta_info["metrics"]
        if not self.actor.num_applied + self.actor.num_skipped:
            metrics["perf/mfu/actor"] = metrics["actor/lr"] = None
        if get_device_name() == "cpu":  # its peak is unknown, and nothing is reserved apart from what is resident
            metrics["perf/mfu/actor"] = None
            metrics["perf/max_memory_reserved_gb"] = None
        return output

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_state(self, path: str) -> str | None:
        """Writes model, optimizer, schedule and random state into the folder ``path``; all ranks take part.

        Returns:
            What the disk refused, the same on every rank; None when all was written.
        """

        def write() -> None:
            with self._on_device():
                save_shards(path, self._state())
            if self._reference is not None and self._keeps_reference:
                save_reference(path, self._reference)
            if self.rank == 0:
                model_path = os.path.join(path, "model_config")
                self.actor_model_config.save_pretrained(model_path)
                self.generation_config.to_json_file(os.path.join(model_path, "generation_config.json"))
                self.tokenizer.save_pretrained(model_path)

        return written_by_all(write)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def leave_mark(self, path: str) -> tuple[str, str | None]:
        """Makes an empty file of this rank's in the folder ``path``.

        Returns:
            The machine's name, and what its disk has against the file.
        """
        try:
            Path(path, f"rank_{self.rank}").touch()
        except OSError as error:
            return socket.gethostname(), str(error)
        return socket.gethostname(), None

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def load_state(self, path: str, trust_old: bool = False, fresh_optimizer: bool = False) -> None:
        """Reads back what :meth:`save_state` wrote, also with another number of workers."""
        with self._on_device():
            load_shards(path, self._state(), trust_old, fresh_optimizer)
        if self._reference is not None:
            self._reference_moved = load_reference(path, self._reference)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def fork_state(self, path: str, with_optimizer: bool) -> None:
        """Reads parameters, and the optimizer's moments if wanted, of another run's checkpoint."""
        with self._on_device():
            fork_shards(path, self._state(), with_optimizer)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def refresh_reference(self, mix: float, reset_optimizer: bool) -> None:
        """Brings the reference policy up to the policy; see ``refresh.py``."""
        with self._on_device():
            refresh(self.actor_module_fsdp, self._reference, mix)
            if reset_optimizer:
                reset_moments(self.actor_optimizer)
        self._reference_moved = True

    @property
    def _reference(self) -> torch.nn.Module | None:
        """The reference policy's model, which another worker of this process holds; None where there is none."""
        return _IN_PROCESS["ref"].ref_module_fsdp if "ref" in _IN_PROCESS else None

    @property
    def _keeps_reference(self) -> bool:
        """Whether a checkpoint needs it: it is not, or will not be, what the model's folder holds."""
        return self._reference_moved or self.config.ref.refresh.every is not None

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Parameters and moments where a state is made of them; with offloading, they wait in the host's memory."""
        if self._is_offload_param:
            fsdp_workers.load_fsdp_model_to_gpu(self.actor_module_fsdp)
        if self._is_offload_optimizer:
            fsdp_workers.load_fsdp_optimizer(optimizer=self.actor_optimizer, device_id=get_device_id())
        try:
            yield
        finally:
            if self._is_offload_param:
                fsdp_workers.offload_fsdp_model_to_cpu(self.actor_module_fsdp)
            if self._is_offload_optimizer:
                fsdp_workers.offload_fsdp_optimizer(optimizer=self.actor_optimizer)

    def _state(self) -> WorkerState:
        return WorkerState(
            model=self.actor_module_fsdp,
            optimizer=self.actor_optimizer,
            scheduler=self.actor_lr_scheduler,
            rank=self.rank,
        )
