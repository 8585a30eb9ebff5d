# make run    sets up .venv and trains SessionBERT4Rec and SessionSASRec on the bundled ml-100k
# make test   sets up .venv and runs the tests
# make lint   ruff and mypy
# make docs   builds the documentation site into site/
# Each sets up what it needs, once: the stamp is newer than what it was made from.
#
# PYTHON=python3.13   the Python of the environment, 3.11 to 3.14; the first one found otherwise
# STACK=numpy1        the oldest torch, numpy and pandas that are supported, on Python 3.11 or 3.12
# TORCH=cpu           torch without CUDA, from pytorch.org's own index: 200 MB in place of several GB

is_supported = -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$python $(is_supported) 2>/dev/null && echo $$python && break; done)
ARGS ?=
STACK ?=
TORCH ?=

VENV ?= .venv$(if $(STACK),-$(STACK))
CONSTRAINTS := constraints$(if $(STACK),-$(STACK)).txt
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts --constraint $(CONSTRAINTS)
comma := ,
# The ONNX packages of today want numpy 2.
TEST_EXTRAS := test$(if $(STACK),,$(comma)export)

run: $(VENV)/.installed
	$(BIN)/python run_recbole_session.py --model=SessionBERT4Rec --dataset=ml-100k $(ARGS)
	$(BIN)/python run_recbole_session.py --model=SessionSASRec --dataset=ml-100k $(ARGS)

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# RecBole comes last and without its dependencies: see setup.py.
$(VENV)/.installed: setup.py $(CONSTRAINTS)
	@$(or $(PYTHON),false) $(is_supported) || \
	  { echo "recbole-session needs Python 3.11 to 3.14; name one with PYTHON=" >&2; exit 2; }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(INSTALL) $(if $(TORCH),--extra-index-url https://download.pytorch.org/whl/$(TORCH)) torch
	$(INSTALL) --editable .
	$(INSTALL) --no-deps recbole
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) --editable '.[$(TEST_EXTRAS)]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --editable '.[docs]'
	touch $@

.PHONY: run test lint docs
