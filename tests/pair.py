"""Two processes of one gloo group, started once for all tests that need them: a start imports torch anew."""

import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist

WORKERS = 2
PATIENCE = timedelta(minutes=5)


class Pair:
    """Calls a function of a test module in both processes, with the rank first; what it raises there is raised here."""

    def __init__(self):
        self._processes = ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"))

    def __call__(self, member, *given):
        with TemporaryDirectory() as folder:
            meeting = Path(folder, "meeting")
            # A process that has met waits for the other one, so no process takes both.
            futures = [self._processes.submit(_member, member, rank, meeting, given) for rank in range(WORKERS)]
            for future in futures:
                future.result()

    def close(self):
        self._processes.shutdown()


def _member(function, rank, meeting, given):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORKERS, timeout=PATIENCE
        )
        try:
            function(rank, *given)
        finally:
            if dist.is_initialized():  # a group that was cut is gone
                dist.destroy_process_group()
