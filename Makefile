# make setup | train | test | test-faults | test-gpu-stack | lint | bench | lock
.PHONY: help setup train test test-faults test-gpu-stack lint bench lock
python := $(or $(VENV),.venv)/bin/python

help: ## this list
	@sed -n "s/^\([a-z-]*\):.*## /\1\t/p" Makefile | expand -t 16

setup: ## the environment, from a lock file
	@bash tools/setup.sh

# the embedded job, the tests and the benchmarks are for a CPU, also where there is a GPU
train test test-faults bench: export DEVICE ?= cpu

train: setup ## the embedded job: a tiny Qwen3 learns arithmetic on the CPU
	@bash scripts/train/run_archer2.0_qwen3_tiny_cpu.sh

lint: setup
	$(python) -P -m ruff check . $$(git ls-files verl)
	$(python) -P -m mypy
	$(python) tools/vendor_verl.py check

# two files of tests at a time, each with a thread; in their order, so that whole runs do not come last and alone
test: setup lint ## lint, unit tests, end-to-end runs
	OMP_NUM_THREADS=1 $(python) -P -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations 15 -m "not gpu and not fault"

test-faults: setup ## kills, stops and worker deaths at many points of real runs (long)
	$(python) -P -m pytest -q -m fault

# what of the ordinary tests runs models: with this lock under FSDP1, as on GPUs
stack := tests/gpu_stack $(addprefix tests/recipes/archer/,losses workers checkpoints/test_shards.py)
gpu_venv := $(or $(VENV),.venv-gpu)
test-gpu-stack: ## the GPUs' lock on any machine: imports, FSDP1, experiments (an environment of 7 GB beside the CPU's)
	@VENV=$(gpu_venv) DEVICE=gpu bash tools/setup.sh
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(gpu_venv)/bin/python -P -m pytest -q -n 2 --dist loadfile --durations 10 $(stack)

bench: setup ## speed and memory, side by side, as ratios
	PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(python) -P -m benchmarks.run

lock: ## resolves requirements/*.in again
	@bash tools/lock.sh
