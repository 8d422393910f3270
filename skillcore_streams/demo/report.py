"""The report as one HTML page that needs nothing else. It names no student."""

from __future__ import annotations

import os
import platform
from html import escape
from pathlib import Path

from skillcore_streams.demo import absences, evening, grades, pictures, plans
from skillcore_streams.demo.parts import MADE_UP, legend, section, table
from skillcore_streams.demo.pictures import KINDS, TIERS, share
from skillcore_streams.demo.play import SEED
from skillcore_streams.demo.proof import Line
from skillcore_streams.demo.told import Told, commands, difference, parked

STYLE = Path(__file__).with_name("report.css")


def html(told: Told) -> str:
    """The whole page."""
    title, facts = "A school year through SkillCore Streams", told.facts
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{STYLE.read_text()}</style>
</head>
<body>
<a class="skip" href="#proof">To the proof</a>
<header>
<p class="over">SkillCore Streams, a demonstration on {_broker(told)} and PostgreSQL</p>
<h1>{"Nothing lost, nothing doubled" if told.ok else "Not as it should be"}</h1>
<p class="lead">{_lead(told)}</p>
{_tiles(told)}
</header>
<main>
{section("run", "What happened", _run(told))}
{section("year", "The year at each school", _year(told))}
{section("thresholds", "Students past the thresholds", _past(told))}
{section("grades", "Grades", grades.section(facts.grades))}
{section("reviews", "What must be reviewed, and by when", plans.deadlines(facts.plans, told.calendar[-1]))}
{section("services", "The minutes that were promised", plans.services(facts.plans))}
{section("messages", "What families and staff were told", _messages(told))}
{section("life", "The life of one absence", _life(told))}
{section("parked", "What was parked, and why", _parked_table(told))}
{section("proof", "The proof", _proof(told))}
{section("how", "How it ran", _how(told))}
{section("next", "Where to look next", _next(told))}
</main>
<footer><p>Grand Bend ISD is the Ed-Fi Alliance’s sample district: invented people, real structure. Data © Ed-Fi
Alliance, LLC and contributors, Apache License 2.0. What is marked {MADE_UP} was made up from seed {SEED}, because the
sample lacks it; the source of its events says so too. This page names no student; ids are cut to eight characters.</p>
</footer>
</body>
</html>
"""


def _broker(told: Told) -> str:
    return "Apache Kafka" if told.kafka == "apache" else "librdkafka’s in-memory broker"


def _lead(told: Told) -> str:
    played = told.played
    days = len(told.calendar)
    return (
        f"The {days} school days of a district, with its classes, grades, plans and services, went through Kafka as "
        f"{played.sent:,} events. In the middle a worker was killed with <code>kill -9</code>, {played.again} events "
        f"came twice and {len(played.injected)} records were garbage. Then "
        f"every effect was compared with a recount, from the XML and, of what was made up, from the events as they "
        f"were published: <strong>{told.verdict}</strong>."
    )


def _tiles(told: Told) -> str:
    played = told.played
    tiles = [
        (f"{told.proof.lost}", "lost"),
        (f"{told.proof.duplicated}", "duplicated"),
        (f"{played.stored:,}", "events stored and handled"),
        (f"{played.events_per_second:,.0f}/s", "events, end to end"),
        (f"{played.crash_to_caught_up:.1f} s", "from kill -9 to caught up"),
        (f"{played.cpu_per_event:,.0f} µs", "worker CPU an event"),
    ]
    return '<dl class="tiles">' + "".join(
        f"<div><dt>{escape(words)}</dt><dd>{escape(figure)}</dd></div>" for figure, words in tiles
    ) + "</dl>"


def _run(told: Told) -> str:
    played = told.played
    marks = [
        (played.killed_at, f"kill -9 of worker {played.killed}"),
        (played.joined_at, "another worker has joined"),
        (played.recovered_at, "caught up with the crash"),
        (played.sent_at, "everything is sent"),
        (played.caught_up_at, "nothing is left"),
    ]
    return (
        "<p>Events stored in each half second, and below it the records that nobody had processed yet. Session "
        "timeout is "
        "2 s here, so that the group notices the death sooner than in production (10 s). Postgres, not the "
        "group, says where "
        "each partition goes on.</p>"
        f"<figure>{pictures.run(told.scene.looks, sorted(marks))}</figure>"
    )


def _year(told: Told) -> str:
    shares = [
        100 * (w.all - w.present) / w.all for s in told.facts.schools for w in s.weeks if w.all
    ]
    most = pictures.nice(max(shares, default=1))
    kinds = legend((("present", "present"), *KINDS))
    parts = [
        "<p>Each bar is a week: the share of student-days that were not simply present. The thin bar above is "
        "the whole "
        f'year at full length.</p>{kinds}'
    ]
    for school in told.facts.schools:
        days = sum(week.all for week in school.weeks)
        parts.append(
            f"<h3>{escape(school.name)}</h3><p class='sub'>{school.students} students with marks, {days:,} "
            f"student-days, {share(school.sum('present'), days)} present</p>"
            f"<figure>{pictures.whole(school)}{pictures.weeks(school, most)}</figure>"
        )
    rows = [
        [escape(s.name), *(f"{s.sum(kind):,}" for kind in ("present", "unexcused", "excused", "tardy", "other")),
         share(s.sum("present"), sum(w.all for w in s.weeks))]
        for s in told.facts.schools
    ]
    parts.append(table("Student-days of the year, instructional days only",
                        ["School", "Present", "Unexcused", "Excused", "Tardy", "Part", "Present"], rows, numbers=6))
    return "".join(parts)


def _past(told: Told) -> str:
    facts, calendar = told.facts, told.calendar
    students = sum(facts.days_absent.values())
    rows = [[escape(s.name), *(str(s.reached[tier]) for tier, *_ in TIERS)] for s in facts.schools]
    rows.append(["<strong>All</strong>", *(
        f"<strong>{sum(found == tier for found, _ in facts.reached)}</strong>" for tier, *_ in TIERS)])
    return (
        "<p>A rate is days absent, excused or not, of the instructional days since enrolment, looked at from the "
        "20th such "
        "day on. Early in the year a few days weigh much, so more students have once reached a threshold than "
        "end the year "
        f"beyond it.</p><div "
        f"class='pair'><figure>{pictures.reached(facts.reached, calendar[0], calendar[-1], students)}"
        "<figcaption>Students who had reached each threshold</figcaption></figure>"
        f"<figure>{pictures.histogram(facts.days_absent, len(calendar))}"
        "<figcaption>Students by days missed at the end</figcaption></figure></div>"
        + table("Thresholds reached", ["School", *(words for _, words, _ in TIERS)], rows, numbers=3)
        + f"<p><strong>{facts.three_in_seven} students</strong> were absent three times or more within seven days.</p>"
        + absences.section(facts.explained)
    )


def _life(told: Told) -> str:
    steps = told.facts.life
    if not steps:
        return "<p>No absence was traced.</p>"
    first = next((step.at for step in steps if step.at is not None), None)
    items = []
    for step in steps:
        after = "" if step.at is None or first is None else f"{(step.at - first).total_seconds() * 1000:+,.0f} ms"
        what, where = escape(step.what), escape(step.where)
        items.append(f"<li><span class='when'>{after}</span><span>{what}</span><code>{where}</code></li>")
    return (
        "<p>One absence, from the district’s file to the notice. Times count from the transaction that stored "
        "the mark.</p>"
        f"<ol class='life'>{''.join(items)}</ol>"
    )


def _parked_table(told: Told) -> str:
    rows = [[str(number), escape(kind), escape(reason)] for (kind, reason), number in parked(told)]
    return (
        f"<p>{len(told.played.injected)} bad records of {len({i.kind for i in told.played.injected})} kinds were "
        f"thrown in. "
        "None stopped a partition, none was dropped: each lies in the dead letters with its original bytes, key, "
        "headers and "
        "place, and a reason that quotes nothing of it.</p>"
        + table("Dead letters by cause", ["Letters", "Thrown in", "Reason given"], rows, numbers=0)
    )


def _proof(told: Told) -> str:
    proof = told.proof
    sections: dict[str, list[Line]] = {}
    for line in proof.lines:
        sections.setdefault(line.section, []).append(line)
    body = []
    for heading, lines in sections.items():
        body.append(f"<tbody><tr><th colspan='7' scope='rowgroup'>{escape(heading)}</th></tr>")
        for line in lines:
            verdict = f"<span class='{'ok' if line.ok else 'bad'}'>{escape(difference(line) or 'ok')}</span>"
            body.append(
                f"<tr><td>{escape(line.what)}</td><td class='dim'>{escape(line.where)}</td>"
                f"<td class='n'>{line.expected:,}</td><td class='n'>{line.found:,}</td><td "
                f"class='n'>{line.lost}</td><td class='n'>{line.duplicated}</td>"
                f"<td>{verdict}</td></tr>"
            )
        body.append("</tbody>")
    return (
        "<p>The expectation is computed from the XML, and for what was made up from the events as they were "
        "published, by scripts that share no code with the product. Topics are read from "
        "their first record and tables by plain SQL. Lost is what is missing, duplicated what is there too "
        "often; both are "
        "counted, row by row.</p><div class='scroll' tabindex='0' role='region' aria-label='The comparisons'><table>"
        f"<caption>{proof.compared:,} things compared: {told.verdict}</caption><thead><tr><th scope='col'>What</th>"
        "<th scope='col'>Read from</th><th scope='col' class='n'>Expected</th><th scope='col' class='n'>Found</th>"
        "<th scope='col' class='n'>Lost</th><th scope='col' class='n'>Duplicated</th><th scope='col'>Verdict</th>"
        "</tr></thead>"
        f"{''.join(body)}</table></div>"
    )


def _messages(told: Told) -> str:
    return evening.section(told.facts.messages, told.played.texts, told.played.fell_back)


def _how(told: Told) -> str:
    seconds = [[escape(name), f"{value:.1f} s"] for name, value in told.seconds.items()]
    alive = dict(told.workers)
    states = dict.fromkeys(told.played.worker_cpu, "ended") | dict.fromkeys(alive, "alive")
    states[told.played.killed] = "killed"
    workers = [
        [escape(name), states[name], f"{cpu:.1f} s"]
        for name, cpu in told.played.worker_cpu.items()
    ]
    jobs = [[escape(j["queue"]), escape(j["kind"]), escape(j["state"]), f"{j['jobs']:,}"] for j in told.facts.jobs]
    machine = (
        f"{len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}, PostgreSQL {told.facts.postgres}, "
        f"{_broker(told)}. Kafka, Postgres, the workers and the sender share them."
    )
    return (
        f"<p>{escape(machine)}</p><div class='pair'>"
        + table("Time", ["Part", "Seconds"], seconds, numbers=1)
        + table("Workers’ CPU since they were ready", ["Worker", "State", "CPU"], workers, numbers=1)
        + "</div>"
        + table("Jobs", ["Queue", "Kind", "State", "Jobs"], jobs, 1)
    )


def _next(told: Told) -> str:
    pages = "".join(
        f"<li>Worker {escape(name)}: " + ", ".join(
            f'<a href="http://{address}{path}">{path}</a>' for path in ("/health/events", "/readyz", "/metrics")
        ) + "</li>" for name, address in told.workers
    )
    tries = "\n".join(f"<span># {escape(purpose)}</span>\n{escape(command)}" for command, purpose in commands(told))
    return f"<p>While the demonstration is left running:</p><ul>{pages}</ul><pre>{tries}</pre>"
