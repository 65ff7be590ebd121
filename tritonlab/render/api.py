"""The Kubernetes client's types, and what each object here has in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tritonlab.errors import TritonlabError

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

QUANTITY = re.compile(r"(?=.*[1-9])\d+(\.\d+)?(m|k|[MGTPE]|[KMGTPE]i)?")
CACHE_SIZE = "100Gi"


@dataclass(frozen=True)
class Place:
    """Where the objects go, and what they are called.

    Attributes:
        name: of the Deployment, the Service and the rest, and what the others' names begin with.
        namespace: the namespace.
        monitoring: the namespace of Prometheus.
        storage_class: of the claims; "" takes the cluster's own.
        cache_size: of the volume for what is downloaded and compiled, as Kubernetes writes sizes.
    """

    name: str
    namespace: str
    monitoring: str = "monitoring"
    storage_class: str = ""
    cache_size: str = CACHE_SIZE

    def __post_init__(self) -> None:
        """Refuse names that Kubernetes refuses.

        Raises:
            TritonlabError: says which.
        """
        for what, value in (("name", self.name), ("namespace", self.namespace), ("monitoring", self.monitoring)):
            check_name(what, value)
        if len(self.name) > 50:
            raise TritonlabError(f"The name {self.name!r} leaves no room for endings.", "Take at most 50 signs.")
        check_quantity("cache_size", self.cache_size)

    def labels(self) -> dict[str, str]:
        """What selects the pods."""
        return {"app.kubernetes.io/name": "tritonserver", "app.kubernetes.io/instance": self.name}

    def metadata(self, ending: str = "", **more: Any) -> Any:
        """Metadata of an object of this name."""
        return client().V1ObjectMeta(
            name=f"{self.name}-{ending}" if ending else self.name,
            namespace=self.namespace,
            labels={**self.labels(), "app.kubernetes.io/managed-by": "tritonlab"},
            **more,
        )


def client() -> ModuleType:
    """The `kubernetes.client` package.

    Raises:
        TritonlabError: it is not installed.
    """
    try:
        import kubernetes.client
    except ImportError:
        raise TritonlabError(
            "The Kubernetes client's types are not installed.",
            'Install the extra: pip install "tritonlab[kubernetes]".',
        ) from None
    module: ModuleType = kubernetes.client
    return module


def check_name(what: str, value: object) -> str:
    """The value, if Kubernetes takes it as a name (DNS label, RFC 1123).

    Raises:
        TritonlabError: it does not.
    """
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise TritonlabError(
            f"{what} is {value!r}, which Kubernetes takes for no name.",
            "Use at most 63 small letters, digits and '-', beginning and ending with a letter or a digit.",
        )
    return value


def check_quantity(what: str, value: object) -> str:
    """The value, if Kubernetes takes it as an amount above 0, such as "16Gi", "4" or "500m".

    Raises:
        TritonlabError: it does not.
    """
    if not isinstance(value, str) or not QUANTITY.fullmatch(value):
        raise TritonlabError(f"{what} is {value!r}.", 'Write an amount such as "16Gi", "4" or "500m".')
    return value


def as_name(text: str) -> str:
    """The text as Kubernetes would take it for a name: of "Llama_3.1" "llama-3-1"."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50].strip("-") or "model"


def plain(thing: Any) -> Any:
    """An object of the client's as what YAML is written from."""
    return client().ApiClient().sanitize_for_serialization(thing)


def escaped(word: str) -> str:
    """What stays as it stands in `command`, `args` and `env`, where Kubernetes expands $(NAME) and makes $ of $$."""
    return word.replace("$", "$$")
