"""What the pods read and write: the repository's files, weights, what is downloaded, shared memory."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from tritonlab.errors import TritonlabError
from tritonlab.render.api import Place, client
from tritonlab.render.serving import Serving
from tritonlab.servers import docker

CACHE = "/cache"
CONFIG_MAP_BYTES = 1_048_576  # what Kubernetes takes for one


@dataclass(frozen=True)
class Volumes:
    """The volumes of a pod.

    Attributes:
        files: the repository's files, path -> content; empty where a claim holds them.
        folders: the repository's folders without a file that Triton wants all the same.
        claim: the name of a claim of yours that holds the repository; "" puts the files into a ConfigMap.
    """

    served: Serving
    place: Place
    files: dict[str, bytes]
    folders: tuple[str, ...] = ()
    claim: str = ""

    def __post_init__(self) -> None:
        """Refuse files that no ConfigMap holds.

        Raises:
            TritonlabError: they are too large together.
        """
        size = sum(map(len, self.files.values()))
        if size > CONFIG_MAP_BYTES * 0.9:
            raise TritonlabError(
                f"The repository's files have {size / 1e6:.1f} MB together, and a ConfigMap holds 1 MB.",
                "Put the repository into a volume and give its claim: repository_claim=NAME.",
            )

    @property
    def checksum(self) -> str:
        """Changes with the files: pods that have it in their template are replaced when it does."""
        whole = hashlib.sha256()
        for path, content in self.files.items():
            whole.update(f"{path}\0{len(content)}\0".encode() + content)
        return whole.hexdigest()[:16]

    def config_map(self) -> Any:
        """The repository's files."""
        texts, rest = {}, {}
        for path, content in self.files.items():
            try:
                texts[_key(path)] = content.decode()
            except UnicodeDecodeError:
                rest[_key(path)] = base64.b64encode(content).decode()
        return client().V1ConfigMap(
            api_version="v1", kind="ConfigMap", metadata=self.place.metadata("repository"), data=texts,
            binary_data=rest or None,
        )  # fmt: skip

    def claims(self) -> list[Any]:
        """The volumes that are asked for: the cache, and one for weights that lie on this machine."""
        names = ["cache", *(["weights"] if self.served.folders else [])]
        return [self._claim(name) for name in names]

    def volumes(self) -> list[Any]:
        """The volumes of a pod."""
        k = client()
        name = self.place.name
        repository = (
            k.V1Volume(name="repository", persistent_volume_claim=_claimed(self.claim, read_only=True))
            if self.claim
            else k.V1Volume(name="repository", config_map=k.V1ConfigMapVolumeSource(name=f"{name}-repository"))
        )
        size = f"{self.served.shm_size().upper()}i"
        found = [
            repository,
            k.V1Volume(name="cache", persistent_volume_claim=_claimed(f"{name}-cache")),
            k.V1Volume(name="shm", empty_dir=k.V1EmptyDirVolumeSource(medium="Memory", size_limit=size)),
        ]
        if self.folders:
            found.append(k.V1Volume(name="empty", empty_dir=k.V1EmptyDirVolumeSource()))
        if self.served.folders:
            found.append(
                k.V1Volume(name="weights", persistent_volume_claim=_claimed(f"{name}-weights", read_only=True))
            )
        return found

    def mounts(self) -> list[Any]:
        """Where the container sees them."""
        k = client()
        if self.claim:
            repository = [k.V1VolumeMount(name="repository", mount_path=docker.MODELS, read_only=True)]
        else:
            # File by file: whole, a ConfigMap is mounted with folders of links that Triton would take for models.
            repository = [
                k.V1VolumeMount(
                    name="repository", mount_path=f"{docker.MODELS}/{path}", sub_path=_key(path), read_only=True
                )
                for path in self.files
            ]
        return [
            *repository,
            *(
                k.V1VolumeMount(name="empty", mount_path=f"{docker.MODELS}/{folder}", read_only=True)
                for folder in self.folders
            ),
            *(
                k.V1VolumeMount(name="weights", mount_path=folder, sub_path=folder.lstrip("/"), read_only=True)
                for folder in self.served.folders
            ),
            k.V1VolumeMount(name="cache", mount_path=CACHE),
            k.V1VolumeMount(name="shm", mount_path="/dev/shm"),
        ]

    def _claim(self, name: str) -> Any:
        k = client()
        spec = k.V1PersistentVolumeClaimSpec(
            # Replicas on several hosts share it.
            access_modes=["ReadWriteMany"],
            resources=k.V1VolumeResourceRequirements(requests={"storage": self.place.cache_size}),
            storage_class_name=self.place.storage_class or None,
        )
        return k.V1PersistentVolumeClaim(
            api_version="v1", kind="PersistentVolumeClaim", metadata=self.place.metadata(name), spec=spec
        )


def _claimed(name: str, *, read_only: bool = False) -> Any:
    return client().V1PersistentVolumeClaimVolumeSource(claim_name=name, read_only=read_only or None)


def _key(path: str) -> str:
    """A path as the key of a ConfigMap, which takes no slash; the hash keeps apart what would become the same."""
    key = re.sub(r"[^A-Za-z0-9._-]", "_", path)
    return key if key == path.replace("/", "_") and "_" not in path else f"{key}.{_short(path)}"


def _short(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:6]
