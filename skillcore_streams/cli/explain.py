"""`skillcore explain grade|absence`: every item a number came from. Exits 1 when they add up to something else."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import click

from skillcore_streams.cli.output import ask, json_option, plain, show
from skillcore_streams.explain.absences import explain_absence
from skillcore_streams.explain.grades import explain_grade
from skillcore_streams.rules.grades import shown


@click.group()
def explain() -> None:
    """Every item that a grade or an absence rate came from."""


@explain.command()
@click.option("--tenant", required=True)
@click.option("--class", "class_id", type=click.UUID, required=True, help="The class's id.")
@click.option("--student", "student_id", type=click.UUID, required=True, help="The student's id.")
@json_option
def grade(tenant: str, class_id: UUID, student_id: UUID, as_json: bool) -> None:
    """A student's grade in a class: assignments, categories, weights, and the events that said so."""
    told = ask(lambda db: explain_grade(db, tenant, class_id, student_id))
    _tell(told, as_json, _grade)


@explain.command()
@click.option("--tenant", required=True)
@click.option("--student", "student_id", type=click.UUID, required=True, help="The student's id.")
@click.option("--year", help="School year, for example 2021-2022. Default: the student's latest.")
@json_option
def absence(tenant: str, student_id: UUID, year: str | None, as_json: bool) -> None:
    """A student's absence rate: absent days, the calendar they are a share of, and the thresholds."""
    told = ask(lambda db: explain_absence(db, tenant, student_id, year))
    _tell(told, as_json, _absence)


def _tell(told: Mapping[str, Any], as_json: bool, story: Any) -> None:
    if as_json:
        click.echo(json.dumps(told, default=str, indent=2))
    else:
        story(told)
        for line in told["differences"]:
            click.echo(f"DIFFERS  {line}")
        if not told["differences"]:
            click.echo("The items add up to what is stored.")
    if told["differences"]:
        sys.exit(1)


def _grade(told: Mapping[str, Any]) -> None:
    stored, scheme = told["stored"], told["scheme"]
    click.echo(
        f"Grade of student {told['student']} in class {told['class']}, tenant {told['tenant']}\n"
        f"current {_percent(stored['current_score'])} ({plain(stored['letter'])}),"
        f" final {_percent(stored['final_score'])}; with grades that are not posted yet"
        f" {_percent(stored['unposted_current_score'])} and {_percent(stored['unposted_final_score'])};"
        f" calc_version {stored['calc_version']}\n"
        f"Scheme version {scheme['version']} by {scheme['method']}, missing work: {scheme['missing_work']}"
        f" (event {plain(scheme['event'])}). Letters: "
        + ", ".join(f"{name} from {plain(least)}" for name, least in told["letters"].items()) + "\n"
    )
    _table([
        {
            "assignment": item["assignment"], "title": item["title"], "category": item["category"],
            "score": item["score"], "of": item["possible"], "counts now": item["current"],
            "counts at the end": item["final"], "notes": ", ".join(_notes(item)) or None,
            "events (newest first)": " ".join(map(plain, item["grade_events"])) or None,
        }
        for item in told["items"]
    ], "The class has no assignments.")
    for when, score in (("current", "current_score"), ("final", "final_score")):
        click.echo(f"\n{when}")
        _table([
            {
                "category": c["category"], "weight": c["weight"], "earned": _short(c[f"{when}_earned"]),
                "possible": _short(c[f"{when}_possible"]), "percent": shown(c[f"{when}_percent"]),
            }
            for c in told["categories"]
        ], "The scheme has no categories.")
        heard = [c for c in told["categories"] if c[f"{when}_percent"] is not None]
        if heard:
            products = " + ".join(f"{c['weight']} × {shown(c[f'{when}_percent'])}" for c in heard)
            click.echo(f"({products}) / {sum(c['weight'] for c in heard)} = {shown(told['explained'][score])}")
    click.echo()


def _absence(told: Mapping[str, Any]) -> None:
    stored, enrolled, explained = told["stored"], told["enrolled"], told["explained"]
    click.echo(
        f"Absence rate of student {told['student']}, tenant {told['tenant']}, {told['school_year']}\n"
        f"stored {plain(stored['rate'])}: {plain(stored['days_absent'])} of {plain(stored['days_enrolled'])}"
        f" school days up to {plain(stored['as_of'])}\n"
        f"School {plain(enrolled['school'])}: enrolled from {plain(enrolled['begin'])} to {plain(enrolled['end'])},"
        f" first school day {plain(enrolled['first_school_day'])}, {enrolled['school_days']} of the year's"
        f" {enrolled['calendar_days_of_the_year']} up to the latest mark\n"
    )
    _table([
        {
            "day": d["day"], "school day": d["school_day"], "category": d["category"], "code": d["code"],
            "event": d["event"], "made of": "; ".join(map(_class, d["classes"])) or None,
        }
        for d in told["absent_days"]
    ], "No absent day.")
    if told["not_counted"]:
        click.echo("\nabsent, and not counted")
        _table(told["not_counted"], "")
    click.echo()
    _table(told["thresholds"], "No threshold is reached.")
    click.echo(f"\n{explained['days_absent']} / {explained['days_enrolled']} = {plain(explained['rate'])}")


def _class(mark: Mapping[str, Any]) -> str:
    return f"period {mark['period'] or '-'} {mark['category']} (event {plain(mark['event'])})"


def _notes(item: Mapping[str, Any]) -> list[str]:
    notes = [name.replace("_", " ") for name in ("extra_credit", "excused", "missing") if item[name]]
    return notes + (["not posted"] if item["posted"] is False else [])


def _percent(value: Any) -> str:
    return shown(value) if value is None else f"{shown(value)} %"


def _short(value: Any) -> str:
    return shown(value, 4).rstrip("0").rstrip(".")


def _table(rows: Sequence[Mapping[str, Any]], empty: str) -> None:
    show(rows, False, empty)
