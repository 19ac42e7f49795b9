#!/bin/sh
# Score a CSV and look at it in pandas without a file in between. Usage: examples/pipe_into_pandas.sh MODEL FILE
set -eu
batchsent batch "$2" -o - --model "$1" --output-format arrow --quiet |
    python3 -c '
import sys, pyarrow as pa
frame = pa.ipc.open_stream(sys.stdin.buffer).read_pandas()
print(frame.groupby("label")["score"].agg(["count", "mean"]))
'
