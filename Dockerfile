# The full image has a compiler, for the packages that have no wheel on this machine's architecture.
FROM python:3.13-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/pipeline
ENV PATH=/opt/pipeline/bin:$PATH
WORKDIR /build
COPY requirements/image.txt requirements/image.txt
RUN pip install --require-hashes --requirement requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY examples examples
COPY pipeline pipeline
RUN pip install --no-deps --no-build-isolation .

FROM python:3.13-slim-bookworm
COPY --from=build /opt/pipeline /opt/pipeline
RUN useradd --uid 10001 --user-group --create-home --home-dir /data pipeline
ENV PATH=/opt/pipeline/bin:$PATH PYTHONUNBUFFERED=1 PIPELINE_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["pipeline"]
CMD ["--help"]
