# make results/vatex_table.csv          a table, with everything it needs
# make results/report/vatex_table.html  its report: the table, figures, what the methods retrieve
# make test | test-slow | lint | lock   tests; style and the design rules; new pins
# make docs                             the documentation as pages: work/site/index.html
# make test-browser                     the search page in Chromium (apt-get install chromium chromium-driver)
# make test-slurm | test-slurm-slow     on a real SLURM of one node, which the tests set up (root, Debian)
# make paper                            every table of the papers
# Options: PYTHON=python3.12, CORES=8, and V=1 for Snakemake's whole log and the output of all jobs.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := default
.PHONY: default paper test test-slow test-browser test-slurm test-slurm-slow docs lint lock .venv FORCE

PYTHON ?= python3
# nproc would obey OMP_NUM_THREADS, which sets the threads of one job, not the number of cores
CORES ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || echo 1)
READY := .venv/.ready
READY_DEV := .venv/.ready-dev
# A .venv names its folder everywhere: in a copied or moved one it would run the code of that other folder, or none.
HERE := [ "$$(cat .venv/.folder 2>/dev/null)" -ef . ]
# a profile other than the default (workflow/profiles/slurm) sets its own limits
PIPELINE := .venv/bin/python workflow/pipeline.py $(if $(V),,--logger stages) $(if $(SNAKEMAKE_PROFILE),,--cores $(CORES))
# one thread per test process: two that both use all cores slow each other down tenfold; one process more than there
# are cores, since some tests wait for servers
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(shell expr $(CORES) + 1) --dist loadfile --no-loadscope-reorder

# Snakemake decides whether there is anything to do, so these always run (FORCE).
default: $(READY)
	@$(PIPELINE)

paper: $(READY)
	@$(PIPELINE) -- $@

results/%: $(READY) FORCE
	@$(PIPELINE) -- $@

results/report/%.html: $(READY) FORCE
	@$(PIPELINE) -- results/$*.csv
	.venv/bin/ccr report $*

results/report/%.workflow.html: $(READY) FORCE
	@$(PIPELINE) -- results/$*.csv
	mkdir -p $(@D)
	$(PIPELINE) --report $@ -- results/$*.csv

test: $(READY_DEV)
	@$(PYTEST) -m "not slow and not slurm and not browser"

test-slow: $(READY_DEV)
	@$(PYTEST) -m "slow and not slurm"

test-browser: $(READY_DEV)
	@$(PYTEST) -n 0 -m browser

# one cluster, so one process
test-slurm: $(READY_DEV)
	@$(PYTEST) -n 0 -m "slurm and not slow"

test-slurm-slow: $(READY_DEV)
	@$(PYTEST) -n 0 -m "slurm and slow"

docs: $(READY_DEV)
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
	echo work/site/index.html

lint: $(READY_DEV)
	@.venv/bin/ruff check .
	.venv/bin/snakefmt --check Snakefile workflow
	.venv/bin/lint-imports
	.venv/bin/snakemake --lint

.venv: $(READY)

# A .venv that is not whole (.folder is written last) or belongs to another folder is made again; one without stamps
# only lacks packages. The lock is for two makes at once. Nothing is byte-compiled in advance: Python does that for the
# modules that are used. (Where it may not, as some containers demand, each process would compile torch anew.)
unexport PYTHONDONTWRITEBYTECODE
define INSTALL
	mkdir -p work
	exec 9>work/venv.lock
	flock 9
	if $(HERE) && [ $@ -nt pyproject.toml ] && [ $@ -nt constraints.txt ]; then exit; fi
	echo "Setting up .venv (a minute or two)" >&2
	if ! $(HERE); then
		if [ -e .venv/.folder ]; then echo "It replaces one that was made in $$(cat .venv/.folder)" >&2; fi
		rm -rf .venv
		$(PYTHON) -m venv .venv
		pwd > .venv/.folder
	fi
	rm -f $(READY) $(READY_DEV)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
		--editable '$(EXTRAS)' --constraint constraints.txt || {
		echo "Packages are missing. The same command tries again; for another PYTHON, rm -rf .venv first" >&2
		exit 1
	}
	touch $(READY) $@
endef

$(READY): EXTRAS := .
$(READY): pyproject.toml constraints.txt $(shell $(HERE) || echo FORCE)
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"ccr needs Python 3.11 or newer, \
	$(PYTHON) is {v[0]}.{v[1]}. Name another one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)")'
	$(INSTALL)

# what tests and lint need in addition
$(READY_DEV): EXTRAS := .[dev]
$(READY_DEV): $(READY)
	@$(INSTALL)

# New pins: the newest versions that pyproject.toml allows, with the torch of the old pins (the newest may bring gigabytes
# of CUDA), written without hosts, hashes and local versions.
lock:
	@rm -rf work/lock
	$(PYTHON) -m venv work/lock
	work/lock/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' "$$(grep '^torch==' constraints.txt)"
	work/lock/bin/python -m pip freeze --exclude-editable | sed 's/+.*//' | grep -v '^nvidia-\|^triton==\|^cuda-' > work/lock/pins
	cp work/lock/pins constraints.txt
	work/lock/bin/python - <<-'END'
	from pathlib import Path

	head = Path("environment.yml").read_text().split("      - ")[0]
	pins = Path("constraints.txt").read_text().split()
	Path("environment.yml").write_text(head + "".join(f"      - {pin}\n" for pin in pins))
	END
