"""What the files lack, made up from a seed: more class enrolments, graded work, IEP services, goals and amendments.

Nothing of it is true of anybody. Each event that rests on it has `/import/synthetic/seed-N` as its source, so every
report can tell it from what the district said; an IEP whose services are made up counts as synthetic as a whole. The
same seed makes the same year: a choice is the hash of the seed and of what it is about, never of an order.

* Each student with a school sits in three classes a session, of different periods; below high school of one grade. No
  more classes are used than it takes to seat about twenty in each. Those whose gradebook is in the files stay as they
  are.
* Each such class has four pieces of work a session: homework (20 points), a quiz (50), a project (80), a test (100).
* A student's scores lie around an ability of 66 to 98 per cent; some work is missing, late or excused, some scores are
  corrected a week later.
* An IEP without hours gets one or two services of 30 to 150 minutes a week. Services are given on school days from the
  IEP's first to its last day, a week's minutes in one, two or five sessions. A session in twenty is missed; for one
  student in six most of a run of three weeks is.
* Each open IEP has two goals; every fourth is amended once, and some of those amendments complete the annual review.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal, TypeVar
from uuid import UUID

from skillcore_streams.edfi import programs
from skillcore_streams.edfi.reader import Reader
from skillcore_streams.events.special_programs import IEPAmended, IEPGoalAdded, IEPServiceDelivered

if TYPE_CHECKING:
    from skillcore_streams.edfi.district import Term
    from skillcore_streams.edfi.events import Dated, Year

SCHEMA = """
    create table session (
        student text, begin text, service text, day text, n int, minutes int, missed text, delivery text,
        provider text, primary key (day, student, begin, service, n)) without rowid;
    create table goal (student text, begin text, n int, day text, domain text, baseline int, target int, due text);
    create table amendment (student text, begin text, day text, reviewed int);
"""

T = TypeVar("T")

CLASSES = 3
FULL = 20
"""Students of a grade that a class of each period is used for."""

WORK = (("Homework 1", "Homework", 20), ("Quiz 1", "Quiz", 50), ("Project 1", "Project", 80), ("Test 1", "Test", 100))
"""Titles, categories and points of a class' work in a session, in its order."""

SERVICES = (
    "Specially Designed Instruction", "Speech-Language Services", "Occupational Therapy", "Counseling",
    "Physical Therapy",
)  # fmt: skip
MINUTES = (30, 45, 60, 90, 120, 150)
DOMAINS = ("academic", "behavior", "communication", "motor", "transition")
MISSED = ("provider absent", "student absent", "assembly")
DELIVERY: tuple[Literal["individual", "group", "teletherapy"], ...] = ("individual", "group", "teletherapy")
ACCOMMODATIONS = ("extended time", "preferential seating", "text read aloud", "breaks on request", "notes provided")
FIRST_BELL = time(10)

IN_GRADE = re.compile(r"-(0\d)$")
"""A course of one grade: MATH-03."""


def source(seed: int | None) -> str:
    """The source of every event that rests on what this seed made up."""
    return f"/import/synthetic/seed-{seed}"


class Synthesis:
    """Adds made-up rows to a district's database, after the files have been read.

    Args:
        db: the district's temporary database.
        seed: names this make-up, in the sources of its events too.
        days: the instructional days.
        terms: sessions, for the days of each.
    """

    def __init__(self, db: sqlite3.Connection, seed: int, days: Sequence[date], terms: Iterable[Term]) -> None:
        self._db = db
        self._seed = seed
        self._source = source(seed)
        self._days = days
        self._sessions = {
            (t.school, t.year, t.name): [day for day in days if t.begin <= day <= t.end]
            for t in terms if t.kind != "gradingPeriod"
        }  # fmt: skip
        self._teachers: dict[str, int] = {}

    def generate(self) -> None:
        """Everything."""
        for school, year, session in self._db.execute(
            "select distinct school, year, session from section order by 1, 2, 3"
        ).fetchall():
            days = self._sessions.get((school, year, session), [])
            if len(days) >= 2 * len(WORK):
                self._seats(school, year, session)
                self._work(school, year, session, days)
        self._scores()
        for student, begin, closed, minutes, services, provider, school in self._db.execute(
            "select student, begin, closed, minutes, services, provider, school from iep left join home using (student)"
        ).fetchall():
            self._plan(student, begin, closed, minutes, json.loads(services), provider, school)

    # Classes ----------------------------------------------------------------------------------------------------------

    def _seats(self, school: str, year: str, session: str) -> None:
        """Classes for each student of the school."""
        offered: dict[str, dict[str, list[str]]] = {}
        for key, course, periods in self._db.execute(
            """select key, course, periods from section where (school, year, session) = (?, ?, ?)
                  and key not in (select section from entry) order by key""", (school, year, session)
        ):  # fmt: skip
            found = IN_GRADE.search(course)
            period = next(iter(json.loads(periods)), "")
            offered.setdefault(found[1] if found else "", {}).setdefault(period, []).append(key)
        if not offered:
            return
        grades = sorted(offered)
        students = self._db.execute("select student from home where school = ? order by student", (school,)).fetchall()
        needed = 1 + len(students) // (len(grades) * FULL)
        for (student,) in students:
            grade = self._pick(grades, "grade", student)
            periods = offered[grade]
            for period in sorted(periods, key=lambda p: self._chance("period", school, session, grade, p))[:CLASSES]:
                section = self._pick(periods[period][:needed], "class", student, session, period)
                self._db.execute("insert or ignore into seat values (?, ?, ?)", (section, student, self._source))

    def _work(self, school: str, year: str, session: str, days: list[date]) -> None:
        """Six pieces of work for each class that somebody was seated in, spread over its session."""
        for (section,) in self._db.execute(
            """select distinct section from seat join section on key = section
                where (school, year, session) = (?, ?, ?) and source = ? order by 1""",
            (school, year, session, self._source),
        ).fetchall():
            step = len(days) // len(WORK)
            shift = int(self._chance("shift", section) * (step - 1))
            for n, (title, kind, points) in enumerate(WORK):
                assigned = days[n * step + shift]
                due = next((day for day in days if day >= assigned + timedelta(days=4)), days[-1])
                self._db.execute(
                    "insert into entry values (?, ?, ?, ?, ?, null, ?, ?, ?)",
                    (f"{self._source}\x1f{section}\x1f{n}", section, title, str(assigned), str(due), str(points), kind,
                     self._source),
                )  # fmt: skip

    def _scores(self) -> None:
        """A result for each student and piece of work, and some corrections."""
        for entry, student, points, due, last in self._db.execute(
            """select entry.id, student, points, due, (select max(date) from calendar)
                 from entry join seat using (section) where entry.source = ? order by 1, 2""",
            (self._source,),
        ).fetchall():
            luck = self._chance("luck", entry, student)
            ability = 66 + 32 * self._chance("ability", student)
            percent = max(0.0, min(100.0, ability + 30 * (self._chance("score", entry, student) - 0.5)))
            score = Decimal(round(percent / 100 * int(points) * 2)) / 2
            graded = _after(due, 2, last)
            status, late = "Graded", 0.05 < luck < 0.11
            if luck < 0.03:
                status = "Missing"
            elif luck < 0.04:
                status = "Excused"
            given = str(score) if status == "Graded" else None
            self._result(entry, student, 0, given, status, late, graded, None)
            again = _after(graded, 7, last)
            if status == "Graded" and luck > 0.98 and again > graded:
                better = min(Decimal(points), score + Decimal(points) / 10)
                self._result(entry, student, 1, str(better), status, late, again, "regraded")

    def _result(self, entry: str, student: str, n: int, score: str | None, status: str, late: bool, graded: str,
                reason: str | None) -> None:  # fmt: skip
        self._db.execute("insert into result values (?, ?, ?, ?, null, ?, ?, ?, ?, ?)",
                         (entry, student, n, score, status, late, graded, reason, self._source))  # fmt: skip

    # Plans ------------------------------------------------------------------------------------------------------------

    def _plan(self, student: str, begin: str, closed: str | None, minutes: int | None, named: list[str],
              provider: str | None, school: str | None) -> None:  # fmt: skip
        """An IEP's services, their sessions, its goals and its amendment."""
        if minutes is None:
            wanted = len(named) or 1 + (self._chance("services", student) < 0.35)
            named = named or sorted(SERVICES, key=lambda s: self._chance("service", student, s))[:wanted]
            minutes = sum(self._pick(MINUTES, "minutes", student, name) for name in named)
            self._db.execute("update iep set minutes = ?, services = ?, source = ? where student = ? and begin = ?",
                             (minutes, json.dumps(named), self._source, student, begin))  # fmt: skip
        by = provider or self._teacher(student, school)
        days = [day for day in self._days if str(day) >= begin and (closed is None or str(day) <= closed)]
        weeks: dict[date, list[date]] = {}
        for day in days:
            weeks.setdefault(day - timedelta(days=day.weekday()), []).append(day)
        for service in programs.mandate(named, minutes):
            self._sessions_of(student, begin, service.type, service.minutes_per_week, by, weeks)
        if closed is None and days:
            self._goals(student, begin, days)
            if self._chance("amended", student) < 0.25:
                day = days[int(len(days) * (0.3 + 0.6 * self._chance("amended on", student)))]
                reviewed = self._chance("reviewed", student) < 0.4
                self._db.execute("insert into amendment values (?, ?, ?, ?)", (student, begin, str(day), reviewed))

    def _sessions_of(self, student: str, begin: str, service: str, minutes: int, provider: str | None,
                     weeks: dict[date, list[date]]) -> None:  # fmt: skip
        """A week's minutes in one session up to an hour, two up to three, else five; some of them missed."""
        count = 1 if minutes <= 60 else 2 if minutes <= 180 else 5
        each, rest = divmod(minutes, count)
        mondays = sorted(weeks)
        lapse = set()
        if len(mondays) > 6 and self._chance("lapse", student) < 1 / 6:
            first = int(self._chance("lapse at", student) * (len(mondays) - 3))
            lapse = set(mondays[first : first + 3])
        shift = int(self._chance("weekday", student, service) * 5)
        delivery = self._pick(DELIVERY, "delivery", student, service)
        for monday in mondays:
            days = weeks[monday]
            for n in range(count):
                day = days[(shift + n * len(days) // count) % len(days)]
                missing = self._chance("missed", student, service, str(monday), str(n)) < (
                    0.7 if monday in lapse else 0.05
                )
                self._db.execute(
                    "insert into session values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (student, begin, service, str(day), n, 0 if missing else each + (n < rest),
                     self._pick(MISSED, "why", student, str(day)) if missing else None, delivery, provider),
                )  # fmt: skip

    def _goals(self, student: str, begin: str, days: list[date]) -> None:
        domains = sorted(DOMAINS, key=lambda d: self._chance("domain", student, d))[:2]
        for n, domain in enumerate(domains):
            baseline = 20 + int(40 * self._chance("baseline", student, domain))
            day = days[min(len(days) - 1, 3 + int(10 * self._chance("goal on", student, domain)))]
            due = date.fromisoformat(begin) + timedelta(days=360)
            self._db.execute("insert into goal values (?, ?, ?, ?, ?, ?, ?, ?)",
                             (student, begin, n, str(day), domain, baseline, baseline + 30, str(due)))  # fmt: skip

    def _teacher(self, student: str, school: str | None) -> str | None:
        """Some teacher of the school, or of any school where it is not known."""
        where = "from post where class = 'Teacher' and (?1 = '' or org = ?1)"
        org = school or ""
        if org not in self._teachers:
            self._teachers[org] = self._db.execute(f"select count(*) {where}", (org,)).fetchone()[0]
        n = int(self._chance("provider", student) * self._teachers[org])
        found = self._db.execute(f"select staff {where} order by staff limit 1 offset {n}", (org,)).fetchone()
        return found[0] if found else None

    # Chance -----------------------------------------------------------------------------------------------------------

    def _chance(self, *about: str) -> float:
        """From 0 up to 1, always the same for the same seed and words."""
        digest = blake2b("\x1f".join((str(self._seed), *about)).encode(), digest_size=7).digest()
        return int.from_bytes(digest, "big") / 2**56

    def _pick(self, choices: Sequence[T], *about: str) -> T:
        return choices[int(self._chance(*about) * len(choices))]


def take_stock(reader: Reader) -> None:
    """What of it there will be."""
    for event, table in (("IEPGoalAdded", "goal"), ("IEPAmended", "amendment"), ("IEPServiceDelivered", "session")):
        reader.plan(event, f"from {table}")
    for what, where in (("class enrolments", "seat"), ("assignments", "entry"), ("results", "result")):
        reader.remark(f"from {where} where source like '/import/synthetic/%'", f"synthetic: {what}")
    reader.remark("from iep where source is not null", "synthetic: IEPs whose services are made up")
    reader.remark("from session", "synthetic: sessions of IEP services")
    reader.remark("from goal", "synthetic: IEP goals")
    reader.remark("from amendment", "synthetic: IEP amendments")


def goals(year: Year) -> Iterator[Dated]:
    """IEP goals, on the day they were set."""
    for student, begin, n, on, domain, baseline, target, due in year.db.execute(
        "select * from goal order by day, student, begin, n"
    ):
        day, goal = date.fromisoformat(on), _id(year, "goal", student, begin, str(n))
        yield day, year.said(year.synthetic, goal, IEPGoalAdded(
            iep_id=year.id("iep", student, begin), goal_id=goal, student_id=year.student(student), domain=domain,
            description=f"Synthetic goal {n + 1}", baseline=Decimal(baseline), target=Decimal(target),
            measurement="per cent correct", target_date=date.fromisoformat(due),
        ), year.at(day, FIRST_BELL))  # fmt: skip


def amendments(year: Year) -> Iterator[Dated]:
    """Amendments of IEPs, on the day they take effect."""
    for student, begin, on, reviewed in year.db.execute("select * from amendment order by day, student, begin"):
        day = date.fromisoformat(on)
        yield day, year.said(year.synthetic, _id(year, "amendment", student, begin), IEPAmended(
            iep_id=year.id("iep", student, begin), student_id=year.student(student), version=1,
            changed_sections=["accommodations"], reason="Synthetic amendment", effective_date=day,
            amended_by=year.importer, accommodations=list(ACCOMMODATIONS[: 2 + len(student) % 3]),
            review_completed_on=day if reviewed else None,
        ), year.at(day, FIRST_BELL))  # fmt: skip


def services(year: Year) -> Iterator[Dated]:
    """Sessions of services, on their day."""
    for student, begin, service, on, n, minutes, missed, delivery, provider in year.db.execute(
        "select * from session order by day, student, begin, service, n"
    ):
        day, log = date.fromisoformat(on), _id(year, "session", student, begin, service, on, str(n))
        at = year.at(day, FIRST_BELL) + timedelta(minutes=65 * n)
        yield day, year.said(year.synthetic, log, IEPServiceDelivered(
            service_log_id=log, iep_id=year.id("iep", student, begin), student_id=year.student(student),
            service_type=service, provider_id=year.staff(provider), started_at=at, minutes=minutes, delivery=delivery,
            missed_reason=missed,
        ), at)  # fmt: skip


def _id(year: Year, *key: str) -> UUID:
    return year.id("synthetic", str(year.district.seed), *key)


def _after(day: str, days: int, last: str) -> str:
    """So many days later, but not after the last day of the year."""
    return min(str(date.fromisoformat(day) + timedelta(days=days)), last)
