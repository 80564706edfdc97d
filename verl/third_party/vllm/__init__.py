"""vLLM gate of the trainer, and the registration of Qwen3 with vLLM 0.7.x.

Replaces upstream's ``verl/third_party/vllm/__init__.py``: what upstream exports (``LLM``,
``parallel_state``, ``vllm_version``) is exported here too.  Every process of the trainer that builds an
engine imports this module, and vLLM calls :func:`register_qwen3` itself through the entry point group
``vllm.general_plugins``, so that plain vLLM finds the model as well.
"""

from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from verl.utils.import_utils import is_sglang_available

QWEN3 = "Qwen3ForCausalLM"
OLDEST = Version("0.7.0")
FIRST_NOT_PATCHED = Version("0.8.0")  # 0.8.0-0.8.4 lack Qwen3 too, but have another model interface


def get_version(package: str) -> str | None:
    """Installed version of ``package``, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def register_qwen3() -> bool:
    """Makes vLLM 0.7.x load Qwen3 checkpoints with our class; calling it again changes nothing.

    Returns:
        True where our class is registered, False where vLLM is newer (or absent) and is left alone.

    Raises:
        RuntimeError: the registration did not take.
    """
    installed = get_version("vllm")
    if installed is None or not OLDEST <= Version(Version(installed).base_version) < FIRST_NOT_PATCHED:
        return False
    from vllm import ModelRegistry

    from verl.third_party.vllm.qwen3 import Qwen3ForCausalLM

    def registered():
        entry = ModelRegistry.models.get(QWEN3)
        return getattr(entry, "model_cls", None) is Qwen3ForCausalLM

    if not registered():
        ModelRegistry.register_model(QWEN3, Qwen3ForCausalLM)
    if not registered():
        raise RuntimeError(f"vLLM {installed} did not take the registration of {QWEN3}; Qwen3 cannot be served")
    return True


vllm_version = get_version("vllm")
if vllm_version is None:
    if not is_sglang_available():
        raise ValueError("no rollout engine: install vllm (0.7.3 is what this project is built on; `make setup`)")
elif Version(vllm_version) < OLDEST:
    raise ValueError(f"vllm {vllm_version} is not supported; install vllm 0.7.3 (`make setup`)")
else:
    from vllm import LLM
    from vllm.distributed import parallel_state

    register_qwen3()

__all__ = ["LLM", "parallel_state", "register_qwen3", "vllm_version"]
