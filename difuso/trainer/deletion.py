"""How a trainer deletes a training; after an error that is tried again when the lease is over."""

import logging
import shutil
from contextlib import suppress

from difuso.jobs.trainings.records import Claim

from .attempt import Trainer

log = logging.getLogger(__name__)


def delete(trainer: Trainer, claim: Claim) -> None:
    """Deletes the files, the model and the record of a training; raises StoreUnavailable, LeaseLost or RedisError."""
    training = claim.training
    trainer.files.delete(training.id)
    trainer.trainings.report(claim)  # another may have deleted it by now, and the name be someone else's
    if training.progress.served is not None:
        aside = trainer.trained_dir / f".{training.name}-{training.id}"  # so that it goes at once
        with suppress(FileNotFoundError):
            (trainer.trained_dir / training.name).rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    trainer.trainings.forget(claim)
    log.info("training %s is deleted", training.name)
