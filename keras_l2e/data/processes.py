"""Worker processes that call a function, and that end with the process that started them.

    >>> list(run(len, ["three"], num_workers=1))
    [('three', 5)]

A `ProcessPoolExecutor` alone imports the caller's main module again, is reached by the terminal's
Ctrl-C, waits for running calls when it is interrupted, and outlives a caller that is killed.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection


def run(function: Callable, arguments: Sequence, num_workers: int) -> Iterator[tuple]:
    """Yields `(argument, function(argument))` as the results come.

    When the iteration ends early, or this process in whatever way, SystemExit is raised in the
    calls that are running, and their processes end.

    Args:
        function: found by its name in a module other than `__main__`, or a `partial` of such one.
        arguments: what to call it with.
        num_workers: processes that are started.

    Raises:
        concurrent.futures.process.BrokenProcessPool: a worker was killed.
        Exception: what the function has raised.
    """
    context = multiprocessing.get_context("spawn")
    # The end of this process, in whatever way, is the end of the pipe; so is closing it.
    pipe, own_end = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(num_workers, context, _start, (pipe,))
    with pipe, pool, own_end:  # Closed before the pool, which waits for its workers.
        with _unlike_main():
            calls = {pool.submit(_call, function, argument): argument for argument in arguments}
        for call in concurrent.futures.as_completed(calls):
            yield calls[call], call.result()


@contextlib.contextmanager
def _unlike_main() -> Iterator[None]:
    """Processes that are started meanwhile know no main module, and ignore Ctrl-C.

    That module may be a script that does its work without asking for its `__name__`. Ctrl-C is for
    the process that it interrupts; they end with it.
    """
    main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start(pipe: Connection) -> None:
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()


def _end_with(pipe: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)  # If the call cannot be interrupted.
    os._exit(1)


def _call(function: Callable, argument):
    # An exception, so that the call cleans up; between two calls a worker ends silently.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return function(argument)
    except SystemExit:
        os._exit(1)  # The executor would hand it on, and go on with the next call.
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
