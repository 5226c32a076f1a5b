"""Datasets and trainings whose store is a bucket: what a trainer saved there, another machine goes on from."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import s3fs
from PIL import Image

from difuso.jobs.trainings.datasets import DatasetNotFound, Datasets
from difuso.jobs.trainings.records import TrainingNotFound, Trainings
from difuso.jobs.trainings.scripts import DUE, RECORD
from difuso.jobs.trainings.states import TrainingFiles
from tests.training_lab import Lab, tiny
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def lab(redis_url: str, client: redis.Redis, s3: dict[str, str], s3_url: str, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(redis_url, tmp_path, Trainings(client), DIFUSO_STORE_URL=s3_url, **s3)
    yield lab
    lab.close()


def test_a_training_in_a_bucket_goes_on_on_another_machine_and_leaves_nothing(
    lab: Lab, client: redis.Redis, s3_url: str
) -> None:
    order = tiny(lab, 120, "log_every=10")
    first = lab.start()
    lab.until(order, lambda _: client.hget(RECORD + order.id, "saved"), "something was saved")
    first.kill()
    first.wait()
    saved = int(str(client.hget(RECORD + order.id, "saved"), "ascii").rpartition("-")[2])  # type: ignore[arg-type]
    client.zadd(DUE, {order.id: 1})
    lab.start()
    done = lab.until(order, lambda found: found.state == "succeeded", "the training has ended")
    assert f"resuming at step {saved}" in done.log
    assert done.progress.step == done.progress.served == 120
    assert not lab.store.exists(), "all of it is in the bucket"
    sheet = TrainingFiles(s3_url).sheet(order.id, "sheets", done.progress.sheets[-1])
    assert Image.open(io.BytesIO(sheet)).width > 16
    bucket = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    assert bucket.find(f"{s3_url}/trainings/{order.id}")
    lab.trainings.ask(order.id, "delete")
    with pytest.raises(TrainingNotFound):
        lab.trainings.get(order.id)
    wait_until(lambda: not bucket.find(f"{s3_url}/trainings"), 60, "its files are gone")
    datasets = Datasets(s3_url)
    datasets.delete(None, "icons")
    with pytest.raises(DatasetNotFound):
        datasets.get(None, "icons")
    assert not bucket.find(s3_url)
