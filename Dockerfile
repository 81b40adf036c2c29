# docker build --tag thor .                                    # the core: data, grading, evaluation over addresses
# docker build --tag thor --build-arg EXTRA=quickstart .       # and models inside: torch for CPUs
# docker run --rm thor doctor
# The sandbox wants namespaces. Docker's default profile gives programs none, so that they run at level `landlock`;
# docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined ... gives level `full`.
FROM python:3.12-slim-bookworm

ARG EXTRA=""
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The compiler is for pycosat, which reasoning-gym needs, and is gone again in the same layer.
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN if [[ -n "$EXTRA" ]]; then \
        apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
        && pip install --extra-index-url "$TORCH_INDEX" --constraint constraints.txt ".[$EXTRA]" \
        && apt-get purge --yes --auto-remove gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    else \
        pip install --constraint constraints.txt . ; \
    fi \
    && rm -rf /src

RUN useradd --uid 1000 --create-home thor
USER 1000
WORKDIR /home/thor

ENTRYPOINT ["thor"]
CMD ["--help"]
