"""Which file of tests a process takes next: one that mostly waits beside others that compute.

Tests of the whole program wait for alerts, leases and intervals, most others use a core all the time. With all of the first at
once the cores are idle, and with none of them there is more to compute than the cores can. So a third of the processes waits.
"""

from collections.abc import Iterator

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

WAITING = "tests/end_to_end/"
PLATFORM = "tests/demo/"
"""Its files share one running sample platform, which each process would have to start."""


class Mixed(LoadFileScheduling):
    """Files are handed out in the order of the collection, but no more than a third of those under way is of the waiting sort."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return PLATFORM if file.startswith(PLATFORM) else file

    def _assign_work_unit(self, node: WorkerController) -> None:
        enough = sum(scope.startswith(WAITING) for scope in self._under_way()) >= max(1, len(self.nodes) // 3)
        for scope in self.workqueue:
            if scope.startswith(WAITING) != enough:
                self.workqueue.move_to_end(scope, last=False)
                break
        super()._assign_work_unit(node)

    def _under_way(self) -> Iterator[str]:
        for work in self.assigned_work.values():
            for scope, tests in work.items():
                if not all(tests.values()):
                    yield scope
