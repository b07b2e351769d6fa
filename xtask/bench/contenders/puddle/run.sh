# Runs the pipeline of the folder $1; further arguments go to `puddle run`.
#
# Puddle's log says when the partitions are ours, which is a moment before the first record, and what each commit made
# visible. sed passes that on as events, and everything else to standard error.
pipeline="$BENCH_WORK/pipeline"
mkdir -p "$pipeline"
cp "$1/pipeline.toml" "$pipeline"
# SQL reads from a table that is named as the topic, and the bench names its topics.
sed "s/FROM flights/FROM \"$BENCH_TOPIC\"/" "$1/transform.sql" >"$pipeline/transform.sql"
shift

RUST_LOG=warn,puddle_ingest=debug,puddle_pipeline=debug puddle run "$pipeline" --brokers "$BENCH_BROKERS" \
  --lake "$BENCH_OUT" --set "ingest.topics=[\"$BENCH_TOPIC\"]" \
  --set "ingest.group=\"bench-$$\"" --set "reference.airlines.path=\"$BENCH_AIRLINES\"" --until-caught-up --json "$@" 2>&1 >"$BENCH_WORK/summary.json" |
  sed -u -n \
    -e 's/.* is ours from offset .*/{"event":"ready"}/p;t' \
    -e 's/.* committed pipeline=.* records=\([0-9]*\) .*/{"event":"committed","more":\1}/p;t' \
    -e 'w /dev/stderr'
