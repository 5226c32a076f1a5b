"""/datasets: pictures to train on, each set private to the key that sent it."""

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from difuso.jobs.params import MODEL_NAME
from difuso.jobs.trainings.archives import DatasetRefused
from difuso.jobs.trainings.datasets import Dataset
from difuso.jobs.values import Frozen

from ..errors import NotAllowed, NotPossibleNow, UploadRefused
from ..formats import BINARY
from ..http.api_keys import NAME, ApiKey
from ..requests.deps import CallerDep, Process, ProcessDep

BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "images": {
                            "type": "array",
                            "items": BINARY,
                            "description": "one zip archive, or up to 256 PNG, JPEG, WebP or BMP files",
                        },
                        "table": {**BINARY, "description": "CSV or JSON Lines with file_name, and other values"},
                        "name": {"type": "string", "pattern": MODEL_NAME},
                        "licence": {"type": "string"},
                    },
                    "required": ["images", "name"],
                }
            }
        },
    }
}


async def may_train(key: CallerDep) -> None:
    """Refuses a key without the right to train."""
    if key is not None and not key.may_train:
        raise NotAllowed


router = APIRouter(tags=["training"], dependencies=[Depends(may_train)])

Name = Annotated[str, Path(pattern=MODEL_NAME)]
OwnerQuery = Annotated[str | None, Query(pattern=NAME, description="whose, for operators; by default your own")]


class DatasetList(Frozen):
    """Datasets, the newest first."""

    datasets: list[Dataset]


def owner_of(key: ApiKey | None, owner: str | None) -> str | None:
    """Returns whose things a request is about: the caller's own, or as an operator those of the named owner."""
    if key is None or not key.is_operator or owner is None:
        return None if key is None else key.name
    return owner


@router.post(
    "/datasets",
    summary="Send pictures to train on",
    status_code=201,
    response_model=Dataset,
    response_model_exclude_none=True,
    openapi_extra=BODY,
)
async def create_dataset(request: Request, process: ProcessDep, key: CallerDep) -> Dataset:
    """Answers when every picture has been looked at. Metadata such as places are dropped, and large pictures halved.

    Pictures that cannot be used are left out, each with the reason. There must be 50 at least.
    """
    received = await process.dataset_uploads.receive(request)
    try:
        if "name" not in received.fields or not received.images:
            raise UploadRefused("The part is missing", part="images" if received.fields.get("name") else "name")
        return await process.dataset_uploads.store(received, owner_of(key, None), process.datasets)
    except DatasetRefused as error:
        raise UploadRefused(str(error), part=error.part) from error
    finally:
        await to_thread.run_sync(received.close)


@router.get("/datasets", summary="List your datasets", response_model_exclude_none=True)
def list_datasets(process: ProcessDep, key: CallerDep) -> DatasetList:
    """Lists those of the caller; for an operator all."""
    of_all = key is not None and key.is_operator
    return DatasetList(datasets=process.datasets.all(owner_of(key, None), of_all=of_all))


@router.get("/datasets/{name}", summary="Get a dataset", response_model_exclude_none=True)
def get_dataset(name: Name, process: ProcessDep, key: CallerDep, owner: OwnerQuery = None) -> Dataset:
    return process.datasets.get(owner_of(key, owner), name)


@router.get(
    "/datasets/{name}/thumbnails.png",
    summary="Get some pictures of a dataset",
    response_class=Response,
    responses={
        200: {"description": "Up to 48 pictures on one sheet, cropped", "content": {"image/png": {"schema": BINARY}}}
    },
)
async def get_thumbnails(name: Name, process: ProcessDep, key: CallerDep, owner: OwnerQuery = None) -> Response:
    def read(process: Process = process) -> bytes:
        return process.datasets.sheet(process.datasets.get(owner_of(key, owner), name))

    return Response(await run_in_threadpool(read), media_type="image/png")


@router.delete("/datasets/{name}", summary="Delete a dataset", status_code=204)
def delete_dataset(name: Name, process: ProcessDep, key: CallerDep, owner: OwnerQuery = None) -> None:
    """Deletes all bytes of the pictures, unless a training uses them. Models that learned from them stay."""
    wanted = owner_of(key, owner)
    if any((each.owner, each.dataset) == (wanted, name) for each in process.trainings.all() if not each.is_over):
        raise NotPossibleNow("A training uses the dataset: stop or delete it first.")
    process.datasets.delete(wanted, name)
