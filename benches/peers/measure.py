"""Runs a command and prints its seconds, peak bytes and output as JSON: python -I -S measure.py COMMAND ARGUMENT ...

A program of its own, because Linux counts the memory of the process that starts a command as the command's: this one is
small, `compare.py` is not.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

with tempfile.TemporaryFile() as log:
    start = time.perf_counter()
    child = subprocess.Popen(sys.argv[1:], stdout=log, stderr=log)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    log.seek(0)
    output = log.read().decode(errors="replace")
# Kilobytes, but on macOS bytes.
peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"seconds": seconds, "bytes": peak, "status": child.returncode, "output": output}))
