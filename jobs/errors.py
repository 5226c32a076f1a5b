"""The errors between a front end and a worker."""


class JobsError(Exception):
    """Base of every error raised by this package."""


class RequestRefused(JobsError):
    """A parameter of a request is wrong, in itself or for the model."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(f"{parameter}: {detail}")
        self.parameter = parameter
        self.detail = detail


class VersionGone(JobsError):
    """The version of a model that a request names cannot be drawn by anybody now."""


class ImageRefused(JobsError):
    """An image of a request cannot be used; `title` and `advice` hold for every image that is refused so.

    The detail is for the caller, by default the advice. `part` is None until the caller of the reader sets it.
    """

    title = "The image cannot be used"
    advice = "Send another image."

    def __init__(self, detail: str | None = None, *, part: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.part = part


class UnsupportedFormat(ImageRefused):
    """The content is neither PNG, JPEG nor .npy, whatever the name of the file."""

    title = "Unsupported image format"
    advice = "Send a PNG or JPEG file, or an array as .npy."


class BadImage(ImageRefused):
    """The image cannot be decoded."""

    title = "The image cannot be read"
    advice = "The file is damaged or incomplete; save the image again."


class ImageTooLarge(ImageRefused):
    """The image has more pixels than the limit."""

    title = "The image is too large"
    advice = "Scale the image down."


class AnimatedImage(ImageRefused):
    """The file holds several images."""

    title = "The image is animated"
    advice = "Send one still image."


class ImageTooComplex(ImageRefused):
    """The file has so many pieces that reading it would take long."""

    title = "The image is too complex"
    advice = "The file has too many chunks, segments or scans; save the image again."


class JobNotFound(JobsError):
    """No job has this id: it never existed, or it was forgotten after its time."""


class JobUnreadable(JobsError):
    """The stored job is damaged; submit it again."""


class JobIsNewer(JobUnreadable):
    """The job was accepted by a newer version of difuso; only such a version can read it."""


class PluginMissing(JobIsNewer):
    """The job names a sampler of a plug-in that this process lacks; one that has it can read the job."""


class IdempotencyConflict(JobsError):
    """The Idempotency-Key belongs to another request: use a new key, or repeat the first request."""


class ResultExpired(JobsError):
    """The images of the job were deleted; submit the job again with the same seed."""


class StoreUnavailable(JobsError):
    """The result store cannot be read or written at the moment; try again later."""
