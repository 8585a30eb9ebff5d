# make run    sets up .venv and trains SessionBERT4Rec on the bundled ml-100k
# make test   sets up .venv and runs the tests
# make lint   ruff and mypy
# Each sets up what it needs, once: the stamp is newer than what it was made from.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
ARGS ?=

# The stack of constraints.txt, or with STACK=numpy1 the oldest that is supported.
STACK ?=
VENV := .venv$(if $(STACK),-$(STACK))
CONSTRAINTS := constraints$(if $(STACK),-$(STACK)).txt
BIN := $(VENV)/bin
comma := ,
# The ONNX packages of today want numpy 2.
TEST_EXTRAS := test$(if $(STACK),,$(comma)export)

run: $(VENV)/.installed
	$(BIN)/python run_recbole_session.py --model=SessionBERT4Rec --dataset=ml-100k $(ARGS)

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

# torch goes first: what comes after it would otherwise pull the newest build there is.
$(VENV)/.installed: setup.py $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "recbole-session needs Python 3.11 (RecBole 1.2.1 does not install on later ones); set PYTHON=" >&2; exit 2; }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[$(TEST_EXTRAS)]'
	touch $@

.PHONY: run test lint
