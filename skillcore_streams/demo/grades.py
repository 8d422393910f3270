"""Grades in the report: how they are distributed, and one of them explained item by item."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from html import escape
from typing import Any

from skillcore_streams.demo.parts import MADE_UP, hidden, legend, table
from skillcore_streams.demo.pictures import WIDTH, bar, share, svg

LETTERS = ("A", "B", "C", "D", "F")

GRADES = """
    select o.name as school, c.class_id, c.title, g.current_score as score, g.letter,
           exists (select from assignments a where a.tenant_id = g.tenant_id and a.class_id = g.class_id
                      and a.said_by in (select event_key from event where source like '/import/synthetic/%')) as made_up
      from student_class_grades g
      join classes c using (tenant_id, class_id)
      join orgs o on o.tenant_id = c.tenant_id and o.org_id = c.school_id
     where g.current_score is not null
     order by o.name, c.title, c.class_id"""

# Somebody whose grade shows most rules at once: work that is missing, excused and corrected.
SOMEBODY = """
    select g.tenant_id, g.class_id, g.student_id, y.current_score, y.letter, y.calc_version, c.title
      from grades g
      join student_class_grades y using (tenant_id, class_id, student_id)
      join classes c using (tenant_id, class_id)
      left join (select tenant_id, grade_id, count(*) as words from grade_audit group by 1, 2) w
        using (tenant_id, grade_id)
     group by 1, 2, 3, 4, 5, 6, 7
     order by bool_or(w.words > 1)::int + bool_or(g.missing)::int + bool_or(g.excused)::int + bool_or(g.late)::int desc,
              g.class_id, g.student_id
     limit 1"""

ITEMS = """
    select a.title, a.due_at, a.points_possible as possible, g.score, g.missing, g.excused, g.late, e.id, e.source,
           (select count(*) from grade_audit w where w.tenant_id = g.tenant_id and w.grade_id = g.grade_id) as words
      from grades g
      join assignments a using (tenant_id, class_id, assignment_id)
      join event e on e.tenant_id = g.tenant_id and e.event_key = g.said_by
     where g.tenant_id = $1 and g.class_id = $2 and g.student_id = $3
     order by a.due_at, a.title"""

CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Item:
    """A piece of work in a class grade. Points are exact; `counts` is what it adds, None when it does not count."""

    title: str
    due: datetime | None
    possible: Decimal
    counts: Decimal | None
    why: str
    event: str
    made_up: bool


@dataclass(frozen=True, slots=True)
class Explained:
    """A class grade and everything it came from."""

    title: str
    stored: Decimal
    letter: str
    version: int
    items: list[Item]

    @property
    def earned(self) -> Decimal:
        """Points of all items that count."""
        return sum((item.counts for item in self.items if item.counts is not None), Decimal(0))

    @property
    def possible(self) -> Decimal:
        """Points possible of all items that count."""
        return sum((item.possible for item in self.items if item.counts is not None), Decimal(0))

    @property
    def agrees(self) -> bool:
        """Whether the items come to what is stored, to the last of its 28 digits."""
        return bool(self.possible) and abs(100 * self.earned / self.possible - self.stored) < Decimal("1e-24")


@dataclass(frozen=True, slots=True)
class Class:
    """A class and the per cents of its students."""

    school: str
    title: str
    made_up: bool
    scores: list[Decimal]
    letters: list[str]


@dataclass(frozen=True, slots=True)
class Grades:
    """What the report shows of grades."""

    classes: list[Class]
    explained: Explained | None


async def gather(db: Any) -> Grades:
    """Ask the database."""
    classes: dict[Any, Class] = {}
    for row in await db.fetch(GRADES):
        found = classes.setdefault(row["class_id"], Class(row["school"], row["title"], row["made_up"], [], []))
        found.scores.append(row["score"])
        found.letters.append(row["letter"])
    return Grades(list(classes.values()), await _explain(db))


async def _explain(db: Any) -> Explained | None:
    somebody = await db.fetchrow(SOMEBODY)
    if somebody is None or somebody["current_score"] is None:
        return None
    items = []
    for row in await db.fetch(ITEMS, somebody["tenant_id"], somebody["class_id"], somebody["student_id"]):
        why = ["excused: does not count"] if row["excused"] else ["missing: zero"] if row["missing"] else []
        why += ["late"] if row["late"] else []
        why += [f"corrected, {row['words']} words"] if row["words"] > 1 else []
        items.append(Item(
            row["title"], row["due_at"], row["possible"], None if row["excused"] else row["score"] or Decimal(0),
            ", ".join(why), row["id"], row["source"].startswith("/import/synthetic/"),
        ))  # fmt: skip
    return Explained(somebody["title"], somebody["current_score"], somebody["letter"], somebody["calc_version"], items)


def section(grades: Grades) -> str:
    """The section of the page."""
    if not grades.classes:
        return "<p>No grade was given.</p>"
    students = sum(len(c.scores) for c in grades.classes)
    made_up = sum(len(c.scores) for c in grades.classes if c.made_up)
    parts = [
        f"<p>{students:,} class grades in {len(grades.classes)} classes, each all points earned of all points "
        f"possible, computed again whenever a score came or changed. The files hold the work of one class; {made_up:,} "
        f"of the grades rest on work that was made up from a seed {MADE_UP}.</p>",
        legend((f"grade-{letter}", letter) for letter in LETTERS),
    ]
    for school in sorted({c.school for c in grades.classes}):
        classes = [c for c in grades.classes if c.school == school]
        parts.append(f"<h3>{escape(school)}</h3><figure>{_letters(school, classes)}</figure>")
        parts.append(hidden(f"Its {len(classes)} classes", table(
            f"{school}: per cent by class", ["Class", "", "Students", "Least", "Mean", "Most", "Failing"],
            [_row(c) for c in classes], numbers=5)))
    parts.append(_explained(grades.explained))
    return "".join(parts)


def _letters(school: str, classes: list[Class]) -> str:
    letters = [letter for c in classes for letter in c.letters]
    at, drawn, told = 0.0, [], []
    for letter in LETTERS:
        count = letters.count(letter)
        size = WIDTH * count / len(letters)
        said = f"{letter}: {count:,} grades, {share(count, len(letters))}"
        drawn.append(bar(f"grade-{letter}", at, 0, size, 30, said))
        if size > 60:
            drawn.append(f'<text class="onbar" x="{at + size / 2:.1f}" y="20" text-anchor="middle">{letter} '
                         f"{share(count, len(letters))}</text>")
        told.append(said)
        at += size
    return svg(30, f"{school}: class grades by letter", "; ".join(told) + ".", drawn)


def _row(found: Class) -> list[str]:
    mean = sum(found.scores, Decimal(0)) / len(found.scores)
    return [escape(found.title), MADE_UP if found.made_up else "", f"{len(found.scores)}", _percent(min(found.scores)),
            _percent(mean), _percent(max(found.scores)), str(found.letters.count("F"))]  # fmt: skip


def _explained(explained: Explained | None) -> str:
    if explained is None:
        return ""
    rows = [
        [escape(i.title), f"{i.due:%-d %b}" if i.due else "", escape(i.why), f"<code>{escape(i.event[:8])}</code>",
         "–" if i.counts is None else f"{i.counts:f}", f"{i.possible:f}"] for i in explained.items
    ]  # fmt: skip
    rows.append(["<strong>Sum of what counts</strong>", "", "", "", f"<strong>{explained.earned:f}</strong>",
                 f"<strong>{explained.possible:f}</strong>"])  # fmt: skip
    verdict = (
        "<span class='ok'>The items come to the stored grade.</span>" if explained.agrees
        else "<span class='bad'>The items do not come to the stored grade.</span>"
    )
    made_up = f" {MADE_UP}" if any(i.made_up for i in explained.items) else ""
    return (
        f"<h3>One grade, explained{made_up}</h3><p>A student’s {_percent(explained.stored)} "
        f"({escape(explained.letter)}) in {escape(explained.title)}, version {explained.version} of it: "
        f"100 × {explained.earned:f} / {explained.possible:f}. {verdict}</p>"
        + table("Every item of the grade", ["Work", "Due", "", "Event", "Points", "Of"], rows, numbers=2)
    )


def _percent(value: Decimal) -> str:
    return f"{value.quantize(CENT, ROUND_HALF_UP):f} %"
