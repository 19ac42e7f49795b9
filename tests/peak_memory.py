"""The peak memory of a scoring run in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = """
import json, resource, sys, threading, time
from batchsent.errors import BatchsentError
from batchsent.commands.batch import batch
from tests.hash_model import HashModels
options = json.loads(sys.argv[3])
peak = 0
def sample():
    global peak
    while True:
        peak = max(peak, next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")))
        time.sleep(0.01)
threading.Thread(target=sample, daemon=True).start()
resource.setrlimit(resource.RLIMIT_NOFILE, (options.pop("files", 1024),) * 2)
try:
    code, said = batch(sys.argv[1], sys.argv[2], models=HashModels(batch_rows=4096), **options)["exit_code"], ""
except BatchsentError as error:
    code, said = error.exit_code, str(error)
print(json.dumps([code, said, peak >> 10]))
"""


def peak(source, target, stdin=None, **options):
    """Exit code, message and peak memory in MB of scoring `source`."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, source, target, json.dumps(options)],
        cwd=ROOT,
        stdin=stdin,
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


def piped(command, target, **options):
    """The same of what a shell command writes to a pipe."""
    with subprocess.Popen(
        ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as producer:
        found = peak("-", target, stdin=producer.stdout, **options)
        producer.stdout.close()
    return found
