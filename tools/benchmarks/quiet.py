"""Keeps torch's profiler from writing a line at each start and end.

To be imported before torch, which reads this once.
"""

import os

os.environ.setdefault('KINETO_LOG_LEVEL', '6')
