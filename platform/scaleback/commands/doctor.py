"""doctor: what stands in the way of a study, and the cure."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain

from scaleback.commands.doctoring import cluster, machine, storage, versions
from scaleback.commands.doctoring.check import Check
from scaleback.commands.studies import placed


def doctor(options: Namespace) -> int:
    """Run all checks, told as they end; exit code 3 if one fails."""
    placement, store = placed(options)
    checks: Iterable[Check] = chain(
        versions.versions(), machine.machine(), storage.storage(store, repair=options.repair), cluster.ray(placement)
    )
    seen = []
    for check in checks:
        seen.append(check)
        if not options.json:
            print(check, flush=True)
    failed = sum(check.state == "fail" for check in seen)
    if options.json:
        print(json.dumps({"checks": [asdict(check) for check in seen], "failed": failed}))
    return 3 if failed else 0
