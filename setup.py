"""Packaging: the recipe, the vendored trainer and vLLM's plugin entry point.

verl is not a requirement: its files are unpacked next to ours (tools/vendor_verl.py), and the PyPI
package would collide with them.  Its requirements are in requirements/*.lock.
"""

from setuptools import find_packages, setup

setup(
    name="archer",
    version="0.1.0",
    description="Reinforcement-learning post-training of small language models on mathematics, over verl",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["recipes", "recipes.*", "verl", "verl.*"]),
    include_package_data=True,
    entry_points={
        "console_scripts": ["archer = recipes.archer.commands.cli:main"],
        "vllm.general_plugins": ["archer_qwen3 = verl.third_party.vllm:register_qwen3"],
    },
)
