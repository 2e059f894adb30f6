#!/usr/bin/env python3
"""Sends made-up ad clicks to Kafka, keyed by the person who clicked. Needs `pip install confluent-kafka`."""

import argparse
import itertools
import json
import random
import time
from datetime import datetime, timezone

from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--brokers", default="localhost:9092")
arguments.add_argument("--topic", default="ad_clicks")
arguments.add_argument("--rate", type=int, default=1000, help="clicks a second")
arguments.add_argument("--seconds", type=int, help="for how long; without it until Ctrl-C")
arguments.add_argument("--bad", type=int, default=0, help="of so many messages one is no click; 0: none is")
arguments = arguments.parse_args()

brokers = {"bootstrap.servers": arguments.brokers}
admin = AdminClient(brokers)
topic = admin.create_topics([NewTopic(arguments.topic, num_partitions=4, replication_factor=1)])[arguments.topic]
if (error := topic.exception()) and error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
    raise error

# Idempotent: what is sent again after a lost answer arrives once.
producer = Producer({**brokers, "enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4"})


def click():
    user = random.randrange(1_000_000)
    return str(user), {
        "ad_id": int(10_000 * random.random() ** 4),  # a few ads get most of the clicks
        "click_time": datetime.now(timezone.utc).isoformat(),
        "user_id": user,
        "ip": f"10.{user >> 16 & 255}.{user >> 8 & 255}.{user & 255}",
        "country": random.choice(["DE", "FR", "IN", "JP", "US"]),
    }


begun = time.monotonic()
try:
    for number in itertools.count(1):
        due = begun + number / arguments.rate
        if arguments.seconds and due > begun + arguments.seconds:
            break
        user, value = click()
        bad = arguments.bad and number % arguments.bad == 0
        producer.produce(arguments.topic, key=user, value="no click" if bad else json.dumps(value))
        producer.poll(0)
        time.sleep(max(0, due - time.monotonic()))
except KeyboardInterrupt:
    pass
producer.flush()
