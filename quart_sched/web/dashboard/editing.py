"""The forms: add a job, change one, run one with other arguments, and the preview of a trigger."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from apscheduler.job import Job
from quart import Response, request

from ...errors import DuplicateJob, InvalidDefinition, JobChangedMeanwhile, SchedulerError
from ...model.functions import JobFunction
from ...model.jobs import JobChanges, JobDefinition
from .. import security
from ..jobs import find
from . import fields, forms
from .visit import Flash, Visit, unbroken

_PREVIEWED = 10
_IN_FORM = {"args": "arguments", "kwargs": "arguments", "trigger": "kind"}
"""Where in the form the mistakes are shown that belong to more than one field."""


async def add(visit: Visit) -> Response:
    """Ask for a new job: first its function, then all else; add it once nothing is wrong."""
    functions = security.allowed_functions(visit.front)
    values = dict(request.args if request.method == "GET" else await request.form)
    ref = values.get("func", "").strip()
    problems: dict[str, str] = {}
    func: JobFunction | None = None
    status = 200
    if ref:
        try:
            func = security.allowed_function(visit.front, ref)
        except SchedulerError as error:
            problems["func"], status = getattr(error, "problem", str(error)), error.status
    if request.method == "POST" and func is not None:
        outcome = await _added(visit, values, func, problems)
        if isinstance(outcome, Response):
            return outcome
        status = outcome
    elif request.method == "POST":
        problems.setdefault("func", "is missing")
        status = max(status, 400)
    else:
        values = forms.new_options(visit.front.scheduler._job_defaults) | values
    context = {
        "functions": functions,
        "anything": "*" in (visit.front.settings.api_allowed_funcs or ()),
        "func": func,
        "ref": ref,
        "jobstores": list(visit.front.scheduler.catalogue.slots),
        "executors": list(visit.front.scheduler.runner.executors),
        "policies": True,
        "job": None,
    }
    return await _form(visit, "add.html", status, values, problems, context)


async def _added(visit: Visit, values: Mapping[str, str], func: JobFunction, problems: dict[str, str]) -> Any:
    """Add the job and go to its page; where something is wrong, note it and return the status to answer with."""
    given = partial(_given, values)
    trigger, wrong_trigger = forms.read_trigger(given)
    args, kwargs, wrong_arguments = fields.read(given, func)
    options, wrong_options = forms.read_options(given, policies=True)
    problems |= wrong_trigger | wrong_arguments | wrong_options
    if not given("id").strip():
        problems["id"] = "is missing"
    if problems or "preview" in values or trigger is None:
        return 400 if problems else 200
    try:
        definition = JobDefinition.parse(
            {
                **options, **trigger.to_dict(), "id": given("id").strip(), "func": func, "args": args,
                "kwargs": kwargs, "jobstore": given("jobstore") or "default",
                "executor": given("executor") or "default",
            }
        )  # fmt: skip
        job = await visit.front.aio.add(definition)
    except InvalidDefinition as error:
        problems |= _placed(visit, values, error)
        return error.status
    except DuplicateJob as error:
        problems["id"] = str(error)
        return error.status
    return visit.redirect(visit.url("job", id=job.id), Flash("flash.added", {"id": job.id}))


async def edit(visit: Visit) -> Response:
    """Ask for changes to a job; make them once nothing is wrong."""
    job = await find(visit.front, request.args.get("id", ""))
    problems: dict[str, str] = {}
    status = 200
    if request.method == "POST":
        values = dict(await request.form)
        outcome = await _changed(visit, job, values, problems)
        if isinstance(outcome, Response):
            return outcome
        status = outcome
    else:
        values = forms.show_trigger(job.trigger) | fields.filled(job.func, job.args, job.kwargs)
        values |= forms.show_options(job) | {"tag": visit.front.aio.tag(job)}
    context = {"job": job, "func": job.func, "policies": forms.has_policies(job)}
    return await _form(visit, "edit.html", status, values, problems, context)


async def _changed(visit: Visit, job: Job, values: Mapping[str, str], problems: dict[str, str]) -> Any:
    """Change the job and go to its page; where something is wrong, note it and return the status to answer with."""
    given = partial(_given, values)
    trigger, wrong_trigger = forms.read_trigger(given)
    arguments: dict[str, Any] = {}
    wrong_arguments: dict[str, str] = {}
    if not _as_filled(values, job):
        arguments["args"], arguments["kwargs"], wrong_arguments = _arguments(values, job)
    options, wrong_options = forms.read_options(given, policies=forms.has_policies(job), shown=forms.show_options(job))
    problems |= wrong_trigger | wrong_arguments | wrong_options
    if problems or "preview" in values:
        return 400 if problems else 200
    changes = JobChanges(trigger, options | arguments)
    try:
        await visit.front.aio.modify(job.id, changes, seen={given("tag")})
    except JobChangedMeanwhile as error:
        problems["form"] = visit.t("form.changed_meanwhile")
        return error.status
    except InvalidDefinition as error:
        problems |= _placed(visit, values, error)
        return error.status
    return visit.redirect(visit.url("job", id=job.id), Flash("flash.changed", {"id": job.id}))


def _placed(visit: Visit, values: Mapping[str, str], error: InvalidDefinition) -> dict[str, str]:
    """Return a mistake that shows only when all of a form is taken together, by the field that it is shown beside.

    It is shown above all of them where it belongs to none that was sent.
    """
    if (key := _IN_FORM.get(error.field)) is not None:
        return {key: error.problem}
    key = next((key for key in (error.field, f"o.{error.field}") if key in values), "form")
    return {key: error.problem if key != "form" else visit.wrong(error)[0]}


async def start_with(visit: Visit) -> Response:
    """Ask for other arguments, and run the job once with them."""
    job = await find(visit.front, request.args.get("id", ""))
    values = fields.filled(job.func, job.args, job.kwargs)
    problems: dict[str, str] = {}
    status = 200
    if request.method == "POST":
        values = dict(await request.form)
        args, kwargs, problems = _arguments(values, job)
        if not problems:
            try:
                run = await visit.front.aio.run_job(job.id, args=args, kwargs=kwargs)
            except InvalidDefinition as error:
                problems["arguments"] = error.problem
            else:
                return visit.redirect(visit.url("run", id=run.run_id), Flash("flash.started", {"id": job.id}))
        status = 400
    context = {"job": job, "parameters": fields.fields_of(job.func), "values": values, "problems": problems}
    return await visit.page("start_with.html", status, **context)


async def preview(visit: Visit) -> Response:
    """Answer with what a trigger comes to, as far as the form describes one."""
    return await visit.fragment("preview.html", **await _previewed(visit, dict(request.args)))


async def _previewed(visit: Visit, values: Mapping[str, str]) -> dict[str, Any]:
    trigger, problems = forms.read_trigger(partial(_given, values))
    if trigger is None:
        return {"preview": None, "preview_trigger": None, "preview_problem": next(iter(problems.values()), None)}
    try:
        built, found = await visit.front.aio.preview(trigger, _PREVIEWED)
    except InvalidDefinition as error:
        return {"preview": None, "preview_trigger": None, "preview_problem": str(error)}
    return {"preview": found, "preview_trigger": built, "preview_problem": found.reason}


async def _form(
    visit: Visit, template: str, status: int, values: Mapping[str, str], problems: dict[str, str], context: Any
) -> Response:
    context |= await _previewed(visit, values)
    parameters = fields.fields_of(context["func"])
    if parameters is not None and ("args" in values or "kwargs" in values):
        parameters = None  # the job's arguments do not fit its function, and are shown as they are
    return await visit.page(
        template, status, values=values, problems=problems, parameters=parameters, kinds=forms.KINDS,
        layout=forms.LAYOUT, zone=visit.front.scheduler.timezone, **context,
    )  # fmt: skip


def _as_filled(values: Mapping[str, str], job: Job) -> bool:
    """Tell whether the fields of the arguments hold what they were filled with, also where no form could give that."""
    filled = fields.filled(job.func, job.args, job.kwargs)
    keys = {key for key in values if key in ("args", "kwargs") or key.startswith("a.")}
    return all(_given(values, key) == filled.get(key, "") for key in keys | filled.keys())


def _arguments(values: Mapping[str, str], job: Job) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, str]]:
    plain = "args" in values or "kwargs" in values
    return fields.read(partial(_given, values), None if plain else job.func, positional=len(job.args))


def _given(values: Mapping[str, str], key: str) -> str:
    return unbroken(values.get(key, ""))
