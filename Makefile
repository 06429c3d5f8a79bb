# make install    make the environment .venv; all other targets do so first, except
#                 gpu-check and gpu-wheels
# make demo       train a small detector on few boxes, then with image labels and
#                 without; measure both and draw detections and pseudo boxes (minutes on a CPU)
# make test       lint, then the fast tests in parallel processes (10 minutes)
# make test-all   lint, then all tests (30 minutes)
# make lint       ruff check and ruff format --check
# make compare    train in six ways, with and without image labels and a teacher, and vary
#                 share of boxes and seed: table and plot (hours; continues after a stop)
# make poolings   compare five poolings of a classifier and their maps (30 minutes)
# make bench      measure speed and memory on the CPU (6 minutes); see docs/speed.md
# make bench-gpu  the same measurement on a GPU
# make wheels     fill a folder for an installation without a network
# make gpu-check  on a machine with a GPU: compile mmcv for the installed torch, run
#                 the tests that need a GPU, and the GPU benchmark
# make gpu-wheels  fill a folder for make gpu-check without a network
#
# STACK=openmmlab    mmcv 2.1.0, mmdet 3.3.0 and mmengine 0.10.7 instead of their
#                    maintained distributions
# VENV=.venv         folder of the environment (make gpu-check: .venv-gpu)
# PYTHON=python3.11  Python that makes the environment. make gpu-check needs a Python
#                    whose torch has CUDA; its default is the first such Python
# WHEELS=folder      install from this folder without a network. Fill the folder on
#                    another machine with a Python of the same version:
#                    make wheels WHEELS=folder, make gpu-wheels WHEELS=folder
# JOBS=2             processes that run tests, each with one thread
# GPU_BENCH="..."    options of make gpu-check for tools/benchmarks
STACK ?= onedl
VENV ?= .venv
WHEELS ?=
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c '' 2>/dev/null && echo $$p && break; done)
RUN := $(VENV)/bin/python
DEMO := work_dirs/demo
FEW := configs/gwap/rfcn_r18_digits-p10-boxes-only.py
TEACHER := configs/teacher/rfcn_r18_teacher_digits-p10.py
GWAP_TEACHER := configs/teacher/rfcn_r18_gwap-teacher_digits-p10.py
# The second stage of the demo is shorter than that of the configs.
SECOND := --cfg-options load_from=$(DEMO)/few-boxes/iter_1000.pth \
	train_cfg.max_iters=600 train_cfg.val_interval=300 param_scheduler.1.end=600
JOBS ?= 2
PYTEST := $(RUN) -m pytest -n $(JOBS) --dist worksteal
COMPARE ?= --jobs 2
POOLINGS ?= --jobs 2

.PHONY: gpu-check gpu-wheels install wheels lint test test-all demo compare poolings bench bench-gpu
install:
	@$(or $(PYTHON),python3) tools/install.py --stack $(STACK) \
		--venv $(VENV) --wheels "$(WHEELS)"

wheels:
	@test -n "$(WHEELS)" || { echo "usage: make wheels WHEELS=folder"; exit 1; }
	@$(or $(PYTHON),python3) tools/install.py --stack $(STACK) \
		--venv $(VENV) --save-wheels "$(WHEELS)"

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

demo: install
	$(RUN) tools/dataset_converters/make_digits.py
	$(RUN) tools/train.py $(FEW) --work-dir $(DEMO)/few-boxes
	$(RUN) tools/train.py $(TEACHER) --work-dir $(DEMO)/boxes-only \
		$(SECOND) model.pseudo_weight=0
	$(RUN) tools/train.py $(GWAP_TEACHER) --work-dir $(DEMO)/boxes-and-labels $(SECOND)
	$(RUN) tools/analysis_tools/report.py $(DEMO)/boxes-and-labels \
		--beside $(DEMO)/boxes-only

compare: install
	$(RUN) tools/dataset_converters/make_digits.py
	$(RUN) tools/compare --data digits $(COMPARE)

poolings: install
	$(RUN) tools/dataset_converters/make_digits.py --single
	$(RUN) tools/compare/poolings.py $(POOLINGS)

bench: install
	$(RUN) -W ignore tools/benchmarks --device cpu

bench-gpu: install
	$(RUN) -W ignore tools/benchmarks --device cuda

# A variable set by the user, and not by the defaults above.
named = $(if $(filter command environment,$(origin $(1))),$($(1)))
gpu_python = $(or $(call named,PYTHON),$(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import torch; assert torch.version.cuda' 2>/dev/null && echo $$p && break; \
	done),python3)
gpu-check:
	@GPU_BENCH="$(GPU_BENCH)" $(gpu_python) tools/gpu_check.py --stack $(STACK) --wheels "$(WHEELS)" \
		--venv $(or $(call named,VENV),.venv-gpu)

gpu-wheels:
	@test -n "$(WHEELS)" || { echo "usage: make gpu-wheels WHEELS=folder"; exit 1; }
	@$(or $(PYTHON),python3) tools/gpu_check.py --stack $(STACK) --save-wheels "$(WHEELS)"
