"""Trains a network to execute programs, evaluates it and exports it.

    python -m keras_l2e.train --flagfile=quickstart.cfg --workdir=W

Prepares missing data by itself. The same command goes on where a stopped run left off, bit for bit.
"""

from keras_l2e import command_line
from keras_l2e.config import Run
from keras_l2e.training import session


def main(run: Run) -> None:
    session.train(run.config, run.workdir)


if __name__ == "__main__":
    command_line.run(main, Run)
