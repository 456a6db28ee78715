"""Signals that wait while a library reads that would lose the exception they end in."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from vidgen.errors import ENDING_SIGNALS


@contextmanager
def signals_held() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait for the end of the block, those of them that Python code handles.

    Tensors of safetensors are read so. They are made by `torch.asarray`, which asks Python for an item of the file's
    storage, and whatever a handler raises meanwhile becomes "ValueError: could not determine the shape of object type
    'torch.storage.UntypedStorage'": measured, half of all signals in a load were lost.
    """
    if threading.current_thread() is not threading.main_thread():  # others are not disturbed by signals
        yield
        return
    waiting: list[int] = []
    try:
        with ExitStack() as stack:
            for number in (signal.SIGINT, *ENDING_SIGNALS):
                handler = signal.getsignal(number)
                if callable(handler):
                    stack.callback(signal.signal, number, handler)
                    signal.signal(number, lambda number, _: waiting.append(number))
            yield
    finally:
        for number in waiting:
            signal.raise_signal(number)
