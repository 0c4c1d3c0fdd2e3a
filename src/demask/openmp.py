"""How long threads that wait for each other keep a core busy: briefly, so that other work gets it.

    wait_briefly()          # before torch is imported

PyTorch's matrix products are shared by the threads of GNU OpenMP. A thread that is done spins for some
milliseconds in wait for the next product. On a machine that does other work, too, it so takes the core that
the thread it waits for would need, and training falls to a third of its speed. `perf/busy.py` measures it.

The commands and the workers call this. Importing demask does not: the environment of a program that uses it
as a library is that program's, which may call `wait_briefly` itself before it imports torch.
"""

import os
import sys
from collections.abc import MutableMapping

# Of GNU OpenMP, which PyTorch brings on Linux: rounds that a thread spins before it sleeps. Without the
# variable they are 300,000, which its source takes for three milliseconds.
SPIN_COUNT = 1_000
_VARIABLE = "GOMP_SPINCOUNT"
_OF_THE_USER = ("OMP_", "GOMP_", "KMP_")


def wait_briefly(environment: MutableMapping[str, str] | None = None) -> bool:
    """Have threads spin briefly, in this process and those it starts; the number of threads stays.

    As many threads add in the same order, so results stay the same to the bit.

    Args:
        environment: of the process; None: this one's.

    Returns:
        Whether anything was set: not where torch is imported already, which has read its variables, and not
        where the user has set a variable of OpenMP.
    """
    variables = os.environ if environment is None else environment
    if "torch" in sys.modules or any(name.startswith(_OF_THE_USER) for name in variables):
        return False
    variables[_VARIABLE] = str(SPIN_COUNT)
    return True
