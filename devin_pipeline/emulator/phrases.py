"""What people at the made-up enterprise ask for, and what an analysis says about how they asked.

Wording belongs here; how often each is used does not.
"""

from __future__ import annotations

from typing import NamedTuple


class Task(NamedTuple):
    """Something people ask Devin to do, in poor and in good words; `{…}` is filled in per session."""

    category: str
    subcategory: str
    title: str
    vague: str
    good: str
    languages: tuple[str, ...]
    tools: tuple[str, ...]


TASKS = (
    Task(
        "bug_fixing",
        "Backend defects",
        "Fix {component} returning 500 on empty input",
        "fix the {component} bug",
        "In {repo}, POST /{component} answers 500 when `items` is empty (see ticket {ticket}). It should answer 400"
        " with our usual error body. Start from the handler in src/{component}/routes.py, add a regression test "
        "next to the existing ones and run `make test` before opening a pull request.",
        ("Python",),
        ("FastAPI", "pytest"),
    ),
    Task(
        "bug_fixing",
        "Frontend defects",
        "Fix flickering {component} list after refresh",
        "the {component} page flickers, pls fix",
        "The {component} list in {repo} renders twice after a refresh. Reproduce with `pnpm dev` and the seed user,"
        " find which effect refetches, and keep the current loading skeleton. Done when the Playwright test "
        "`{component}.spec.ts` passes ten times in a row.",
        ("TypeScript",),
        ("React", "Playwright"),
    ),
    Task(
        "feature_development",
        "APIs",
        "Add CSV export to {component}",
        "add export",
        "Add `GET /{component}/export.csv` to {repo}. Same filters as the list endpoint, streamed, UTF-8 with a "
        "header row. Columns: id, name, created_at, amount. Follow the pattern of invoices/export.py. Tests for the"
        " empty case and for 10k rows.",
        ("Python", "SQL"),
        ("FastAPI", "PostgreSQL"),
    ),
    Task(
        "feature_development",
        "User interface",
        "Dark mode for {component} settings",
        "make dark mode work everywhere",
        "Support dark mode on the {component} settings page of {repo} only. Use the tokens in theme/colors.ts, no "
        "new dependencies. Attach screenshots of both modes to the pull request.",
        ("TypeScript", "CSS"),
        ("React", "Tailwind"),
    ),
    Task(
        "unit_test_generation",
        "Coverage",
        "Raise test coverage of {component}",
        "write more tests",
        "Bring line coverage of src/{component} in {repo} from 58 % to at least 80 %. Test behaviour, not private "
        "functions; do not change production code except to inject the clock. `make coverage` prints the figure.",
        ("Go",),
        ("testify",),
    ),
    Task(
        "migrations_and_upgrades",
        "Framework upgrades",
        "Upgrade {repo} to Java 21",
        "upgrade java",
        "Upgrade {repo} from Java 17 to 21. Bump the toolchain in build.gradle.kts, fix the deprecations in "
        "{component}, leave virtual threads for later. CI must be green; note every behaviour change in the pull "
        "request.",
        ("Java", "Kotlin"),
        ("Gradle", "Spring Boot"),
    ),
    Task(
        "migrations_and_upgrades",
        "Database migrations",
        "Move {component} ids to bigint",
        "our ids are running out, migrate",
        "Change {component}.id from int to bigint in {repo} without downtime: add a column, backfill in batches of "
        "10,000, swap. Write the three migrations and a rollback for each. Table has 180 million rows.",
        ("SQL", "Python"),
        ("PostgreSQL", "Alembic"),
    ),
    Task(
        "ci_cd_and_devops",
        "Pipelines",
        "Cut CI time of {repo}",
        "ci is slow",
        "CI of {repo} takes 24 minutes; 15 of them are the {component} integration tests. Cache dependencies, split"
        " those tests into four shards, keep the required check names. Show before and after timings.",
        ("YAML",),
        ("GitHub Actions", "Docker"),
    ),
    Task(
        "code_quality_and_security",
        "Dependency alerts",
        "Resolve security alerts in {component}",
        "fix all the security stuff",
        "Resolve the four high severity alerts for {repo} listed in {ticket}. Prefer minor version bumps. If one "
        "needs a major bump, stop and describe what would break in {component}.",
        ("JavaScript",),
        ("npm", "Dependabot"),
    ),
    Task(
        "code_review_and_analysis",
        "Investigations",
        "Why does {component} time out at night",
        "why is {component} slow??",
        "Between 01:00 and 02:00 UTC {component} in {repo} times out. Read the attached logs and the scheduler "
        "configuration and write what you find to docs/{component}-timeouts.md. No code change.",
        ("Go", "SQL"),
        ("Grafana",),
    ),
    Task(
        "data_and_automation",
        "Reports",
        "Weekly {component} report",
        "make me a report about {component}",
        "Write a script in {repo}/reports that queries {component}_events in the warehouse and posts weekly totals "
        "per region to #{component}-weekly. Dry run by default. Use the service account already configured.",
        ("Python", "SQL"),
        ("DuckDB", "Slack API"),
    ),
    Task(
        "documentation_and_content",
        "READMEs",
        "Document {component} setup",
        "docs please",
        "Rewrite the setup part of {repo}/README.md so that a new colleague can run {component} in under ten "
        "minutes on a clean laptop. Try every command yourself and note what you had to install.",
        ("Markdown",),
        ("Docker Compose",),
    ),
    Task(
        "refactoring_and_optimization",
        "Performance",
        "Remove N+1 queries from {component}",
        "optimize db",
        "The {component} list in {repo} runs one query per row. Load the relations in one go, keep the response "
        "byte for byte identical and add a test that counts queries. Target: under 120 ms for 200 rows.",
        ("Ruby",),
        ("Rails", "RSpec"),
    ),
    Task(
        "research_and_exploration",
        "Spikes",
        "Compare queue options for {component}",
        "which queue should we use",
        "Compare SQS, RabbitMQ and Postgres as a queue for {component} in {repo}: 200 messages a second, at most "
        "once is not good enough. One page with a recommendation and what would change your mind.",
        (),
        ("RabbitMQ",),
    ),
    Task("other", "Other", "Look into {component}", "hi", "Please look at {ticket} and tell me what you need.", (), ()),
)

COMPONENTS = (
    "invoices",
    "checkout",
    "login",
    "search",
    "ledger",
    "notifications",
    "profiles",
    "webhooks",
    "shipping",
    "refunds",
    "pricing",
    "catalogue",
)

# host, owner/name, what stands between the repository and the number
REPOSITORIES = (
    ("github.com", "larkspur/payments-api", "pull"),
    ("github.com", "larkspur/web", "pull"),
    ("github.com", "larkspur/mobile-app", "pull"),
    ("github.com", "larkspur-labs/scheduler", "pull"),
    ("github.com", "Larkspur/Infra", "pull"),
    ("gitlab.com", "larkspur/data/warehouse", "-/merge_requests"),
    ("gitlab.larkspur.example", "field/tools", "merge_requests"),
    ("bitbucket.org", "larkspur/legacy-erp", "pull-requests"),
)


class Finding(NamedTuple):
    """An issue an analysis names, with its action item and what the prompt should have said."""

    issue: str
    impact: str
    label: str
    action_type: str
    action_item: str
    summary: str
    details: str


FINDINGS = (
    Finding(
        "Missing environment variables for the test database",
        "High",
        "Configuration",
        "machine_setup",
        "Add DATABASE_URL and REDIS_URL to the machine snapshot.",
        "The prompt does not say how to run the tests",
        "Name the command and the services it needs; Devin spent 40 minutes finding them.",
    ),
    Finding(
        "The prompt names no repository or file",
        "High",
        "Prompt",
        "prompt_improvement",
        "Name the repository and the entry point in the prompt.",
        "Prompt too vague",
        "The prompt should specify which bug, where it shows and how to tell that it is fixed.",
    ),
    Finding(
        "Tests failed for reasons unrelated to the change",
        "Medium",
        "Testing",
        "repo_config",
        "Quarantine the flaky tests or mark them in the README.",
        "Known flaky tests are not mentioned",
        "Say which failures to ignore.",
    ),
    Finding(
        "No permission to install packages from the private registry",
        "Medium",
        "Access",
        "machine_setup",
        "Store a read-only registry token as a secret.",
        "Required access was not given",
        "List the registries and secrets the task needs.",
    ),
    Finding(
        "The scope grew while working",
        "Low",
        "Scope",
        "prompt_improvement",
        "Split the request into one session per service.",
        "Several tasks in one prompt",
        "Ask for one outcome per session; later ones can build on it.",
    ),
    Finding(
        "House style was unknown",
        "low",
        "Knowledge",
        "knowledge",
        "Write down the error format and the naming of migrations.",
        "Conventions are assumed",
        "Link an example the result should look like.",
    ),
    Finding(
        "Acceptance criteria were missing",
        "High",
        "Prompt",
        "other",
        "State a measurable outcome.",
        "No way to tell when it is done",
        "A figure, a passing test or a screenshot makes the end clear.",
    ),
)

STEPS = (
    ("Read the request", "Devin read the prompt and looked for the code it speaks of.", "green"),
    ("Started repository setup", "Devin began setting up the development environment.", "green"),
    ("Installation failed", "A package could not be installed; a mirror was tried.", "red"),
    ("Reproduced the problem", "A failing test shows the behaviour described.", "yellow"),
    ("Wrote the change", "The change follows the neighbouring code.", "green"),
    ("Ran the tests", "All tests passed except two that also fail on main.", "yellow"),
    ("Opened a pull request", "The description lists what was checked by hand.", "green"),
)

HOSTILE = (
    "It's \"quoted\" and 'quoted' and `ticked` \\ back\\slashed",
    "two\nlines\r\nand\ta tab",
    "=cmd|'/C calc'!A0",
    "+SUM(A1:A9)",
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "![](http://127.0.0.1:9/graphql?query=mutation) [click](javascript:alert(1))",
    "\u202eright to left\u202c and \u2066isolated\u2069",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family, \U0001f3f3\ufe0f\u200d\U0001f308, e\u0301",
    "before\u0000after",
    "'; drop table sessions; --",
    "${jndi:ldap://127.0.0.1/a} {{7*7}} %s %n {0}",
    "line\u2028separator\u0085and\ufeffmark",
    "",
    " leading and trailing ",
    ("long title " * 28)[:300],
)
