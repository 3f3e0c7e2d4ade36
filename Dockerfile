# One image for every program of the pool; the compose file says which one a container runs.
FROM python:3.13.9-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/claude-pool
COPY requirements-run.lock ./
RUN /opt/claude-pool/bin/pip install --no-cache-dir --require-hashes -r requirements-run.lock
COPY pyproject.toml README.md LICENSE ./
COPY claude_pool claude_pool
COPY workers workers
COPY mcp_server mcp_server
RUN /opt/claude-pool/bin/pip install --no-cache-dir --no-index --no-deps --no-build-isolation .

FROM python:3.13.9-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/claude-pool pool
COPY --from=build /opt/claude-pool /opt/claude-pool
COPY scripts/container-entry /usr/local/bin/container-entry
ENV PATH=/opt/claude-pool/bin:$PATH CLAUDE_POOL_HOME=/var/lib/claude-pool/state PYTHONDONTWRITEBYTECODE=1
USER pool
WORKDIR /var/lib/claude-pool
ENTRYPOINT ["container-entry"]
CMD ["claude-pool", "worker"]
