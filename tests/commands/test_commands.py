"""The commands as an operator runs them: what they say, and with which exit code they end."""

from __future__ import annotations

from tests.commands.lab import STUDENT, Machine, RunningWorker, absence, until, user


def test_help_lists_every_command_with_its_purpose(machine: Machine) -> None:
    said = machine.run("--help")

    for command in (
        "stack", "topics", "migrate", "send", "import", "events", "explain", "dead-letters", "queues", "jobs",
        "offsets", "demo",
    ):
        assert command in said


def test_a_wrong_option_is_a_usage_error_and_exits_64(machine: Machine) -> None:
    assert "No such option" in machine.run("events", "show", "--colour", code=64)
    assert "No such command" in machine.run("event", code=64)


def test_an_unknown_setting_is_named_and_exits_78(machine: Machine) -> None:
    said = machine.run("migrate", code=78, SKILLCORE_DATABSE_URL="x")

    assert "SKILLCORE_DATABSE_URL" in said
    assert "SKILLCORE_DATABASE_URL" in said


def test_a_bad_setting_is_named_without_its_value(machine: Machine) -> None:
    said = machine.run("migrate", code=78, SKILLCORE_WEB_PORT="99999secret")

    assert "SKILLCORE_WEB_PORT" in said
    assert "99999secret" not in said


def test_migrate_twice_changes_nothing(machine: Machine) -> None:
    assert "up to date" in machine.run("migrate")
    assert machine.json("migrate") == []


def test_commands_without_a_database_say_so_in_a_sentence(machine: Machine) -> None:
    said = machine.run("events", "show", code=1, SKILLCORE_DATABASE_URL="postgresql://x@127.0.0.1:1/x")

    assert said.startswith("skillcore: ")
    assert len(said.splitlines()) == 1


def test_events_show_masks_what_tells_of_a_person(machine: Machine, worker: RunningWorker) -> None:
    said = machine.run("events", "show", "user-1")

    assert "UserCreated" in said
    assert STUDENT in said
    assert "Penelope" not in said
    assert "•••" in said


def test_events_show_lists_the_newest_that_fit(machine: Machine, worker: RunningWorker) -> None:
    rows = machine.json("events", "show", "--tenant", "oak", "--type", "UserCreated")

    assert [r["id"] for r in rows] == ["user-1"]
    assert "No event fits" in machine.run("events", "show", "--tenant", "nobody")


def test_an_event_that_is_not_there_is_said_with_where_to_look_next(machine: Machine) -> None:
    assert "dead-letters list" in machine.run("events", "show", "nothing-like-this", code=1)


def test_trace_tells_who_handled_an_event_and_what_followed(machine: Machine, worker: RunningWorker) -> None:
    machine.run("send", "AttendanceMarked", "--tenant", "oak", "--id", "mark-1", "--data", absence())
    until(lambda: "StudentAbsent" in machine.run("events", "show", "--tenant", "oak", "--json"), 30, worker.said)

    said = machine.run("events", "trace", "mark-1")

    assert "handled by attendance.DailyAttendanceAggregationHandler" in said
    assert "ordered school_day on attendance-aggregation" in said
    assert "StudentAbsent" in said
    assert "ordered deliver on notification-delivery" in said


def test_a_bad_event_is_refused_by_send_and_parked_from_the_topic(machine: Machine, worker: RunningWorker) -> None:
    said = machine.run("send", "UserCreated", "--tenant", "oak", "--data", '{"given_name": "Penelope"}', code=64)

    assert "user_id" in said
    assert "Penelope" not in said


def test_dead_letters_are_grouped_by_cause_and_shown_masked(machine: Machine, worker: RunningWorker) -> None:
    for surname in ("Oak", "Ash"):  # the same id with two bodies: the second is a conflict
        machine.run("send", "UserCreated", "--tenant", "oak", "--id", "user-2", "--data", user(surname))
    until(lambda: machine.json("dead-letters", "list", "--tenant", "oak", "--each"), 30, worker.said)

    [group] = machine.json("dead-letters", "list", "--tenant", "oak")
    [letter] = machine.json("dead-letters", "list", "--tenant", "oak", "--each")
    shown = machine.run("dead-letters", "show", letter["id"][:13])
    why = "--reason", "the school asks", "--actor", "ann"
    whole = machine.run("dead-letters", "show", letter["id"], "--reveal", *why)

    assert (group["letters"], group["tenants"]) == (1, ["oak"])
    assert "--reason" in machine.run("dead-letters", "show", letter["id"], "--reveal", code=64)
    [look] = machine.json("dead-letters", "show", letter["id"])["acts"]
    assert (look["actor"], look["action"], look["reason"]) == ("ann", "dead-letters reveal", "the school asks")
    assert "another body" in group["reason"]
    assert "Penelope" not in shown
    assert "Penelope" in whole


def test_offsets_agree_and_can_be_set_with_a_reason(machine: Machine, worker: RunningWorker) -> None:
    rows = machine.json("offsets", "show")
    row = next(r for r in rows if r["topic"].startswith("skillcore.rostering") and r["next"])

    assert row["problem"] is None
    assert "Missing option '--reason'" in machine.run("offsets", "set", row["topic"], "0", "0", code=64)
    before = len(machine.json("events", "show", "--tenant", "oak", "--limit", "1000"))
    place = row["topic"], str(row["partition"])
    assert "Its worker goes there" in machine.run("offsets", "set", *place, "0", "--reason", "a test reads it again")

    def caught_up() -> bool:
        rows = machine.json("offsets", "show", "--all")
        now = next(r for r in rows if r["topic"] == row["topic"] and r["partition"] == row["partition"])
        return bool(now["lag"] == 0)

    # nobody writes to the partition, so no fence tells the worker: it sees for itself, reads again, and nothing changes
    until(caught_up, 30, worker.said)
    assert len(machine.json("events", "show", "--tenant", "oak", "--limit", "1000")) == before
