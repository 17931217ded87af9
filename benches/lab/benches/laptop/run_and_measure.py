"""Runs a command; prints its times in seconds, its peak memory in KiB and its exit code as JSON.

The memory of a process that another one starts counts from before exec: this one is small.
"""

import json
import os
import sys
import time

begun = time.perf_counter()
pid = os.fork()
if pid == 0:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
print(json.dumps({
    "wall": time.perf_counter() - begun,
    "cpu": usage.ru_utime + usage.ru_stime,
    "peak_kib": usage.ru_maxrss,
    "code": os.waitstatus_to_exitcode(status),
}))
