#!/bin/sh
# Write attendance marks to SkillCore with nothing but Kafka's own command line.
#
#   ./send.sh 127.0.0.1:9092 oak ../marks.jsonl
#
# Uses kafka-console-producer of an installed Kafka (4.2 or later); without one, Maven fetches its jars into KAFKA_LIBS.
set -eu
[ $# = 3 ] || { echo "usage: send.sh HOST:PORT TENANT FILE" >&2; exit 64; }
kafka=$1 tenant=$2 file=$3
here=$(cd "$(dirname "$0")" && pwd)
libs=${KAFKA_LIBS:-$here/libs}

if command -v kafka-console-producer.sh >/dev/null 2>&1; then
    producer() { kafka-console-producer.sh "$@"; }
else
    [ -d "$libs" ] || mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$libs"
    producer() { java -cp "$libs/*" org.apache.kafka.tools.ConsoleProducer "$@"; }
fi

# The value of a string field of one line of JSON.
field() { printf '%s\n' "$2" | sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"; }

# One line a record: headers, tab, key, tab, value. A header's value may hold no comma.
while IFS= read -r mark; do
    headers="ce_specversion:1.0,ce_id:$(field attendance_id "$mark")@$(field marked_at "$mark")"
    headers="$headers,ce_type:com.skillcore.attendance.AttendanceMarked.v1,ce_source:/sis/example"
    headers="$headers,ce_time:$(field marked_at "$mark"),ce_tenantid:$tenant,content-type:application/json"
    printf '%s\t%s\t%s\n' "$headers" "$(field student_id "$mark")" "$mark"
done <"$file" | producer --bootstrap-server "$kafka" --topic skillcore.attendance.events.v1 \
    --reader-property parse.headers=true --reader-property parse.key=true \
    --command-property acks=all --command-property enable.idempotence=true
