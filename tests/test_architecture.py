"""The house: imports run one way, and the public names are those that users know."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import quart_sched
from quart_sched import APScheduler

PACKAGE = Path(quart_sched.__file__).parent
LAYERS = [
    {"errors"},
    {"model"},
    {"config", "stores", "auth"},
    {"engine"},
    {"aio", "web", "cli", "late", "testing", "metrics", "tracing", "logs"},
    {"lifespan", "integrations"},
    {"extension"},
    {"__init__"},
]


def layer(module: str) -> int:
    top = module.partition(".")[0]
    return next(number for number, names in enumerate(LAYERS) if top in names)


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, other than for type checking alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    depth = len(path.relative_to(PACKAGE).parts)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    own = layer(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    for module in imports(path):
        assert layer(module) <= own, f"{path.name} imports {module}"


def test_every_name_of_flask_apscheduler_is_there() -> None:
    names = """
    host_name running state scheduler task init_app start shutdown pause resume add_listener remove_listener
    add_job remove_job remove_all_jobs get_job get_jobs modify_job pause_job resume_job run_job authenticate
    allowed_hosts auth api_enabled api_prefix endpoint_prefix app
    """
    scheduler = APScheduler()
    assert [name for name in names.split() if not hasattr(scheduler, name)] == []


def test_every_verb_exists_as_a_coroutine_with_the_same_parameters() -> None:
    scheduler = APScheduler()
    verbs = """start pause resume shutdown add_job get_job get_jobs modify_job pause_job resume_job remove_job
    remove_all_jobs run_job"""
    for name in verbs.split():
        coroutine = getattr(scheduler.aio, name)
        assert inspect.iscoroutinefunction(coroutine)
        plain = list(inspect.signature(getattr(scheduler, name)).parameters)
        assert list(inspect.signature(coroutine).parameters)[: len(plain)] == plain


def test_all_public_names_are_documented() -> None:
    for cls in (APScheduler, type(APScheduler().aio), quart_sched.RunHandle, quart_sched.Scheduler):
        for name, member in vars(cls).items():
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{cls.__name__}.{name}"
