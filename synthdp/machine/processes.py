"""Whether this machine lets several processes work together."""

import logging
import multiprocessing
from functools import lru_cache

logger = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def can_work_together() -> bool:
    """Whether worker processes can be had; says once why not.

    They wait for each other by semaphores, which Linux keeps in /dev/shm: some containers have
    none, or one that can't be written. What would be shared out is done by this process then.
    """
    try:
        multiprocessing.get_context("fork").Lock()
    except (ImportError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else "there are none"
        logger.warning(
            "worker processes need semaphores in shared memory (%s), so this process does all work "
            "by itself; make /dev/shm writable for more at once",
            why,
        )
        return False
    return True
