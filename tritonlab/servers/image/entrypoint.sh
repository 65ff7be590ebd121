#!/bin/sh
# As the entry point of NVIDIA's image: a banner, then the command.
cat <<BANNER

=============================
== Triton Inference Server ==
=============================

CPU image of tritonlab: ${TRITONLAB_VERSIONS}. It has the backends python and vllm, and uses no GPU.

BANNER
exec "$@"
