# demask in a container, as a user of its own; models and answers are kept in /cache.
#   docker build -t demask .                                                          for CPU
#   docker build -t demask --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 \
#       --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .              for NVIDIA GPUs
#   docker run --rm -v "$PWD:/work" -v demask:/cache demask inject docs/ --model embedded --out runs/first
ARG BASE=python:3.12-slim
FROM ${BASE}

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=documents,questions,gguf,serve

# CUDA's images have no Python; which version there is depends on the base image.
# hadolint ignore=DL3008
RUN if ! python3 -m venv --help >/dev/null 2>&1; then \
        apt-get update \
        && apt-get install -y --no-install-recommends python3 python3-venv \
        && rm -rf /var/lib/apt/lists/*; \
    fi

RUN python3 -m venv /opt/demask
ENV PATH=/opt/demask/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    DEMASK_CACHE=/cache/demask \
    HF_HOME=/cache/huggingface

# First what changes least: PyTorch of the wanted build, which pip then leaves alone.
COPY constraints.txt /src/
RUN pip install -c /src/constraints.txt --index-url "${TORCH_INDEX}" torch

COPY pyproject.toml README.md LICENSE CHANGELOG.md /src/
COPY src /src/src
RUN pip install -c /src/constraints.txt "/src[${EXTRAS}]"

# By number, which hosts and orchestrators can check; 1000 is taken in images of Ubuntu.
RUN useradd --uid 10001 --create-home demask && mkdir -p /cache /work && chown demask /cache /work
USER 10001
VOLUME /cache
WORKDIR /work
ENTRYPOINT ["demask"]
CMD ["--help"]
