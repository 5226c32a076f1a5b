"""GET /jobs: the query, and the answer with a link to the next part."""

from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode

from pydantic import Field
from starlette.responses import Response

from jobs.contract import JobState
from jobs.kinds import KINDS
from jobs.params import MODEL_NAME, TAG
from jobs.redis.index import Page, Wanted
from jobs.values import Frozen

from ..formats import Format
from ..http.api_keys import ApiKey
from .views import list_text

# A type that validates requests. For mypy, which cannot see the registry, it is a plain string.
if TYPE_CHECKING:
    KindName = str
else:
    KindName = Literal[tuple(KINDS)]


class JobsQuery(Frozen):
    """Query parameters of GET /jobs."""

    state: JobState | None = Field(default=None, description="only jobs in this state")
    kind: KindName | None = Field(default=None, description="only jobs of this kind")
    model: str | None = Field(default=None, pattern=MODEL_NAME, description="only jobs of this model")
    tag: str | None = Field(default=None, pattern=TAG, description="only jobs with this tag")
    limit: int = Field(default=20, ge=1, le=100, description="largest number of jobs in the answer")
    cursor: str | None = Field(default=None, max_length=200, description="the `next` of the answer before")

    @property
    def wanted(self) -> Wanted:
        """The jobs that the list shows."""
        return Wanted(state=self.state, kind=self.kind, model=self.model, tag=self.tag)


def job_list(page: Page, query: JobsQuery, key: ApiKey | None) -> Response:
    """Returns a part of a list of jobs, with a Link header if more follow; `key` is the caller's."""
    headers = {}
    if page.following is not None:
        sent = {**query.model_dump(mode="json", exclude_unset=True), "cursor": page.following.encode()}
        asked = urlencode({name: value for name, value in sent.items() if value is not None})
        headers["Link"] = f'</jobs?{asked}>; rel="next"'
    return Response(list_text(page, key), headers=headers, media_type=Format.JSON)
