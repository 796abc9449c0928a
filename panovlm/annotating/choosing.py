"""Which teacher the options of the command line ask for."""

from panovlm.annotating.endpoint import REQUESTS_AT_ONCE, EndpointTeacher
from panovlm.annotating.teachers import PACKAGED, ViewTeacher
from panovlm.errors import PanoVLMError
from panovlm.runtime.endpoints import Endpoint

SUPPORT_SHARE = 0.6
"""A detection of so much of the score asked for speaks for what another view shows."""
TRANSFORMERS, OPENAI = "transformers:", "openai:"


def choose_teacher(
    name: str,
    *,
    labels: str | None,
    min_score: float,
    signs: bool,
    endpoint: str | None,
    key: str | None,
    timeout_s: float,
    workers: int | None,
) -> ViewTeacher:
    """Return the teacher of a name: "packaged", "transformers:MODEL" or "openai:MODEL".

    Args:
        name: The name.
        labels: What to look for, separated by commas.
        min_score: Best score that a thing needs to be reported.
        signs: Whether signs are read too.
        endpoint: Address of an endpoint.
        key: Its key.
        timeout_s: Seconds for one of its answers.
        workers: Requests at a time to an endpoint.

    Raises:
        PanoVLMError: If there is no such teacher, or an option does not belong to it.
    """
    is_packaged, is_openai = name == PACKAGED, name.startswith(OPENAI)
    _, _, model = name.partition(":")
    if not is_packaged and not (name.startswith((TRANSFORMERS, OPENAI)) and model):
        raise PanoVLMError(
            f"found --teacher {name}, expected packaged, transformers:MODEL or openai:MODEL"
        )
    if is_openai != (endpoint is not None):
        raise PanoVLMError(
            f"found --teacher {name} {'without' if is_openai else 'with'} --endpoint, expected "
            "openai:MODEL and --endpoint URL together; change one of them"
        )
    if signs and not is_packaged:
        raise PanoVLMError(
            f"found --signs with --teacher {name}, expected it with packaged; leave it out"
        )
    if is_packaged and labels:
        raise PanoVLMError(
            "found --labels with --teacher packaged, whose labels are fixed; leave --labels out"
        )
    wanted = named_labels(labels)
    if endpoint is not None:
        where = Endpoint(endpoint, model, key, timeout_s)
        return EndpointTeacher(where, wanted, workers or REQUESTS_AT_ONCE)
    # torch and transformers take seconds to load, and only these teachers need them.
    if is_packaged:
        from panovlm.annotating.packaged import PackagedTeacher

        return PackagedTeacher(SUPPORT_SHARE * min_score, signs)
    from panovlm.annotating.transformers_models import TransformersTeacher

    return TransformersTeacher(model, wanted, SUPPORT_SHARE * min_score)


def named_labels(text: str | None) -> tuple[str, ...] | None:
    """Return the labels that an option names, separated by commas; None without one.

    Raises:
        PanoVLMError: If it names none.
    """
    if text is None:
        return None
    labels = tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    if not labels:
        raise PanoVLMError("found no label in --labels, expected some, as in --labels door,window")
    return labels
