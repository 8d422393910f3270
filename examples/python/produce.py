"""Write attendance marks to SkillCore from Python. Needs confluent-kafka and nothing of SkillCore.

    python produce.py --kafka 127.0.0.1:9092 --tenant oak ../marks.jsonl
"""

import argparse
import json
import sys

from confluent_kafka import Producer

TOPIC = "skillcore.attendance.events.v1"
TYPE = "com.skillcore.attendance.AttendanceMarked.v1"
SOURCE = "/sis/example"

parser = argparse.ArgumentParser(description="Write attendance marks to SkillCore.")
parser.add_argument("--kafka", default="127.0.0.1:9092")
parser.add_argument("--tenant", required=True)
parser.add_argument("file")
options = parser.parse_args()

producer = Producer({
    "bootstrap.servers": options.kafka,
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # as Java, kafkajs and SkillCore: one student, one partition, one order
})
failed = []

with open(options.file, encoding="utf-8") as lines:
    for mark in map(json.loads, lines):
        producer.produce(
            TOPIC,
            key=mark["student_id"],
            value=json.dumps(mark),
            headers={
                "ce_specversion": "1.0",
                # The row and its state: sent again it is the same event, changed and sent it is another one.
                "ce_id": f"{mark['attendance_id']}@{mark['marked_at']}",
                "ce_type": TYPE,
                "ce_source": SOURCE,
                "ce_time": mark["marked_at"],
                "ce_tenantid": options.tenant,
                "content-type": "application/json",
            },
            on_delivery=lambda error, message: failed.append(error) if error else None,
        )

waiting = producer.flush(30)
if failed or waiting:
    sys.exit(f"{len(failed) + waiting} marks were not acknowledged. Run it again: repeats change nothing.")
