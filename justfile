# Shortcuts for people: `uvx --from rust-just just --list`. CI runs .ci/run, which needs none of them.

set shell := ["bash", "-uc"]

run := "uv run --locked --quiet"
tests := "devin_pipeline_tests"

# Tests that need no daemon, browser or whole run of the pipeline. CI measures with them what their rooms reach.
quick_tests := tests + "/{derived,lake,raw,reports,tables}"

# Show what there is.
default:
    @just --list

# What to run before a commit: lint, types, spelling, quick tests.
check: lint
    {{ run }} pytest --quiet {{ tests / "mutation" }} {{ quick_tests }}

# Lint, types, import rules and spelling.
lint:
    {{ run }} ruff check .
    {{ run }} ruff format --check .
    {{ run }} mypy
    {{ run }} lint-imports
    {{ run }} sqlfluff lint devin_pipeline --disable-progress-bar
    git ls-files -z | xargs -0 {{ run }} codespell

# The ordinary tests, or some of them.
test *arguments:
    {{ run }} pytest {{ arguments }}

# The tests that take minutes.
slow:
    {{ run }} pytest -m slow

# How many branches of the rooms their own tests reach, as in CI.
coverage:
    {{ run }} pytest --cov --cov-report=term:skip-covered --quiet {{ quick_tests }}

# How fast, how large and how costly, next to dlt and a plain script.
bench *arguments:
    {{ run }} --group bench python -m {{ tests }}.benchmarks {{ arguments }}

# Write the generated parts of README.md, docs/ and .env.example.
docs:
    {{ run }} python -m {{ tests }}.documents

# Remove guards of the code, all or those with a part of their name, and name the test that notices.
mutants *names:
    {{ run }} python -m {{ tests }}.mutation {{ names }}
