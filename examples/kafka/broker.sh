#!/usr/bin/env bash
# A Kafka broker on localhost:9092 for trying things out; its data is in ./kafka-data. Needs Java 17 and Maven.
set -euo pipefail
pom=$(cd "$(dirname "$0")/../.." && pwd)/tests/kafka/pom.xml
mkdir -p kafka-data
mvn -B -ntp -q -f "$pom" dependency:build-classpath -Dmdep.pathSeparator=: -Dmdep.outputFile="$PWD/kafka-data/classpath"
cat > kafka-data/server.properties <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:9093
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
log.dirs=$PWD/kafka-data/log
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
EOF
kafka=(java -Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$(cat kafka-data/classpath)")
"${kafka[@]}" kafka.tools.StorageTool format --ignore-formatted --config kafka-data/server.properties \
    --cluster-id "$("${kafka[@]}" kafka.tools.StorageTool random-uuid)" >/dev/null
exec "${kafka[@]}" kafka.Kafka kafka-data/server.properties
