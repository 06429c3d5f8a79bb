# make demo     train, measure and draw a small detector (minutes, on a CPU)
# make test     run the tests
# make install  only the environment that both need
#
# STACK=openmmlab       mmcv 2.1.0, mmdet 3.3.0, mmengine 0.10.7 instead of
#                       their maintained distributions
# VENV=.venv            where the environment goes
# PYTHON=python3.11     what it is made with
# WHEELS=folder         install from a folder, without a network; filled on
#                       another machine by: make wheels WHEELS=folder
STACK ?= onedl
VENV ?= .venv
WHEELS ?=
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c '' 2>/dev/null && echo $$p && break; done)
RUN := $(VENV)/bin/python
DEMO := work_dirs/demo

.PHONY: install wheels test demo
install:
	@$(or $(PYTHON),python3) tools/install --stack $(STACK) \
		--venv $(VENV) --wheels "$(WHEELS)"

wheels:
	@test -n "$(WHEELS)" || { echo "usage: make wheels WHEELS=folder"; exit 1; }
	@$(or $(PYTHON),python3) tools/install --stack $(STACK) \
		--venv $(VENV) --save-wheels "$(WHEELS)"

test: install
	$(RUN) -m pytest

demo: install
	$(RUN) tools/dataset_converters/make_digits.py
	$(RUN) tools/train.py configs/rfcn/rfcn_r18_digits.py \
		--work-dir $(DEMO)
	$(RUN) tools/test.py configs/rfcn/rfcn_r18_digits.py \
		$(DEMO)/iter_2500.pth --work-dir $(DEMO)/test
	$(RUN) tools/analysis_tools/report.py $(DEMO)
