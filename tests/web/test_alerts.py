"""The alert rules name metrics that exist, and fire at the seed's thresholds."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from skillcore_streams import metrics
from skillcore_streams.config import ROOT

RULES = ROOT / "k8s" / "alerts.yaml"

TESTS = """
rule_files: [{rules}]
evaluation_interval: 30s
tests:
  - interval: 30s
    input_series:
      - {{series: 'bullmq_queue_waiting_count{{queue="a",instance="1"}}', values: '1001x10'}}
      - {{series: 'bullmq_queue_waiting_count{{queue="a",instance="2"}}', values: '1001x10'}}
      - {{series: 'bullmq_queue_waiting_count{{queue="b",instance="1"}}', values: '600x10'}}
      - {{series: 'bullmq_queue_waiting_count{{queue="b",instance="2"}}', values: '600x10'}}
      - {{series: 'bullmq_queue_waiting_count{{queue="a-dlq",instance="1"}}', values: '5000x10'}}
      - {{series: 'dlq_message_count{{source="a",instance="1"}}', values: '26x10'}}
      - {{series: 'dlq_message_count{{source="a",instance="2"}}', values: '26x10'}}
      - {{series: 'dlq_message_count{{source="b",instance="1"}}', values: '25x10'}}
      - {{series: 'event_lag_seconds{{instance="1"}}', values: '300x10'}}
      - {{series: 'event_worker_count{{group="event-workers"}}', values: '2x10'}}
      - {{series: 'job_oldest_waiting_seconds{{queue="a"}}', values: '1000x10'}}
      - {{series: 'job_oldest_waiting_seconds{{queue="b"}}', values: '1000x10'}}
      - {{series: 'queue_paused{{queue="a"}}', values: '0x10'}}
      - {{series: 'queue_paused{{queue="b"}}', values: '1x10'}}
    promql_expr_test:
      - {{expr: 'count(ALERTS{{alertstate="firing",alertname="QueueBacklog"}})', eval_time: 4m,
         exp_samples: [{{value: 1}}]}}
      - {{expr: 'count(ALERTS{{alertstate="firing",alertname="DeadLetters"}})', eval_time: 4m,
         exp_samples: [{{value: 1}}]}}
      - {{expr: 'count(ALERTS{{alertstate="firing",alertname="JobsWaitLong"}})', eval_time: 4m,
         exp_samples: [{{value: 1}}]}}
      - {{expr: 'ALERTS{{alertname=~"EventLag|NoWorkers|QueuePausedForLong"}} == 2', eval_time: 4m, exp_samples: []}}
"""


def test_every_metric_that_a_rule_names_is_exported() -> None:
    exported = {family.name for family in metrics.REGISTRY.collect()}
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            named = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", rule["expr"]))
            assert named, rule["alert"]
            assert named <= exported, rule["alert"]
            assert rule["annotations"].keys() == {"summary", "look"}


def test_the_rules_fire_at_the_seed_s_thresholds(tmp_path: Path, promtool: str) -> None:
    tests = tmp_path / "tests.yaml"
    tests.write_text(TESTS.format(rules=RULES))

    for command in (["check", "rules", str(RULES)], ["test", "rules", str(tests)]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
