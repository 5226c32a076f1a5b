"""Checks the keys of a recipe against each other."""

from dataclasses import replace

from difuso.model.conditions import Choice, ImageMap, Number, listed, sequences_in
from difuso.model.errors import CheckpointError
from difuso.model.folders.config import ModelConfig, SamplerDefaults
from difuso.model.folders.config_json import config_from_json, config_to_json
from difuso.model.foreign.names import is_foreign
from difuso.model.networks.configs import ClassifierConfig
from difuso.model.plans.settings import GUIDANCE

from .choices import LOSSES, SOURCES, TEACHER, loss_of, source_of
from .errors import RecipeError
from .objective.weightings import WEIGHTINGS
from .recipe import ENLARGED, Recipe

FILES = ("folder", "zip")
NOTHING_OPTIONAL = "condition_drop, drop_all and keep_all need conditions that may be left out: declare null = true"
RESERVING = [name for name, source in SOURCES.items() if source.reserves]


def check(recipe: Recipe, guided: ModelConfig | None) -> None:
    """Raises RecipeError if fields contradict each other, or the model of the run, or with `guided`, is refused."""
    _check_loss(recipe)
    _check_pairs(recipe)
    _check_classes(recipe)
    _check_conditions(recipe)
    _check_crop(recipe)
    _check_bits(recipe)
    _check_reserved(recipe)
    _check_held_out(recipe)
    _check_nearest(recipe)
    own = recipe.network
    try:
        model = (
            replace(guided, classifier=own) if isinstance(own, ClassifierConfig) and guided else recipe.model_config({})
        )
        config_from_json(config_to_json(model))
    except CheckpointError as error:
        message = str(error).replace("config.json", "the recipe").replace("classifier.", "network.")
        raise RecipeError(message) from error
    _require(
        not (recipe.data.augment and recipe.seen),
        f"data.augment changes training images, and {listed([*recipe.seen])} would no longer fit them: leave it out",
    )
    faces = recipe.data.source == "faces"
    _require(not faces or recipe.channels == 3, "the drawn faces are coloured: channels must be 3")
    turns = recipe.data.flip == "dihedral" and not recipe.crop
    _require(not turns or recipe.shape.is_square, "flip dihedral turns squares: image_size must be one number")
    _require(not faces or recipe.shape.is_square, "the drawn faces are square: image_size must be one number")
    _require(
        faces or is_foreign(recipe.data.source) or recipe.data.path != "",
        f"say where the images are: data.path, for {recipe.data.source}",
    )


def _check_loss(recipe: Recipe) -> None:
    classifies = recipe.loss == "cross_entropy"
    _require(classifies == recipe.trains_classifier, "loss cross_entropy is there for a network of type classifier")
    _check_distillation(recipe)
    learned = recipe.variance.startswith("learned") and not classifies  # of the guided model it does not matter
    loss = loss_of(recipe.loss)
    able = ", or ".join(name for name, other in LOSSES.items() if other.has_bound)
    _require(
        not learned or loss.has_bound or is_foreign(recipe.loss),
        f"loss {recipe.loss} cannot train variance {recipe.variance}: take loss {able}",
    )
    _require(learned or recipe.loss != "hybrid", "loss hybrid is there for a learned variance: set learned_range")
    _require(
        loss.weighted or recipe.weighting == "uniform",
        f"loss {recipe.loss} has its own weights: it cannot have {recipe.weighting}",
    )
    if recipe.gamma is None or is_foreign(recipe.weighting):
        return
    weighting = WEIGHTINGS[recipe.weighting]
    parametric = " or ".join(name for name, other in WEIGHTINGS.items() if other.of_eps)
    _require(weighting.of_eps is not None, f"gamma belongs to weighting {parametric}")
    _require(weighting.any_gamma or recipe.gamma > 0, f"gamma of weighting {recipe.weighting} must be greater than 0")


def _check_distillation(recipe: Recipe) -> None:
    calls, defaults = recipe.teacher_calls, recipe.defaults
    if recipe.loss != "distillation":
        _require(calls == 1, "teacher_calls is of a teacher: set loss to distillation")
        for key in GUIDANCE:
            _require(getattr(recipe, key) is None, f"{key} is of a teacher: set loss to distillation")
        return
    _require(recipe.init != "", "loss distillation needs a teacher: set init to the folder of its checkpoint")
    _require(recipe.timesteps == "uniform", "loss distillation draws timesteps uniformly: leave timesteps out")
    _require_one_output(recipe)
    if calls == 1:
        return
    _require_few_calls(recipe, "with teacher_calls above 1 a student")
    _require(
        defaults.steps * calls <= recipe.schedule.num_train_timesteps,
        f"the teacher would take defaults.steps times teacher_calls, {defaults.steps * calls} steps: T must be as many",
    )


def _require_few_calls(recipe: Recipe, student: str) -> None:
    defaults = recipe.defaults
    _require(
        recipe.prediction != "eps",
        "a student of few steps must predict v or x0: in its first one an error of eps is a thousandfold one of x0",
    )
    _require(
        (defaults.sampler, defaults.eta, defaults.spacing) == ("ddim", 0, "trailing"),
        f"{student} learns ddim: set defaults.sampler to ddim, defaults.spacing to trailing",
    )


def _check_pairs(recipe: Recipe) -> None:
    data, paired = recipe.data, recipe.data.source == TEACHER
    if recipe.loss == "regression":
        _require(
            paired or recipe.condition is not None,
            "loss regression learns what a model draws from known noise, or to enlarge: set data.source to teacher, or "
            "give the recipe a [condition]",
        )
        _require(recipe.timesteps == "uniform", "loss regression has timesteps of its own: leave timesteps out")
        _require_one_output(recipe)
        _require_few_calls(recipe, "with loss regression a network")
    sources = {getattr(images, "source", "") for images in (data, recipe.held_out)}
    _require(not recipe.trains_classifier or TEACHER not in sources, "a classifier needs images of another source")
    if not paired:
        own = data.settings != SamplerDefaults() or data.free
        _require(not own, "data.settings and data.free are of a model that draws: set data.source to teacher")
        return
    files = recipe.seen or sequences_in(recipe.conditions)
    _require(not files, "a teacher has no examples of images, maps and sequences: name one that draws without them")
    changed = recipe.crop or data.flip or data.augment or data.bits == 16
    _require(not changed, "a drawn image belongs to its noise as it is: leave crop, flip, augment and bits out")
    _require(
        not (recipe.label_drop or recipe.condition_drop or recipe.drop_all or recipe.keep_all),
        "a drawn image belongs to its conditions: set data.free, the share drawn without any, in place of the drops",
    )


def _require_one_output(recipe: Recipe) -> None:
    outputs = getattr(recipe.network, "out_channels", recipe.channels)
    _require(
        outputs == recipe.channels,
        f"loss {recipe.loss} trains no variance: set network.out_channels to {recipe.channels}",
    )


def _check_classes(recipe: Recipe) -> None:
    if recipe.num_classes is None:
        _require(recipe.label_drop == 0, "label_drop needs a network with num_classes")
        return
    _require(recipe.num_classes > 0, "network.num_classes must be greater than 0")
    _require(recipe.data.source != "faces", "the drawn faces have no classes: leave network.num_classes out")
    if isinstance(recipe.network, ClassifierConfig):  # its classes are the guided model's, of which some share names
        return
    named = recipe.data.classes
    _require(len(set(named)) == len(named), "data.classes must differ from each other")
    if recipe.network.null_class:
        key = "data.free" if recipe.data.source == TEACHER else "label_drop"
        asked = recipe.label_drop + recipe.data.free > 0
        _require(asked, f"this network can be asked without a class: set {key}, say 0.1, to train it")
    else:
        _require(recipe.label_drop == 0, "label_drop needs network.null_class = true")


def _check_conditions(recipe: Recipe) -> None:
    conditions, data = recipe.conditions, recipe.data
    optional = [name for name, condition in conditions.items() if condition.null]
    together = recipe.drop_all + recipe.keep_all
    _require(together < 1, f"drop_all and keep_all must be less than 1 together, not {together:g}")
    _require(bool(optional) or not (recipe.condition_drop or together), NOTHING_OPTIONAL)
    _require(
        not optional or recipe.condition_drop + recipe.drop_all > 0 or data.source == TEACHER,
        f"the conditions {listed(optional)} may be left out: set condition_drop, say 0.1, or drop_all, to train it so",
    )
    has_examples = any(isinstance(condition, Choice | Number) and condition.null for condition in conditions.values())
    _require(
        recipe.examples == 0 or (has_examples and recipe.num_classes is None),
        "examples are of choices and numbers that may be left out, of a network without classes: leave examples out",
    )
    labelled = {name for words in recipe.labels.values() for name in words}
    strange = sorted(labelled - {*conditions, *([] if recipe.num_classes is None else ["label"])})
    _require(not strange, f"labels must name conditions, or label for classes: {listed(strange)} is none of these")
    seen = tuple(name for name, condition in conditions.items() if condition.planes)
    _require(
        data.condition_paths.keys() - ({ENLARGED} if recipe.condition else set()) == set(seen),
        f"data.condition_paths must name files for the conditions that are maps and images: {listed(seen) or 'none'}",
    )
    maps = any(isinstance(condition, ImageMap) for condition in conditions.values())
    _require(
        data.source in FILES or not (maps or data.table),
        f"maps and data.table are for the sources {' and '.join(FILES)}, whose images have paths",
    )
    _require(
        not sequences_in(conditions) or source_of(data.source).has_conditions,
        "tables hold no sequences: they come with the images of a source of your own, package.module:function",
    )
    _require(
        len(conditions) == len(seen) or bool(data.table) or source_of(data.source).has_conditions,
        f"conditions need values: name their table, data.table, for {recipe.data.source}",
    )


def _check_crop(recipe: Recipe) -> None:
    if isinstance(recipe.network, ClassifierConfig):
        return
    multiple, most = recipe.network.size_multiple, recipe.shape.height
    _require(recipe.crop == 0 or recipe.shape.is_square, "crops are of squares: image_size must be one number")
    _require(
        0 <= recipe.crop <= most and recipe.crop % multiple == 0,
        f"crop must be a multiple of {multiple} up to image_size, {most}, or 0, not {recipe.crop}",
    )
    paired = ENLARGED in recipe.data.condition_paths
    _require(not paired or recipe.data.source != "faces", "drawn faces are made smaller: leave condition_paths out")


def _check_bits(recipe: Recipe) -> None:
    deep = recipe.data.bits == 16
    _require(not deep or recipe.channels != 3, "RGB images have 8 bits here: data.bits must be 8")
    _require(
        not deep or not loss_of(recipe.loss).has_bound, f"loss {recipe.loss} knows 256 levels: data.bits must be 8"
    )
    _require(not deep or not recipe.seen, "conditions have 8 bits: data.bits must be 8")
    seen = recipe.shape.planes == 1 and not deep
    _require(seen or recipe.kid_every == 0, "KID is of grey or RGB images of 8 bits: set kid_every to 0")


def _check_reserved(recipe: Recipe) -> None:
    for data in (recipe.data, *filter(None, [recipe.held_out])):
        if data.reserved == 0:
            continue
        _require(
            data.source in RESERVING,
            f"data.reserved is for images with names of their own, of {', '.join(RESERVING)}, not {data.source}",
        )
        _require(data.split in ("train", "test"), f"data.split must be train or test, not {data.split}")
    trained = recipe.data
    _require(
        not (trained.reserved and trained.split == "test"),
        "data.split test are the reserved images, which no run sees: leave data.split out",
    )


def _check_held_out(recipe: Recipe) -> None:
    trained, other = recipe.data, recipe.held_out
    if other is None:
        return
    learns_images = recipe.condition is None and recipe.loss not in ("distillation", "regression")
    _require(learns_images, "held_out are for classifiers, and networks that learn images from noise: leave them out")
    chooses = source_of(other.source).halves or other.reserved > 0
    split = other.split if chooses else trained.split
    same = replace(other, split=split, flip=trained.flip, augment=trained.augment) == trained
    _require(not same, "held_out are the images of data: name others, or keep some from training by data.reserved")


def _check_nearest(recipe: Recipe) -> None:
    _require(not (recipe.nearest and recipe.seen), "nearest is for networks that see no images: leave it out")


def _require(fine: bool, message: str) -> None:
    if not fine:
        raise RecipeError(message)
