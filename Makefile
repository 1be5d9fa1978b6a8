# Every target sets up what it needs by itself. PYTHON may name another Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-all coverage lint docs dist bench pictures clean

demo: $(READY)
	$(BIN)/grmp demo --set output=runs/demo

# Tests that start Ray run beside the others, with workers of the same priority; their output comes last.
test: $(READY)
	@mkdir -p build; \
	RAY_worker_niceness=0 $(BIN)/python -m pytest -m 'not slow and ray' > build/ray-tests.log 2>&1 & ray=$$!; \
	$(BIN)/python -m pytest -m 'not slow and not ray'; others=$$?; \
	wait $$ray; ray=$$?; cat build/ray-tests.log; [ $$others = 0 ] && [ $$ray = 0 ]

test-all: $(READY)
	$(BIN)/python -m pytest -m ''

coverage: $(READY)
	$(BIN)/python -m pytest --cov

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	@echo build/docs/index.html

dist: $(READY)
	rm -rf dist
	$(BIN)/uv build --quiet --build-constraints constraints.txt
	$(BIN)/uvx --quiet twine check --strict dist/*

bench: $(READY)
	$(BIN)/python -m tests.benchmarks

pictures: demo
	$(BIN)/python docs/make_sharpened.py docs/pictures/sharpened.jpg
	$(BIN)/python docs/make_pictures.py runs/demo/sweep/report.html docs/pictures/report.png
	$(BIN)/python docs/make_diagram.py README.md docs/pictures/way.svg
	$(BIN)/python docs/make_rating_picture.py docs/pictures/rating.png
	$(BIN)/python docs/make_explaining_picture.py docs/pictures/explain.jpg
	$(BIN)/python docs/make_video_picture.py docs/pictures/video.png

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --build-constraints constraints.txt --editable '.[test,docs]'
	touch $(READY)

clean:
	rm -rf $(VENV) runs build dist
